"""``texpr check``: every variant of a bundle is run on the emulator, through the bundle's own launcher, against the
reference.

For each binding of types, each target and each variant, calls are chosen that reach the variant at the edges of its
tiles, with misaligned pointers, absent optional tensors and poisoned outputs (``texpr.checking``). A result is right if
it is within the error bound of the algorithm's own operations, and the same under every schedule that is asked for.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from texpr.aot.bundle import SCHEDULE_FILE, BuildOptions, write_bundle
from texpr.aot.cubin import Progress, silent
from texpr.aot.manifest import load_manifest, mark_checked
from texpr.checking.calls import Candidate
from texpr.checking.cases import Problem
from texpr.checking.execute import MULTIPROCESSORS, Bench
from texpr.checking.report import CheckReport, Row, as_json, counters_as_json, table
from texpr.checking.rows import Effort, check_row
from texpr.compile import chosen_targets, domain_facts, find_schedule, load_algorithm, package_of
from texpr.errors import TExprError
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.ir import Algorithm, Scalar, Tensor
from texpr.math.parse import parse_bool
from texpr.runtime.library import Library
from texpr.runtime.manifest import read_manifest
from texpr.schedule.files import load_schedule
from texpr.schedule.records import Schedule
from texpr.targets import TARGETS, target_named

REPRESENTATIVES: Final = ("sm_80", "sm_90a", "sm_120a")
"""One target per family of architectures: what is checked unless more is asked for."""

_Json = Mapping[str, Any]
_Report = Callable[[Row], None]


class BundleMismatch(TExprError):
    """A bundle that was not made from the algorithm it is to be checked against."""

    code: ClassVar[str] = "TX0011"
    title: ClassVar[str] = "bundle of another algorithm"
    template: ClassVar[str] = "{folder} is not a bundle of {algorithm}: {problem}"
    default_hint: ClassVar[str] = "build it again: texpr aot SOURCE --out {folder}"


class NothingToCheck(TExprError):
    """The choice of targets and types leaves nothing."""

    code: ClassVar[str] = "TX0012"
    title: ClassVar[str] = "nothing to check"
    template: ClassVar[str] = "{algorithm} has nothing for {asked}"
    default_hint: ClassVar[str] = "there is: {have}"


@dataclass(frozen=True, slots=True)
class Selection:
    """What to check. ``targets`` None: one per architecture family, or all with ``all_targets``; ``types`` and
    ``statics`` bind some or all variables."""

    targets: tuple[str, ...] | None = None
    types: Mapping[str, str] | None = None
    statics: Mapping[str, int] | None = None
    all_targets: bool = False


def check(
    source: str,
    schedule: Path | Schedule | None = None,
    targets: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    statics: Mapping[str, int] | None = None,
    *,
    all_targets: bool = False,
    effort: Effort | None = None,
    progress: Callable[[Progress], None] = silent,
    report: _Report = lambda row: None,
) -> CheckReport:
    """Build the algorithm at ``source`` (``FILE.py:NAME``) in a temporary folder and check everything that was built.

    ``schedule`` is a file, a record, or None for the one found beside the source. ``progress`` is told of every kernel
    compiled, ``report`` of every row done. Raises what ``texpr.compile`` and ``write_bundle`` raise.
    """
    definition = load_algorithm(source)
    record = (
        schedule if isinstance(schedule, Schedule) else find_schedule(source, definition, schedule, targets, statics)
    )
    names = representative(chosen_targets(record, targets), everything=all_targets or targets is not None)
    package = package_of(definition, record, names, types or {}, statics or {}, with_example=False)
    selection = Selection(names, types, statics)
    with tempfile.TemporaryDirectory(prefix="texpr-check-") as folder:
        bundle = Path(folder) / definition.name
        write_bundle(package, bundle, BuildOptions(targets=names), progress)
        return check_bundle(bundle, definition, selection, effort or Effort(), report)


def representative(offered: Sequence[str], *, everything: bool) -> tuple[str, ...]:
    """The targets to check of those offered: all, or one per family (the major version of the capability), preferring
    ``REPRESENTATIVES``; families without one of those are left out if there is another."""
    if everything:
        return tuple(offered)
    families = {TARGETS[name].major for name in REPRESENTATIVES}
    chosen: dict[int, str] = {}
    for name in offered:
        family = TARGETS[name].major
        if family in families and (family not in chosen or name in REPRESENTATIVES):
            chosen[family] = name
    return tuple(chosen.values()) or tuple(offered[:1])


def check_bundle(
    folder: Path,
    definition: AlgorithmDef,
    selection: Selection | None = None,
    effort: Effort | None = None,
    report: _Report = lambda row: None,
) -> CheckReport:
    """Check what is in a bundle made from ``definition``, and record in its manifest which cubins were run and found
    right.

    Raises BundleMismatch, NothingToCheck and the runtime's errors for what is no bundle.
    """
    selection, effort = selection or Selection(), effort or Effort()
    manifest = load_manifest(folder)
    schedule = load_schedule(folder / SCHEDULE_FILE)
    targets = _wanted_targets(manifest, selection, definition)
    library = Library(read_manifest(folder))
    rows: list[Row] = []
    for function in manifest["functions"]:
        if all(function["types"].get(name) == value for name, value in (selection.types or {}).items()):
            algorithm = _same_algorithm(folder, definition, function)
            for target in targets:
                rows += _check_target(folder, library, function, algorithm, schedule, target, effort, report)
    if not rows:
        have = ", ".join(str(function["types"]) for function in manifest["functions"])
        raise NothingToCheck(algorithm=definition.name, asked=dict(selection.types or {}), have=have)
    images = {(kernel, row.target) for row in rows for kernel in row.kernels}
    wrong = {(kernel, row.target) for row in rows if row.failures for kernel in row.kernels}
    mark_checked(folder, images - wrong, wrong)
    return CheckReport(definition.name, tuple(rows))


def _wanted_targets(manifest: _Json, selection: Selection, definition: AlgorithmDef) -> tuple[str, ...]:
    offered = tuple(manifest["targets"])
    if selection.targets is None:
        return representative(offered, everything=selection.all_targets)
    asked = [target.name if target else name for name, target in ((n, target_named(n)) for n in selection.targets)]
    chosen = tuple(name for name in offered if name in asked)
    if not chosen:
        raise NothingToCheck(algorithm=definition.name, asked=", ".join(asked), have=", ".join(offered))
    return chosen


def _same_algorithm(folder: Path, definition: AlgorithmDef, function: _Json) -> Algorithm:
    """The binding of ``definition`` that an entry of the bundle was made from. Raises BundleMismatch."""
    algorithm = definition.bind(function["types"], function["statics"])
    own = [_described(param) for param in algorithm.params]
    theirs = [(a["name"], a["dtype"], tuple(a.get("shape", ()))) for a in function["arguments"]]
    facts = [str(fact) for fact in algorithm.facts]
    if own != theirs or facts != function["facts"]:
        problem = (
            f"{function['symbol']} takes {theirs} with facts {function['facts']}, the algorithm {own} with {facts}"
        )
        raise BundleMismatch(folder=folder, algorithm=definition.name, problem=problem)
    return algorithm


def _described(param: Tensor | Scalar) -> tuple[str, str, tuple[str, ...]]:
    shape = tuple(str(extent) for extent in param.shape) if isinstance(param, Tensor) else ()
    return param.name, param.dtype.value, shape


def _check_target(
    folder: Path,
    library: Library,
    function: _Json,
    algorithm: Algorithm,
    schedule: Schedule,
    target: str,
    effort: Effort,
    report: _Report,
) -> list[Row]:
    """The rows of an entry on a target: one per variant that is compiled for it."""
    variants = function["variants"]
    candidates = [
        Candidate(position, variant["name"], parse_bool(variant["guard"]))
        for position, variant in enumerate(variants)
        if target in variant["targets"]
    ]
    if not candidates:
        return []
    records = {record.name: record for record in schedule.variants}
    facts = domain_facts(algorithm)
    binding = ", ".join(f"{name}={value}" for name, value in (function["types"] | function["statics"]).items())

    def new_bench(seed: int | None) -> Bench:
        return Bench(folder, library, function["symbol"], algorithm, TARGETS[target].capability, seed)

    bench = new_bench(None)
    scheduled = {seed: new_bench(seed) for seed in effort.schedules}
    rows = []
    for wanted in candidates:
        kernels = tuple(launch["kernel"] for launch in variants[wanted.position]["launches"])
        problem = Problem(algorithm, records[wanted.name], wanted, candidates, facts, MULTIPROCESSORS, effort.work)
        empty = Row(function["symbol"], binding, wanted.name, target, kernels)
        row = check_row(empty, bench, problem, effort, scheduled)
        report(row)
        rows.append(row)
    for used in (bench, *scheduled.values()):
        used.close()
    return rows


def run_check(
    source: str,
    schedule: Path | None,
    selection: Selection,
    *,
    bundle: Path | None = None,
    effort: Effort | None = None,
    json_output: bool = False,
    counters_file: Path | None = None,
    quiet: bool = False,
) -> int:
    """What the command does: check, print, and return the exit status. With ``bundle``, what is in that folder is
    checked. Counters, if the effort asks for them, are part of the table; ``counters_file`` is where they are written
    as JSON."""

    def show(row: Row) -> None:
        print(f"{row.entry} {row.variant} {row.target}  {row.calls} calls  {row.verdict}", file=sys.stderr, flush=True)

    def compiled(progress: Progress) -> None:
        if not progress.cached:
            said = f"[{progress.done}/{progress.total}] compiled {progress.kernel} {progress.target}"
            print(f"{said}  {progress.seconds:.1f} s", file=sys.stderr, flush=True)

    told: _Report = (lambda row: None) if quiet else show
    if bundle is not None:
        found = check_bundle(bundle, load_algorithm(source), selection, effort, told)
    else:
        found = check(
            source, schedule, selection.targets, selection.types, selection.statics, all_targets=selection.all_targets,
            effort=effort, progress=silent if quiet else compiled, report=told,
        )  # fmt: skip
    if counters_file is not None:
        try:
            counters_file.write_text(json.dumps(counters_as_json(found), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            print(f"error: cannot write {counters_file}: {error.strerror}", file=sys.stderr)
            return 1
    print(json.dumps(as_json(found), indent=2) if json_output else table(found))
    return 0 if found.ok else 1
