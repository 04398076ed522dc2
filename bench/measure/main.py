"""``python bench.py`` in a pack: first everything is checked, then questions are answered, the newest first.

Every answer is on disk when the next question begins. Run it again, and it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.measure.answers import Field, answer, trouble_of
from bench.measure.devices import Bench, EmulatedBench, GpuBench
from bench.measure.limits import extras_of, measure_limits
from bench.measure.questions import NotABench, Question, in_order, read_questions
from bench.measure.results import collected, lines_of, write_atomically
from bench.measure.rounds import QUICK, Piece, Rules, settle
from bench.measure.statistics import ratio, summary
from bench.peers import PEERS, Absent, version_of
from texpr.errors import TExprError
from texpr.packing.runner.cuda import CudaDevice
from texpr.packing.runner.devices import EmulatedDevice, LaunchFailed, serving_target
from texpr.packing.runner.journal import Journal
from texpr.packing.runner.main import Entries, cubin_hashes, seconds
from texpr.packing.runner.records import Pack, read_pack
from texpr.runtime.manifest import read_manifest

ANSWERED, SOME_WRONG, CANNOT_RUN, UNFINISHED = 0, 1, 2, 3
"""Exit statuses, as of ``run.py``."""
_STATUSES: Final = (ANSWERED, SOME_WRONG, CANNOT_RUN, UNFINISHED)

_MULTIPROCESSORS: Final = 2
_RESTART: Final = "--until"
_MARKS: Final = {True: "", False: " (emulator: not a measurement)"}


@dataclass(frozen=True, slots=True)
class Options:
    device: str
    sm: int
    until: float | None
    only: str
    listing: bool
    check: bool
    again: bool
    without: tuple[str, ...]
    budget: float | None


def main(folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Answer the questions of the pack in ``folder``, on the first GPU that is visible. 0: all are answered; 1:
    something was found wrong; 2: it cannot run; 3: the time slice ended first."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parse(words)
        pack, questions = read_pack(folder), read_questions(folder)
        bench = _bench(options, pack)
        wanted = [each for each in in_order(questions) if _is_meant(each, bench, options)]
        if not wanted:
            raise NotABench(f"no question is called {options.only}; see --list")
        if options.listing:
            for question in wanted:
                print(f"{question.asked}  {question.id}  {', '.join(each.peer for each in question.peers)}")
            return ANSWERED
        name = f"{bench.device.name.replace(' ', '-')}-sm{bench.device.capability}"
        paths = _Paths(folder / "results" / f"{name}.checks.jsonl", folder / "results" / f"{name}.bench.jsonl")
        if options.check:
            status = _check(folder, paths.checks, options)
            if status in (CANNOT_RUN, UNFINISHED):
                return status
        return _answer_all(bench, pack, questions, wanted, paths, options, words)
    except (TExprError, NotABench) as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_RUN


@dataclass(frozen=True, slots=True)
class _Paths:
    checks: Path
    answers: Path

    @property
    def result(self) -> Path:
        return self.answers.with_suffix("").with_suffix(".json")


def parse(words: Sequence[str]) -> Options:
    """The options; argparse exits with status 2 by itself. Raises RunnerOption."""
    parser = argparse.ArgumentParser(
        prog="bench.py", description="Answer this pack's questions. Run it again to go on where it stopped."
    )
    parser.add_argument("--device", choices=("cuda", "emulator"), default="cuda", help="default: cuda")
    parser.add_argument("--sm", type=int, default=80, metavar="NN", help="capability for the emulator (default: 80)")
    parser.add_argument("--slice", metavar="TIME", help="begin no question after this time, e.g. 8m")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="questions by name, e.g. 'matmul/*'; see --list")
    parser.add_argument("--again", action="store_true", help="also those that are answered already")
    parser.add_argument("--without", action="append", default=[], metavar="PEER", help="leave a peer out; repeatable")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of samples per contestant (default: 2)")
    parser.add_argument("--no-check", action="store_true", help="leave out the checks, if they were made before")
    parser.add_argument("--list", action="store_true", help="print the questions, run nothing")
    parser.add_argument(_RESTART, type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    until = options.until
    if until is None and options.slice is not None:
        until = time.time() + seconds(options.slice)
    return Options(
        device=options.device,
        sm=options.sm,
        until=until,
        only=options.only,
        listing=options.list,
        check=not options.no_check,
        again=options.again,
        without=tuple(options.without),
        budget=options.budget,
    )


def _bench(options: Options, pack: Pack) -> Bench:
    if options.device == "cuda":
        return GpuBench(CudaDevice(0))
    folders = [pack.bundle_folder(name) for name in pack.bundles]
    return EmulatedBench(EmulatedDevice(folders, options.sm, _MULTIPROCESSORS))


def _is_meant(question: Question, bench: Bench, options: Options) -> bool:
    """Small questions are the emulator's, the others a GPU's."""
    return question.small is not bench.measurement and fnmatch.fnmatch(question.id, options.only)


# ---- right or wrong


def _check(folder: Path, journal: Path, options: Options) -> int:
    """Run the pack's own runner, which takes no times; what it found stands in its journal. A case that ends the
    process is not tried for ever: the runner counts."""
    command = [sys.executable, str(folder / "run.py"), "--no-time", "--results", str(journal)]
    command += ["--device", options.device, "--sm", str(options.sm)]
    if options.until is not None:
        command += ["--slice", f"{max(options.until - time.time(), 0.0):.0f}s"]
    while (status := subprocess.run(command, check=False).returncode) not in _STATUSES:
        print(f"the checks ended with status {status}; they go on", flush=True)
    return status


def against(pack: Pack, checks: Sequence[dict[str, Any]], multiprocessors: int) -> dict[str, str]:
    """What keeps cases from being timed on a GPU with so many multiprocessors: a failure in any case of the variant
    that takes them there, or that they were not checked."""
    mine = [record for record in checks if record.get("pack") == pack.id and "case" in record]
    found = {record["case"]: record["failures"] for record in mine}
    keys = {case.id: (case.bundle, case.entry, case.variant_on(multiprocessors)) for case in pack.cases}
    failed = {keys[name]: failures[0]["text"] for name, failures in found.items() if failures and name in keys}
    unchecked = {name: "it was not checked" for name in keys if name not in found}
    return unchecked | {name: failed[key] for name, key in keys.items() if key in failed}


# ---- how long


def _answer_all(
    bench: Bench, pack: Pack, questions: tuple[Question, ...], wanted: list[Question], paths: _Paths, options: Options,
    words: list[str],
) -> int:  # fmt: skip
    journal = Journal(paths.answers, pack.id)
    todo = [each for each in wanted if options.again or each.id not in journal.results]
    print(f"{bench.device.name}: {len(wanted)} questions, {len(wanted) - len(todo)} answered before", flush=True)
    rules = Rules() if bench.measurement else QUICK
    if options.budget is not None and bench.measurement:
        rules = replace(rules, budget=options.budget)
    extras = extras_of(pack.folder)
    versions, missing = _peers(wanted, extras, options.without)
    wrong = against(pack, lines_of(paths.checks), bench.device.multiprocessors)
    field = Field(bench, pack, Entries(pack, bench.device), extras, rules, "", wrong, missing)
    if todo:
        limits = measure_limits(bench, rules)
        _settle(bench, rules)
        journal.append({"run": _circumstances(bench, pack, versions, missing, limits)})
    try:
        for position, question in enumerate(todo):
            if journal.gave_up(question.id):
                journal.append({"case": question.id, "trouble": "the process ended in this question each time"})
                continue
            if options.until is not None and time.time() >= options.until:
                print(f"the time slice is over, {len(todo) - position} questions are left: run it again to go on")
                return UNFINISHED
            journal.append({"started": question.id})
            lost = _one(question, field, journal)
            if lost:
                _restart(words, options)
    finally:
        write_atomically(paths.result, collected(lines_of(paths.answers), questions, pack.id))
    print(f"wrote {paths.result}")
    entrants = [each for question in wanted for each in journal.results[question.id].get("contestants", {}).values()]
    return SOME_WRONG if any("wrong" in each for each in entrants) else ANSWERED


def _one(question: Question, field: Field, journal: Journal) -> bool:
    """Answer and record one question; whether the device's context is lost."""
    began = time.time()
    target = _target(question, field)
    record: dict[str, Any] = {"case": question.id, "target": target}
    lost = False
    try:
        record |= answer(question, replace(field, target=target))
    except (TExprError, LaunchFailed, MemoryError) as error:
        record["trouble"] = trouble_of(error)
        lost = isinstance(error, LaunchFailed) and error.lost
    record["seconds"] = round(time.time() - began, 3)
    journal.append(record)
    print(told(question, record, measurement=field.bench.measurement), flush=True)
    return lost


def _target(question: Question, field: Field) -> str:
    """The one of the targets that our kernels were built for that serves this device."""
    names = {name for each in question.own for name in each.cases}
    targets = [target for case in field.pack.cases if case.id in names for target in case.targets]
    return serving_target(field.bench.device.capability, list(dict.fromkeys(targets))) or "none"


def _settle(bench: Bench, rules: Rules) -> None:
    """Work for a while before the first question, so that clocks are not those of an idle device."""
    if not rules.settle:
        return
    size = 1 << 28
    source, target = bench.device.allocate(size), bench.device.allocate(size)
    settle(bench, [Piece("copy", lambda: bench.copy(target, source, size), 1, graph=False)], rules.settle)
    bench.device.free(source)
    bench.device.free(target)


def _peers(
    questions: Sequence[Question], extras: Path, without: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the peers that are there, and why the others are not."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name in dict.fromkeys(each.peer for question in questions for each in question.peers):
        if name in without:
            missing[name] = "left out (--without)"
            continue
        try:
            versions[name] = version_of(name, extras)
        except Absent as error:
            missing[name] = str(error)
        except KeyError:
            missing[name] = f"no peer has this name; there are {', '.join(PEERS)}"
        except Exception as error:  # a broken installation says so in its own way
            missing[name] = f"{type(error).__name__}: {error}"
    return versions, missing


def _restart(words: list[str], options: Options) -> None:
    """Begin again in a new process: the device's context of this one is lost."""
    print("the GPU's context is lost; going on in a new process", flush=True)
    rest = [word for word in words if not word.startswith(_RESTART)]
    until = [] if options.until is None else [f"{_RESTART}={options.until}"]
    os.execv(sys.executable, [sys.executable, sys.argv[0], *rest, *until])


def _circumstances(
    bench: Bench, pack: Pack, versions: dict[str, str], missing: dict[str, str], limits: dict[str, Any]
) -> dict[str, Any]:
    manifests = {name: read_manifest(pack.bundle_folder(name)) for name in pack.bundles}
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "measurement": bench.measurement,
        "commit": pack.commit,
        "texpr": pack.texpr,
        "device": bench.device.facts(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "peers": versions,
        "absent": missing,
        "limits": limits,
        "cubins": {name: cubin_hashes(manifest, bench.device.capability) for name, manifest in manifests.items()},
    }


def told(question: Question, record: dict[str, Any], *, measurement: bool) -> str:
    """An answer in a line or several: ours, and per peer its time and the ratio to ours."""
    if "trouble" in record:
        return f"{question.id}  {record['trouble']}"
    entrants = record["contestants"]
    first = next((name for name, each in entrants.items() if each["own"] and "samples" in each), None)
    lines = [f"{question.id}{_MARKS[measurement]}"]
    for name, each in entrants.items():
        if "samples" in each:
            found = summary(each["samples"])
            text = f"{found.median:.2f} us (10-90 %: {found.low:.2f}-{found.high:.2f})"
            if first is not None and name != first:
                text += f", {ratio(each['samples'], entrants[first]['samples']).median:.3f} times {first}"
            if not (each.get("check") or {"agrees": True})["agrees"]:
                text += f"  [{each['check']['text'] or 'other results'}]"
        else:
            text = each.get("absent") or each.get("refused") or each.get("wrong") or ""
        lines.append(f"  {name:16} {text}")
    return "\n".join(lines)
