"""What a staged tensor's tile looks like: one element per point of the loop nest, or a window (box) of the tensor.

When every read below the stage's position touches the tensor at the same expression, and different points read
different elements, the buffer has one element per point (``AxisTile``): nothing is fetched that is not used.
Otherwise the reads overlap (a stencil's taps) and the buffer is the bounding box of all of them (``Window``),
inferred by ``math.footprint``; halos need not be written by anyone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from texpr.lang.index import to_int_expr
from texpr.lang.ir import NO_BOUNDARY, Axis, BoundaryMode, Read, Tensor
from texpr.math.bounds import Facts
from texpr.math.expr import IntExpr, Max, Min, Sym, free_symbols, maximum, minimum, substitute
from texpr.math.footprint import footprint, is_injective
from texpr.plan.inline import axes_of, key_of, spans
from texpr.plan.ir import AxisTile, Window
from texpr.plan.resolve import constant, origin


@dataclass(frozen=True, slots=True)
class Reach:
    """How far every axis moves below a position: in-tile lanes (``lanes``: axis -> size), from the tile's origin
    or from ``starts``, and whole inner loops (``inner``: axis -> extent). Axes in none of them are fixed there. Points
    along ``scattered`` axes may be anywhere: they wrap around or reflect at an edge."""

    lanes: Mapping[Axis, int]
    inner: Mapping[Axis, IntExpr]
    starts: Mapping[Axis, IntExpr] = field(default_factory=dict)
    scattered: frozenset[Axis] = frozenset()


@dataclass(frozen=True, slots=True)
class Access:
    """A read and how far its axes move where it is evaluated."""

    read: Read
    reach: Reach


def stage_form(accesses: Sequence[Access], facts: Facts) -> AxisTile | Window | str:
    """The form of the tile that serves the accesses; a string says why there is none."""
    first, reach = accesses[0].read, accesses[0].reach
    same = all(key_of(access.read) == key_of(first) and not access.reach.starts for access in accesses)
    moving = {axis for axis in axes_of(first) if reach.lanes.get(axis, 1) > 1}
    if same and not any(axis in access.reach.inner for access in accesses for axis in axes_of(first)):
        indices = [to_int_expr(index) for index in first.indices]
        tile = {axis.name: (0, reach.lanes[axis]) for axis in moving}
        data_dependent = any(index is None for index in indices)
        if data_dependent or is_injective([i for i in indices if i is not None], tile):
            return AxisTile(tuple((axis, reach.lanes[axis]) for axis in _in_order(first, moving)), first)
    return window_of(accesses, facts)


def window_of(accesses: Sequence[Access], facts: Facts) -> Window | str:
    """The box that holds every index of the accesses, the reach of every axis considered."""
    boundaries = {access.read.boundary for access in accesses if access.read.boundary != NO_BOUNDARY}
    if len(boundaries) > 1:
        return "its reads have different boundaries"
    boundary = boundaries.pop() if boundaries else NO_BOUNDARY
    boxes: list[list[tuple[IntExpr, IntExpr]]] = []
    clamps: list[tuple[Clamp, ...]] = []
    for access in accesses:
        indices, reach = access.read.indices, access.reach
        tile: dict[str, tuple[int, int]] = {}
        values: dict[str, IntExpr | int] = {}
        for axis in set().union(*(axes_of(index) for index in indices)):
            if axis in reach.inner:
                extent = constant(reach.inner[axis])
                if extent is None:
                    return f"axis {axis.name} runs over {axis.extent} points below it"
                tile[axis.name] = (0, extent)
                continue
            if axis in reach.scattered:
                return f"axis {axis.name} wraps around or reflects where it is read"
            start = reach.starts.get(axis, origin(axis))
            if reach.lanes.get(axis, 1) > 1:
                tile[f"{axis.name}'"] = (0, reach.lanes[axis])
                start = start + Sym(f"{axis.name}'")
            values[axis.name] = start
        exact: list[IntExpr] = []
        around: list[Clamp] = []
        for index in indices:
            value = to_int_expr(index)
            if value is None:
                return "an index depends on data"
            inner, clamp = unclamped(substitute(value, values), frozenset(tile))
            exact.append(inner)
            around.append(clamp)
        clamps.append(tuple(around))
        ranges = footprint(exact, tile, facts)
        if ranges is None:
            return "an index is not affine in the tile's axes"
        boxes.append([(r.lo, r.lo + r.extent) for r in ranges])
    shared_clamps: list[Clamp] = []
    for dim in range(len(boxes[0])):
        different = {around[dim] for around in clamps if around[dim]}
        if len(different) > 1:
            return "its reads are clamped to different ranges"
        # A read without a clamp is in bounds already, so the clamp of the others changes nothing for it.
        shared_clamps.append(different.pop() if different else ())
    lows: list[IntExpr] = []
    extents: list[int] = []
    for dim in range(len(boxes[0])):
        base = boxes[0][dim][0]
        offsets = [(constant(box[dim][0] - base), constant(box[dim][1] - base)) for box in boxes]
        if any(lo is None or hi is None for lo, hi in offsets):
            return "its reads are at unrelated places"
        low = min(lo for lo, _ in offsets if lo is not None)
        high = max(hi for _, hi in offsets if hi is not None)
        lows.append(clamped(base + low, shared_clamps[dim]))
        extents.append(high - low)
    return Window(tuple(lows), tuple(extents), boundary, _edges(accesses))


def _edges(accesses: Sequence[Access]) -> tuple[bool, ...]:
    """Per dim, whether some read may lie outside of the source."""
    source = accesses[0].read.source
    extents = source.extents if isinstance(source, Tensor) else tuple(axis.extent for axis in source.axes)
    return tuple(
        any(a.read.boundary != NO_BOUNDARY and not spans(a.read.indices[d], extent) for a in accesses)
        for d, extent in enumerate(extents)
    )


def window_reach(axes: Sequence[Axis], window: Window, reach: Reach) -> Reach:
    """Where the points of a func's window are, for what is read there: in the box, or where the func's edge puts them.

    An edge that clamps moves a point towards the tile's first index, which lies inside the axis: a box that holds that
    index still holds the point. Any other box of clamped points starts at its clamped first point.
    """
    starts: dict[Axis, IntExpr] = {}
    scattered: set[Axis] = set()
    for axis, lo, extent, edge in zip(axes, window.lo, window.extent, window.edges, strict=True):
        offset = constant(lo - origin(axis))
        holds = offset is not None and offset <= 0 < offset + extent
        starts[axis] = lo if holds else minimum(maximum(lo, 0), axis.extent - 1)
        if edge and window.boundary.mode in (BoundaryMode.WRAP, BoundaryMode.MIRROR):
            scattered.add(axis)
    lanes = {**reach.lanes, **dict(zip(axes, window.extent, strict=True))}
    return Reach(lanes, reach.inner, starts, frozenset(scattered))


Clamp = tuple[tuple[type[Min] | type[Max], tuple[IntExpr, ...]], ...]
"""Minima and maxima with bounds that do not move, outermost first."""


def unclamped(value: IntExpr, moving: frozenset[str]) -> tuple[IntExpr, Clamp]:
    """``value`` without the minima and maxima around it. Clamping never spreads points apart, so a box as large as
    that of the bare index, starting at its clamped first point, holds every clamped index."""
    match value:
        case Min(args=args) | Max(args=args):
            inside = [arg for arg in args if free_symbols(arg) & moving]
            if len(inside) == 1:
                inner, clamp = unclamped(inside[0], moving)
                bounds = tuple(arg for arg in args if arg is not inside[0])
                return inner, ((type(value), bounds), *clamp)
        case _:
            pass
    return value, ()


def clamped(value: IntExpr, clamp: Clamp) -> IntExpr:
    """The inverse of ``unclamped``."""
    for kind, bounds in reversed(clamp):
        value = minimum(value, *bounds) if kind is Min else maximum(value, *bounds)
    return value


def _in_order(read: Read, moving: set[Axis]) -> list[Axis]:
    """The moving axes in the order of the dims they index: the last dim's axis varies fastest in memory, so it comes
    last."""
    ordered: dict[Axis, None] = {}
    for index in read.indices:
        for axis in sorted(axes_of(index) & moving, key=lambda a: a.name):
            ordered[axis] = None
    return list(ordered)
