"""Default schedules of reductions by key: every point is visited once and updates the element that its key names, in
place of every element asking every point. Integers, whose sums do not depend on the order of updates, or keys of which
no two are the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from texpr.lang.ir import Reduce, ReduceOp
from texpr.math.expr import const, sym
from texpr.plan.invert import has_one_point, keyed_axes
from texpr.plan.monoids import constant_extent, identity
from texpr.plan.partition import Job
from texpr.plan.tiling import WARPS, budgets, fill, named
from texpr.schedule.base import Map
from texpr.schedule.places import Place
from texpr.schedule.records import Kernel, Persistent
from texpr.schedule.words import Memory, Num, Program, Tile

_RUN = 2048
_MOST_SHARED = 1 << 12
"""Elements of which every program may keep a copy in shared memory."""


def is_by_key(job: Job) -> bool:
    """Whether a job stores one such reduction and nothing else."""
    if len(job.held) != 1 or job.held[0].funcs != job.writes:
        return False
    top = job.held[0].top
    if not isinstance(top, Reduce) or not isinstance(top.op, ReduceOp):
        return False
    keys = keyed_axes(job.held[0])
    return bool(keys) and (job.writes[0].dtype.is_int or has_one_point(top, keys))


def by_key(job: Job, name: str) -> Iterator[tuple[Kernel, ...]]:
    """Kernels for such a job."""
    definition, func = job.held[0], job.writes[0]
    top, keys = definition.top, keyed_axes(definition)
    assert isinstance(top, Reduce) and isinstance(top.op, ReduceOp)
    (start,) = identity(top.op, (func.dtype,))
    axes = [*(axis for axis in definition.axes if axis not in keys), *top.axes]
    names = tuple(axis.name for axis in top.axes)
    extents = [constant_extent(axis) for axis in definition.axes]
    elements = math.prod(extent or _MOST_SHARED + 1 for extent in extents)
    for budget in budgets(job, _RUN):
        kernel = Kernel(
            name=name, writes=(func.name,), grid=named(fill(list(reversed(axes)), budget), axes), warps=WARPS,
            fill=Map.of({func.name: start.value if func.dtype.is_float else int(start.value)}),
        )  # fmt: skip
        if elements <= _MOST_SHARED and not has_one_point(top, keys):
            place = Place(at=Program(), where=Memory.SHARED, invert=names)
            persistent = Persistent(Num(value=const(2) * sym("sms")))
            yield (dataclasses.replace(kernel, place=Map.of({func.name: place}), persistent=persistent),)
        place = Place(at=Tile(), where=Memory.GLOBAL, invert=names)
        yield (dataclasses.replace(kernel, place=Map.of({func.name: place})),)

