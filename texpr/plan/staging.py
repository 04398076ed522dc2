"""What a staged tensor's tile looks like: one element per point of the loop nest, or a window (box) of the tensor.

When every read below the stage's position touches the tensor at the same expression, and different points read
different elements, the buffer has one element per point (``AxisTile``): nothing is fetched that is not used.
Otherwise the reads overlap (a stencil's taps) and the buffer is the bounding box of all of them (``Window``),
inferred by ``math.footprint``; halos need not be written by anyone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from texpr.lang.index import to_int_expr
from texpr.lang.ir import Axis, Boundary, Expr, Read
from texpr.math.bounds import Facts
from texpr.math.expr import IntExpr, Sym, substitute
from texpr.math.footprint import footprint, is_injective
from texpr.plan.inline import axes_of, key_of
from texpr.plan.ir import AxisTile, Window
from texpr.plan.resolve import constant, origin


@dataclass(frozen=True, slots=True)
class Reach:
    """How far every axis moves below a position: in-tile lanes (``lanes``: axis -> size) and whole inner loops
    (``inner``: axis -> extent). Axes in neither are fixed there."""

    lanes: Mapping[Axis, int]
    inner: Mapping[Axis, IntExpr]


def stage_form(reads: Sequence[Read], reach: Reach, facts: Facts) -> AxisTile | Window | str:
    """The form of the tile that serves ``reads``; a string says why there is none."""
    first = reads[0]
    same = all(key_of(read) == key_of(first) for read in reads[1:])
    moving = {axis for axis in axes_of(first) if reach.lanes.get(axis, 1) > 1}
    if same and not any(axis in reach.inner for axis in axes_of(first)):
        indices = [to_int_expr(index) for index in first.indices]
        tile = {axis.name: (0, reach.lanes[axis]) for axis in moving}
        data_dependent = any(index is None for index in indices)
        if data_dependent or is_injective([i for i in indices if i is not None], tile):
            return AxisTile(tuple((axis, reach.lanes[axis]) for axis in _in_order(first, moving)), first)
    return window_of([read.indices for read in reads], reach, facts, {read.boundary for read in reads})


def window_of(
    points: Sequence[tuple[Expr, ...]], reach: Reach, facts: Facts, boundaries: set[Boundary]
) -> Window | str:
    """The box that holds every index in ``points``, the reach of every axis considered."""
    if len(boundaries) > 1:
        return "its reads have different boundaries"
    boxes: list[list[tuple[IntExpr, IntExpr]]] = []
    for indices in points:
        box: list[tuple[IntExpr, IntExpr]] = []
        tile: dict[str, tuple[int, int]] = {}
        values: dict[str, IntExpr | int] = {}
        for axis in set().union(*(axes_of(index) for index in indices)):
            if axis in reach.inner:
                extent = constant(reach.inner[axis])
                if extent is None:
                    return f"axis {axis.name} runs over {reach.inner[axis]} points below it"
                tile[axis.name] = (0, extent)
            elif reach.lanes.get(axis, 1) > 1:
                tile[f"{axis.name}'"] = (0, reach.lanes[axis])
                values[axis.name] = origin(axis) + Sym(f"{axis.name}'")
            else:
                values[axis.name] = origin(axis)
        exact: list[IntExpr] = []
        for index in indices:
            value = to_int_expr(index)
            if value is None:
                return "an index depends on data"
            exact.append(substitute(value, values))
        ranges = footprint(exact, tile, facts)
        if ranges is None:
            return "an index is not affine in the tile's axes"
        box = [(r.lo, r.lo + r.extent) for r in ranges]
        boxes.append(box)
    lows: list[IntExpr] = []
    extents: list[int] = []
    for dim in range(len(boxes[0])):
        base = boxes[0][dim][0]
        offsets = [(constant(box[dim][0] - base), constant(box[dim][1] - base)) for box in boxes]
        if any(lo is None or hi is None for lo, hi in offsets):
            return "its reads are at unrelated places"
        low = min(lo for lo, _ in offsets if lo is not None)
        high = max(hi for _, hi in offsets if hi is not None)
        lows.append(base + low)
        extents.append(high - low)
    return Window(tuple(lows), tuple(extents))


def _in_order(read: Read, moving: set[Axis]) -> list[Axis]:
    """The moving axes in the order of the dims they index: the last dim's axis varies fastest in memory, so it comes
    last."""
    ordered: dict[Axis, None] = {}
    for index in read.indices:
        for axis in sorted(axes_of(index) & moving, key=lambda a: a.name):
            ordered[axis] = None
    return list(ordered)
