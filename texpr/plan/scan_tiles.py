"""Tile sizes for kernels that store a scan: long runs where its axis is contiguous in memory, else lanes along the
contiguous axis and a few steps of the scan in the registers of each thread."""

from __future__ import annotations

from collections.abc import Iterator

from texpr.lang.ir import Def, Scan
from texpr.lang.user_code import TileOp
from texpr.math.bounds import bounds
from texpr.plan.errors import LinesNotWhole
from texpr.plan.lookback import is_exact_in_words
from texpr.plan.monoids import constant_extent
from texpr.plan.partition import Job, is_symbolic
from texpr.plan.tile_ops import power_of_two
from texpr.plan.tiling import WARPS, Frame, budgets, fastest, fill, named, names
from texpr.schedule.base import Map
from texpr.schedule.places import Scan as ScanRecord
from texpr.schedule.records import Kernel
from texpr.schedule.words import Across

_RUN = 2048  # points of a tile: 16 per thread of four warps
_STEPS = 16  # points of the scan in a thread where lanes lie along another axis
_PARTS = 512  # tiles that are scanned at a time in the second of two passes


def scanned(job: Job, definition: Def, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """One program for every line (or a few lines), carried from tile to tile; where the other axes alone give too few
    programs, one for every tile: looking back where that is exact, in two passes otherwise."""
    scan = definition.top
    assert isinstance(scan, Scan)
    if isinstance(scan.op, TileOp):
        yield from _whole_lines(job, definition, scan, scan.op, name, frame)
        return
    fast = fastest(job, frame.guard)
    if fast is None:
        fast = scan.axis
    others = [axis for axis in reversed(job.programs) if axis is not fast]
    for budget in budgets(job, _RUN // len(definition.funcs)):
        if fast is scan.axis:
            sizes = fill([scan.axis, *reversed(job.programs)], budget)
        else:
            sizes = fill([fast, *others], max(1, min(WARPS * 32, budget)))
            sizes[scan.axis] = max(1, min(_STEPS, budget // (WARPS * 32)))
        if constant_extent(scan.axis) is None and not is_symbolic(job.programs) and fast is scan.axis:
            if is_exact_in_words(scan):
                yield _looking_back(job, definition, scan, sizes[scan.axis], name)
            yield _two_passes(job, definition, scan, sizes[scan.axis], name)
            continue
        entry = {definition.name: _record(Across.LOOP, scan.axis.name, sizes[scan.axis])}
        grid = named(sizes, job.programs)
        yield (Kernel(name=name, writes=names(job.writes), grid=grid, warps=WARPS, scan=Map.of(entry)),)


def _record(across: Across, axis: str, size: int) -> ScanRecord:
    return ScanRecord(across=across, by=Map.of({axis: size}))


def _looking_back(job: Job, definition: Def, scan: Scan, size: int, name: str) -> tuple[Kernel, ...]:
    """One kernel whose programs wait for each other."""
    grid = Map.of({**dict.fromkeys((other.name for other in job.programs), 1), scan.axis.name: size})
    entry = {definition.name: _record(Across.LOOKBACK, scan.axis.name, size)}
    return (Kernel(name=name, writes=names(job.writes), grid=grid, warps=WARPS, scan=Map.of(entry)),)


def _two_passes(job: Job, definition: Def, scan: Scan, size: int, name: str) -> tuple[Kernel, ...]:
    """Three kernels: every tile reduced, the results scanned, every tile scanned on from there."""
    axis = scan.axis.name
    stems = [func.name for func in definition.funcs]
    if scan.reset is not None:
        stems = [f"{definition.name}.reset", *stems]
    lines = dict.fromkeys((other.name for other in job.programs), 1)
    parts = Kernel(
        name=f"{name}_parts",
        writes=tuple(f"{stem}.part" for stem in stems),
        grid=Map.of({**lines, f"{axis}.part": 1}),
        whole=Map.of({axis: size}),
        warps=WARPS,
    )
    carries = Kernel(
        name=f"{name}_parts_carry",
        writes=tuple(f"{stem}.carry" for stem in stems),
        grid=Map.of(lines),
        warps=WARPS,
        scan=Map.of({f"{stems[0]}.carry": _record(Across.LOOP, f"{axis}.part", _PARTS)}),
    )
    last = Kernel(
        name=name,
        writes=names(job.writes),
        grid=Map.of({**lines, axis: size}),
        warps=WARPS,
        scan=Map.of({definition.name: _record(Across.TWO_PASS, axis, size)}),
    )
    return parts, carries, last


def _whole_lines(
    job: Job, definition: Def, scan: Scan, op: TileOp, name: str, frame: Frame
) -> Iterator[tuple[Kernel, ...]]:
    """Whole lines, several of them to a program where they are short. Raises ``LinesNotWhole`` where nothing bounds
    their length."""
    axis = scan.axis
    most = bounds(axis.extent, frame.facts).hi
    if most is None:
        why = f"nothing bounds {axis.extent}, and a default schedule takes lines of any length"
        hint = f"require=['{axis.extent} <= 1024'], or a schedule"
        at = definition.location
        raise LinesNotWhole(func=definition.name, op=op.name, axis=axis.name, why=why, hint=hint, at=at)
    length = power_of_two(most)
    for budget in budgets(job, _RUN):
        lines = max(1, budget // length) if op.rows else 1
        sizes = {other.name: 1 for other in job.programs}
        if job.programs:
            sizes[job.programs[-1].name] = min(lines, 64)
        whole = Map.of({axis.name: length})
        yield (Kernel(name=name, writes=names(job.writes), grid=Map.of(sizes), whole=whole, warps=WARPS),)
