"""``python run.py``: the command of a pack. Prints one line per case and a table; results go to a journal."""

from __future__ import annotations

import argparse
import fnmatch
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from texpr.errors import TExprError
from texpr.packing.errors import NothingSelected, NoVariantForGpu, RunnerOption
from texpr.packing.runner.cuda import CudaDevice
from texpr.packing.runner.devices import Device, EmulatedDevice, LaunchFailed, serving_target
from texpr.packing.runner.execute import Failure, Result, Trouble, run_case
from texpr.packing.runner.journal import Journal
from texpr.packing.runner.peers import torch_or_none
from texpr.packing.runner.records import Case, Pack, read_pack
from texpr.packing.runner.summary import case_line, summary_table
from texpr.runtime.library import Context, Library
from texpr.runtime.manifest import Entry, Manifest, read_manifest

ALL_RIGHT, SOME_WRONG, CANNOT_RUN, UNFINISHED = 0, 1, 2, 3
"""Exit statuses."""

_EMULATED_WORK: Final = 4_000_000
"""Points: larger cases are left to GPUs."""
_EMULATED_MULTIPROCESSORS: Final = 4
"""As where the emulator's bits were made: programs then share the work in the same way."""
_RESTART: Final = "--until"


@dataclass(frozen=True, slots=True)
class Options:
    device: str
    sm: int
    index: int
    until: float | None
    results: Path | None
    only: str
    timed: bool
    listing: bool


def main(folder: Path, arguments: Sequence[str] | None = None) -> int:
    """Run the pack in ``folder``. 0: everything is right; 1: something is wrong; 2: it cannot run; 3: the time slice
    ended before the last case."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = parse(words)
        pack = read_pack(folder)
        device = _device(options, pack)
        cases = choose(pack, device, options.only)
        if options.listing:
            for case, target in cases:
                print(f"{case.id}  {target}  {case.text}")
            return ALL_RIGHT
        journal = Journal(options.results or _journal_path(folder, device), pack.id)
        return _run(pack, device, cases, journal, options, words)
    except TExprError as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_RUN


# ---- the command line


def parse(words: Sequence[str]) -> Options:
    """The options. Raises RunnerOption; argparse exits with status 2 by itself."""
    parser = argparse.ArgumentParser(
        prog="run.py", description="Check and time the kernels of this pack. Run it again to go on where it stopped."
    )
    parser.add_argument("--device", choices=("cuda", "emulator"), default="cuda", help="default: cuda")
    parser.add_argument("--sm", type=int, default=80, metavar="NN", help="capability for the emulator (default: 80)")
    parser.add_argument("--index", type=int, default=0, metavar="N", help="which GPU (default: 0)")
    parser.add_argument("--slice", metavar="TIME", help="begin no case after this time, e.g. 9m, 90s or 1h")
    parser.add_argument("--results", type=Path, metavar="FILE", help="the journal (default: results/DEVICE.jsonl)")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases by name, e.g. 'softmax*'; see --list")
    parser.add_argument("--no-time", action="store_true", help="check only")
    parser.add_argument("--list", action="store_true", help="print the cases for this device, run nothing")
    parser.add_argument(_RESTART, type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    until = options.until
    if until is None and options.slice is not None:
        until = time.time() + seconds(options.slice)
    return Options(
        device=options.device,
        sm=options.sm,
        index=options.index,
        until=until,
        results=options.results,
        only=options.only,
        timed=not options.no_time,
        listing=options.list,
    )


def seconds(text: str) -> float:
    """``9m``, ``90s``, ``1.5h`` or a number of seconds. Raises RunnerOption."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise RunnerOption(option=f"--slice {text}", why="a time looks like 9m, 90s or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _device(options: Options, pack: Pack) -> Device:
    if options.device == "cuda":
        return CudaDevice(options.index)
    folders = [pack.bundle_folder(name) for name in pack.bundles]
    return EmulatedDevice(folders, options.sm, _EMULATED_MULTIPROCESSORS)


def _journal_path(folder: Path, device: Device) -> Path:
    name = re.sub(r"[^A-Za-z0-9]+", "-", device.name).strip("-")
    return folder / "results" / f"{name}-sm{device.capability}.jsonl"


# ---- which cases


def choose(pack: Pack, device: Device, pattern: str) -> list[tuple[Case, str]]:
    """The cases that this device can run, each with the target whose code serves it, small ones first.

    Raises NoVariantForGpu and NothingSelected.
    """
    offered = {name: read_manifest(pack.bundle_folder(name)).targets() for name in pack.bundles}
    serving = {name: serving_target(device.capability, targets) for name, targets in offered.items()}
    if not any(serving.values()):
        have = ", ".join(dict.fromkeys(target for targets in offered.values() for target in targets))
        shown = f"{device.capability // 10}.{device.capability % 10}"
        raise NoVariantForGpu(device=device.name, capability=shown, targets=have, wanted=f"sm_{device.capability}")
    found = []
    for case in pack.cases:
        target = serving[case.bundle]
        fits = not device.emulated or case.work <= _EMULATED_WORK
        if target in case.targets and fits and target is not None:
            found.append((case, target))
    chosen = [(case, target) for case, target in found if fnmatch.fnmatch(case.id, pattern)]
    if not chosen:
        raise NothingSelected(pattern=pattern, count=len(found), device=device.name)
    return sorted(chosen, key=lambda pair: pair[0].large)  # stable: all checks before all timing


# ---- running them


class Entries:
    """The entries of a pack's bundles on one device, loaded when first used."""

    def __init__(self, pack: Pack, device: Device) -> None:
        self._pack = pack
        self._device = device
        self._libraries: dict[str, Library] = {}
        self._contexts: dict[tuple[str, str], Context] = {}

    def get(self, case: Case) -> tuple[Context, Entry]:
        """Raises LaunchFailed and the runtime's errors."""
        if case.bundle not in self._libraries:
            self._libraries[case.bundle] = Library(read_manifest(self._pack.bundle_folder(case.bundle)))
        library = self._libraries[case.bundle]
        entry = next(entry for entry in library.manifest.entries if entry.symbol == case.entry)
        key = (case.bundle, case.entry)
        if key not in self._contexts:
            self._contexts[key] = self._device.open(library, entry)
        return self._contexts[key], entry


def _run(
    pack: Pack, device: Device, cases: list[tuple[Case, str]], journal: Journal, options: Options, words: list[str]
) -> int:
    todo = [(case, target) for case, target in cases if not _is_done(case, device, journal, options)]
    print(f"{device.name}: {len(cases)} cases, {len(cases) - len(todo)} done before; results in {journal.path}")
    if todo:
        journal.append({"run": _circumstances(pack, device, options)})
    entries = Entries(pack, device)
    for position, (case, target) in enumerate(todo):
        if journal.gave_up(case.id):
            failure = Failure(Trouble.CRASHED, "the run ended in this case each time it was tried")
            journal.append({"case": case.id, "target": target, **Result((failure,)).plain()})
            continue
        if options.until is not None and time.time() >= options.until:
            left = len(todo) - position
            print(f"the time slice is over, {left} cases are left: run it again to go on")
            return UNFINISHED
        journal.append({"started": case.id})
        began = time.time()
        result = _one(pack, device, entries, case, target, options)
        record = {"case": case.id, "target": target, "seconds": round(time.time() - began, 3), **result.plain()}
        journal.append(record)
        print(case_line(record), flush=True)
        if result.lost:
            _restart(words, options)
    records = [journal.results[case.id] for case, _ in cases]
    print(summary_table(records))
    return SOME_WRONG if any(record["failures"] for record in records) else ALL_RIGHT


def _is_done(case: Case, device: Device, journal: Journal, options: Options) -> bool:
    """Whether the journal has all that is asked for of a case: one that was checked only may still have to be timed."""
    record = journal.results.get(case.id)
    if record is None:
        return False
    wanted = case.large and options.timed and not device.emulated and not record["failures"]
    return record["timing"] is not None or not wanted


def _one(pack: Pack, device: Device, entries: Entries, case: Case, target: str, options: Options) -> Result:
    try:
        context, entry = entries.get(case)
        return run_case(device, context, entry, case, target, pack, timed=options.timed and case.large)
    except MemoryError as error:
        return Result((), timing={"skipped": f"not enough memory: {error}"})
    except LaunchFailed as error:
        return Result((Failure(Trouble.FAULT, str(error)),), lost=error.lost)
    except TExprError as error:
        return Result((Failure(Trouble.REFUSED, str(error)),))


def _restart(words: list[str], options: Options) -> None:
    """Begin again in a new process: the CUDA context of this one is lost."""
    print("the GPU's context is lost; going on in a new process", flush=True)
    rest = [word for word in words if not word.startswith(_RESTART)]
    until = [] if options.until is None else [f"{_RESTART}={options.until}"]
    os.execv(sys.executable, [sys.executable, sys.argv[0], *rest, *until])


def _circumstances(pack: Pack, device: Device, options: Options) -> dict[str, Any]:
    """What the results were made with: plain data."""
    torch = None if device.emulated else torch_or_none()
    manifests = [read_manifest(pack.bundle_folder(name)) for name in pack.bundles]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": pack.commit,
        "texpr": pack.texpr,
        "device": device.facts(),
        "timed": options.timed,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": None if torch is None else str(torch.__version__),
        "system": f"{platform.system()} {platform.machine()}",
        "cubins": {manifest.name: cubin_hashes(manifest, device.capability) for manifest in manifests},
    }


def cubin_hashes(manifest: Manifest, capability: int) -> dict[str, str]:
    """sha256 of the cubins that run on a device, by kernel."""
    target = serving_target(capability, manifest.targets())
    return {
        kernel.name: manifest.files[cubin.file]
        for kernel in manifest.kernels
        for cubin in kernel.cubins
        if cubin.target == target and cubin.file in manifest.files
    }
