"""Kept axes that ``unroll`` names: every point of them has code and an accumulator of its own.

    place: {gx: {unroll: [q], loop: {k: 64}, mma: mma}}        gx[b, q, j] for q = 0, 1, 2, 3: four accumulators [b, j]

The other side of such a contraction is fetched once for all points. The func is read at constant points only, since
registers cannot be indexed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from texpr.lang.ir import Axis, Const, Def, Expr
from texpr.plan.errors import LoopAxisInvalid, NotLowered, UnrollNotConstant
from texpr.plan.resolve import Context, constant
from texpr.schedule.places import Place


def copied_axes(definition: Def, place: Place) -> tuple[Axis, ...]:
    """The kept axes of a definition that its place unrolls. Raises ``UnrollNotConstant``."""
    found = tuple(axis for axis in definition.axes if axis.name in place.unroll and axis.name not in place.loop)
    for axis in found:
        if constant(axis.extent) is None:
            raise UnrollNotConstant(axis=axis.name, extent=axis.extent, at=place.location_of("unroll"))
    return found


def all_copied(context: Context) -> frozenset[Axis]:
    """The copied axes of all definitions of a kernel."""
    places = context.record.place
    return frozenset(
        axis
        for definition in context.needed
        for func in definition.funcs
        if func.name in places
        for axis in copied_axes(definition, places[func.name])
    )


def check_unrolled(context: Context) -> None:
    """Every axis that ``unroll`` names is a loop of its func, or a kept axis of a reduction that nothing else covers.
    Raises ``LoopAxisInvalid`` and ``NotLowered``."""
    record = context.record
    for definition in context.needed:
        for func in definition.funcs:
            place = record.place.get(func.name)
            if place is None:
                continue
            kept = {axis.name for axis in definition.axes}
            for name in place.unroll:
                if name in place.loop:
                    continue
                if name not in kept:
                    choices = ", ".join([*place.loop, *(axis.name for axis in definition.axes)])
                    why = "unroll names it, but it is neither a loop nor an axis of it"
                    at = place.location_of("unroll")
                    raise LoopAxisInvalid(func=func.name, axis=name, why=why, choices=choices, at=at)
                if name in record.grid or name in record.whole:
                    cover = "grid" if name in record.grid else "whole"
                    raise NotLowered(
                        what=f"unroll of {name}, which is in {cover},",
                        instead=f"{name} in one of the two",
                        at=place.location_of("unroll"),
                    )


def points_of(axes: Sequence[Axis]) -> list[tuple[int, ...]]:
    """Every point of copied axes, the last axis fastest; one empty point without axes."""
    return list(itertools.product(*(range(constant(axis.extent) or 0) for axis in axes)))


def count_of(axes: Sequence[Axis]) -> int:
    """How many points copied axes have."""
    return math.prod(constant(axis.extent) or 0 for axis in axes)


def point_read(indices: Sequence[Expr]) -> tuple[int, ...]:
    """The constants among the indices of a read of a copied func: the point that it is at."""
    return tuple(int(index.value) for index in indices if isinstance(index, Const))
