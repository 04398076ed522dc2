"""Boxes: tiles that the copy engine moves by itself, and what must be known before it may.

    stage: {x: {at: acc.k, in: shared, depth: 3, copy: tma}}

A tile is a box if every index of its read is one axis of the tile plus what is the same all over it, or has no such
axis; the axes are different ones, and one of them walks with stride 1. Elements outside of the tensor come as zeros, so
a shifted box (``x[n, p + r - 1, q + s - 1, c]`` in a step of r and s) needs no test of its edges. The map of the tensor
is encoded for every call: its address and all strides but the innermost are multiples of 16 bytes, it has at most five
dims and no empty one, and a box at most 256 elements along each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from texpr.errors import Location
from texpr.lang.index import to_int_expr
from texpr.lang.ir import Axis, AxisRef, BoundaryMode, Read, Tensor
from texpr.math.bounds import Facts, divisor
from texpr.math.expr import Const, IntExpr, const, eq, free_symbols, ge
from texpr.math.prove import Proved, prove
from texpr.plan.access import Memory, affine_in, memory_of
from texpr.plan.consumers import computed_sizes
from texpr.plan.copies import count_of
from texpr.plan.errors import BoxNotAligned, BoxRefused, NoEffect, TargetLacks
from texpr.plan.inline import spans
from texpr.plan.ir import AxisTile, Cover, Group, KernelPlan, LoopAxis, Node, Reduction, Stage, Window, Write
from texpr.plan.resolve import Context
from texpr.schedule.words import Copy
from texpr.schedule.words import Memory as Place

MOST_DIMS = 5
MOST_EXTENT = 256
ALIGNMENT = 16
"""CUDA Driver API, cuTensorMapEncodeTiled."""
TILE_ALIGNMENT = 128
"""PTX ISA, cp.async.bulk.tensor: of an address in shared memory."""


@dataclass(frozen=True, slots=True)
class BoxDim:
    """A dim of a map: that of the tensor it stands for, and the axis of the tile that runs along it (None: the box has
    one element there)."""

    dim: int
    axis: Axis | None
    extent: int


@dataclass(frozen=True, slots=True)
class Box:
    """The dims of a map in its order: outermost first, the one that is contiguous in memory last."""

    dims: tuple[BoxDim, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        return tuple(dim.extent for dim in self.dims)


def box_of(read: Read, axes: Sequence[tuple[Axis, int]], memory: Memory, facts: Facts) -> Box | str:
    """The box of a tile whose buffer has ``axes`` in this order (those of one point left out); a string says why the
    tile is none."""
    wide = [(axis, size) for axis, size in axes if size > 1]
    moving: dict[Axis, int] = {}
    for d, index in enumerate(read.indices):
        value = to_int_expr(index)
        if value is None:
            return f"index {d} of {memory.name} depends on data"
        own = [axis for axis, _ in wide if axis.name in free_symbols(value)]
        slopes = affine_in(value, [axis.name for axis in own])
        if len(own) > 1:
            return f"index {d} of {memory.name} moves along {' and '.join(axis.name for axis in own)} at once"
        for axis in own:
            if slopes.get(axis.name) != const(1):
                return f"index {d} of {memory.name} does not move along {axis.name} point by point"
            if axis in moving:
                return f"{axis.name} moves along two dims of {memory.name}"
            moving[axis] = d
    inner = next((d for d, stride in enumerate(memory.strides) if _is_one(stride, facts)), None)
    if inner is None:
        return f"no dim of {memory.name} is contiguous"
    if not wide or moving.get(wide[-1][0]) != inner:
        return f"its rows do not lie along dim {inner} of {memory.name}, the contiguous one"
    if len(memory.shape) > MOST_DIMS:
        return f"{memory.name} has {len(memory.shape)} dims, a tensor map at most {MOST_DIMS}"
    still = [BoxDim(d, None, 1) for d in range(len(memory.shape)) if d not in moving.values()]
    return Box((*still, *(BoxDim(moving[axis], axis, size) for axis, size in wide)))


def _is_one(stride: IntExpr, facts: Facts) -> bool:
    return isinstance(prove(eq(stride, 1), facts), Proved)


def check_boxes(context: Context, plan: KernelPlan) -> None:
    """Every stage that the copy engine fetches is a box whose map can be encoded, on a target that has one, and what
    lies outside of the tensor is zero. Raises ``TargetLacks``, ``BoxRefused`` or ``BoxNotAligned``."""
    tiled = {t.axis for t in plan.tile if t.cover is not Cover.WHOLE}
    for stage, loops in _stages_in(plan.nodes, ()):
        if stage.copy is not Copy.TMA:
            continue
        record = context.record.stage[stage.name]
        at = record.location_of("copy") or record.location
        check_engine(context, "copy: tma", "copy: async", at)
        if stage.memory is not Place.SHARED:
            raise BoxRefused(name=stage.name, why="the copy engine fills shared memory, not registers", at=at)
        if isinstance(stage.form, Window):
            raise BoxRefused(name=stage.name, why="its reads overlap, and a window is copied point by point", at=at)
        why = _outside(stage.form.read) or _beyond_the_group(stage.form, loops) or _beyond_the_axis(stage, loops)
        if why:
            raise BoxRefused(name=stage.name, why=why, at=at)
        memory = memory_of(stage.source, context.variant.when)
        box = box_of(stage.form.read, stage.form.axes, memory, context.facts)
        if isinstance(box, str):
            raise BoxRefused(name=stage.name, why=box, at=at)
        check_known(plan, memory, at)
        check_map(context, memory, box, "copy: async", at)
        _check_slots(stage, box, memory, at)
        stepped = tiled | {loop.axis for loop in loops if not loop.unrolled}
        _check_not_empty(context, memory, stage.form.read, stepped, at)


def check_boxed_stores(context: Context, plan: KernelPlan) -> None:
    """Every output that the copy engine stores is a box in every piece, nothing but edges of the tensor cuts it, and
    nobody reads the memory that it goes to. Raises ``TargetLacks``, ``BoxRefused``, ``BoxNotAligned`` or
    ``NoEffect``."""
    tiled = {t.axis: t for t in plan.tile}
    for node, loops in _writes_in(plan.nodes, ()):
        place = context.record.place.get(node.func.name)
        if place is None:
            continue
        name = node.func.name
        if node.copy is not Copy.TMA:
            if node.depth > 1:
                why = "only stores by the copy engine are on their way while the program goes on"
                raise NoEffect(directive="depth", name=name, why=why, at=place.location_of("depth"))
            continue
        at = place.location_of("copy")
        check_engine(context, "copy: tma", "copy: sync", at)
        if not node.via_shared:
            raise BoxRefused(name=name, why="it goes out of shared memory", at=at, hint="via: shared")
        full = {axis for axis, t in tiled.items() if t.full} | {loop.axis for loop in loops if loop.full}
        sizes = computed_sizes(plan.record, plan.tile) | {loop.axis: loop.size for loop in loops}
        memory = memory_of(node.func, context.variant.when)
        why = _cut_elsewhere(node, memory, full, loops)
        if why:
            raise BoxRefused(name=name, why=why, at=at, hint="copy: sync")
        widths = dict(node.chunk)
        axes = [(axis, min(sizes[axis], widths.get(axis.name, sizes[axis]))) for axis in node.axes if axis in sizes]
        box = box_of(Read(node.func, node.indices), _last(axes, node, memory), memory, context.facts)
        if isinstance(box, str):
            raise BoxRefused(name=name, why=box, at=at, hint="copy: sync")
        check_known(plan, memory, at)
        check_map(context, memory, box, "copy: sync", at)
        size = math.prod(box.extents) * memory.dtype.bytes
        if node.depth > 1 and size % TILE_ALIGNMENT:
            why = f"pieces of {size} bytes do not all begin at multiples of {TILE_ALIGNMENT} bytes"
            raise BoxRefused(name=name, why=why, at=at, hint="depth: 1, or larger pieces")


def _last(axes: Sequence[tuple[Axis, int]], node: Write, memory: Memory) -> list[tuple[Axis, int]]:
    """Axes with the one along the contiguous dim last, as a buffer has them if it can."""
    inner = node.indices[-1] if memory.strides[-1] == const(1) else None
    last = inner.axis if isinstance(inner, AxisRef) else None
    return sorted(axes, key=lambda pair: pair[0] is last)


def _cut_elsewhere(node: Write, memory: Memory, full: Set[Axis], loops: Sequence[LoopAxis]) -> str:
    """Why a box would store more than the tile, or what others still read."""
    if node.update is not None:
        return "it is updated point by point"
    if node.func.output is not None and node.func.output.may_alias is not None:
        return f"it may share memory with {node.func.output.may_alias}, which other threads may still read"
    ends = {i.axis for i, n in zip(node.indices, memory.shape, strict=True) if isinstance(i, AxisRef) and spans(i, n)}
    for axis in node.axes:
        if axis.ragged is not None or any(loop.axis is axis and loop.base is not None for loop in loops):
            return f"behind the last point of a group of {axis.name} lie those of the next"
        if axis not in full and axis not in ends:
            return f"points behind the last one of {axis.name} lie inside of {memory.name}"
    return ""


def _writes_in(nodes: Sequence[Node], loops: tuple[LoopAxis, ...]) -> Iterator[tuple[Write, tuple[LoopAxis, ...]]]:
    """The stores of a tree with the loops around them and their own."""
    for node in nodes:
        if isinstance(node, Write):
            yield node, (*loops, *node.loops)
        if isinstance(node, Reduction | Write | Group):
            yield from _writes_in(node.body, (*loops, *node.loops))


def _stages_in(nodes: Sequence[Node], loops: tuple[LoopAxis, ...]) -> Iterator[tuple[Stage, tuple[LoopAxis, ...]]]:
    """The stages of a tree with the loops around them."""
    for node in nodes:
        if isinstance(node, Stage):
            yield node, loops
        elif isinstance(node, Reduction | Write | Group):
            yield from _stages_in(node.body, (*loops, *node.loops))


def _check_slots(stage: Stage, box: Box, memory: Memory, at: Location | None) -> None:
    """Every tile of a buffer begins where the copy engine can write."""
    size = math.prod(box.extents) * memory.dtype.bytes
    if stage.depth * count_of(stage.copies) > 1 and size % TILE_ALIGNMENT:
        why = f"tiles of {size} bytes do not all begin at multiples of {TILE_ALIGNMENT} bytes"
        raise BoxRefused(name=stage.name, why=why, at=at, hint="depth: 1, a larger tile, or copy: async")


def _check_not_empty(
    context: Context, memory: Memory, read: Read, stepped: Set[Axis], at: Location | None
) -> None:
    """A map has no empty dim: where one is empty, nothing may be copied. Nothing is where the axis that runs along it
    is in the grid or in a loop."""
    for index, extent in zip(read.indices, memory.shape, strict=True):
        if isinstance(index, AxisRef) and index.axis in stepped and spans(index, extent):
            continue
        if not isinstance(prove(ge(extent, 1), context.facts), Proved):
            why = f"there is no map of an empty tensor, and {extent} may be 0"
            fact = str(ge(extent, 1))
            raise BoxRefused(name=memory.name, why=why, at=at, hint=f'require "{fact}", when: {fact}, or copy: async')


def check_engine(context: Context, what: str, instead: str, at: Location | None) -> None:
    """The target has a copy engine."""
    if not context.target.has_tensor_copies:
        raise TargetLacks(what=what, least="sm_90a", target=context.target, instead=instead, at=at)


def check_known(plan: KernelPlan, memory: Memory, at: Location | None) -> None:
    """The launcher knows shape and strides of what it encodes a map of."""
    counted = {count.dim.name for count in plan.counts}
    for value in (*memory.shape, *memory.strides):
        for name in sorted(free_symbols(value) & counted):
            why = f"its map is encoded before the launch, and only the device knows {name}"
            raise BoxRefused(name=memory.name, why=why, at=at)


def check_map(context: Context, memory: Memory, box: Box, instead: str, at: Location | None) -> None:
    """A map of the memory can be encoded in every call: extents of the box, alignment and pitch."""
    name, width = memory.name, memory.dtype.bytes
    for dim in box.dims:
        if dim.extent > MOST_EXTENT and dim.axis is not None:
            why = f"its box has {dim.extent} elements along {dim.axis.name}, at most {MOST_EXTENT}"
            raise BoxRefused(name=name, why=why, at=at, hint=f"a tile of {MOST_EXTENT} along {dim.axis.name}")
    if memory.dtype.bits < 8:
        raise BoxRefused(name=name, why=f"{memory.dtype} elements are smaller than a byte", at=at)
    row = box.dims[-1].extent * width
    if row % ALIGNMENT:
        raise BoxRefused(name=name, why=f"rows of its box have {row} bytes, no multiple of {ALIGNMENT}", at=at)
    proved, missing = _pitches(memory, box, context.facts)
    if missing:
        raise BoxNotAligned(
            name=name,
            proved="; ".join(proved) or "nothing",
            missing="; ".join(missing),
            at=at,
            hint=_try(missing, instead),
        )


def _pitches(memory: Memory, box: Box, facts: Facts) -> tuple[list[str], list[str]]:
    """The conditions on address and strides that are proved, and those that are not."""
    proved: list[str] = []
    missing: list[str] = []
    condition = f"aligned({memory.name}, {ALIGNMENT})"
    (proved if memory.alignment % ALIGNMENT == 0 else missing).append(condition)
    for dim in box.dims[:-1]:
        stride = memory.strides[dim.dim]
        factor = ALIGNMENT // math.gcd(ALIGNMENT, memory.dtype.bytes)
        known, fact = divisor(stride, facts), str(eq(stride % factor, 0))
        if isinstance(stride, Const):
            fact = f"{stride} % {factor} == 0"
        found = proved if known % factor == 0 else missing
        if not (isinstance(stride, Const) and found is proved) and fact not in found:
            found.append(fact)
    return proved, missing


def _try(missing: Sequence[str], instead: str) -> str:
    fact = " and ".join(missing)
    about_dims = not any(condition.startswith("aligned") for condition in missing)
    require = f'require "{fact}" in the algorithm, or ' if about_dims else ""
    return f"{require}when: {fact}, or {instead}"


def _outside(read: Read) -> str:
    """Why elements outside of the tensor would not be what the read says."""
    source, boundary = read.source, read.boundary
    if boundary.mode not in (BoundaryMode.NONE, BoundaryMode.FILL):
        return f"outside of it the boundary is {boundary.mode.value}, not zero"
    if boundary.mode is BoundaryMode.FILL and boundary.fill != 0:
        return f"outside of it there is {boundary.fill}, not zero"
    if isinstance(source, Tensor) and source.optional:
        return "it is optional, and there is no map of a tensor that is not given"
    return ""


def _beyond_the_group(form: AxisTile, loops: Sequence[LoopAxis]) -> str:
    """Why points behind the last one of a group would not be zero."""
    for axis, _ in form.axes:
        if any(loop.axis is axis and loop.base is not None for loop in loops):
            return f"points of other groups lie behind those of {axis.name}, not zeros"
    return ""


def _beyond_the_axis(stage: Stage, loops: Sequence[LoopAxis]) -> str:
    """Why points that do not exist would not be zero in a tile that a matrix unit multiplies where it lies."""
    assert isinstance(stage.form, AxisTile)
    read = stage.form.read
    memory = read.source.shape if isinstance(read.source, Tensor) else tuple(a.extent for a in read.source.axes)
    ends = {i.axis for i, n in zip(read.indices, memory, strict=True) if isinstance(i, AxisRef) and spans(i, n)}
    full = {loop.axis for loop in loops if loop.full}
    for axis in stage.multiplied:
        if axis not in ends and axis not in full:
            return f"behind the last point of {axis.name} it has other elements, not zeros"
    return ""
