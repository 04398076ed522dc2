"""Tile sizes for kernels that store a scan: long runs where its axis is contiguous in memory, else lanes along the
contiguous axis and a few steps of the scan in the registers of each thread."""

from __future__ import annotations

from collections.abc import Iterator

from texpr.lang.ir import Def, Scan
from texpr.plan.partition import Job
from texpr.plan.tiling import WARPS, Frame, budgets, fastest, fill, named, names
from texpr.schedule.base import Map
from texpr.schedule.records import Across, Kernel
from texpr.schedule.records import Scan as ScanRecord

_RUN = 2048  # points of a tile: 16 per thread of four warps
_STEPS = 16  # points of the scan in a thread where lanes lie along another axis


def scanned(job: Job, definition: Def, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """One program for every line (or a few lines), carried from tile to tile."""
    scan = definition.top
    assert isinstance(scan, Scan)
    fast = fastest(job, frame.guard)
    others = [axis for axis in reversed(job.programs) if axis is not fast]
    for budget in budgets(job, _RUN // len(definition.funcs)):
        if fast is None or fast is scan.axis:
            sizes = fill([scan.axis, *reversed(job.programs)], budget)
        else:
            sizes = fill([fast, *others], max(1, min(WARPS * 32, budget)))
            sizes[scan.axis] = max(1, min(_STEPS, budget // (WARPS * 32)))
        by = Map.of({scan.axis.name: sizes[scan.axis]})
        entry = {definition.name: ScanRecord(across=Across.LOOP, by=by)}
        grid = named(sizes, job.programs)
        yield (Kernel(name=name, writes=names(job.writes), grid=grid, warps=WARPS, scan=Map.of(entry)),)
