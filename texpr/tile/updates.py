"""Writes that are combined with what is in memory: atomic operations on global memory, or on a copy in shared memory
that every program brings to the memory at its end: stored if the elements are the program's own, else added."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from texpr.dtypes import DType
from texpr.lang.ir import AxisRef, OpName
from texpr.math.expr import const
from texpr.plan.access import memory_of
from texpr.plan.checks import nodes_of
from texpr.plan.errors import InvertInvalid
from texpr.plan.ir import Update, Write
from texpr.plan.private import CopyDim, copied_each_tile, copy_dims, copy_points
from texpr.plan.updates import in_steps
from texpr.schedule.words import Memory
from texpr.tile import build as tile
from texpr.tile.declarations import Buffer, Space
from texpr.tile.evaluate import address, bounds_conditions, evaluate, live
from texpr.tile.ir import Atomic, AtomicShared, Barrier, Expr, Full, SharedTile, Store, StoreShared
from texpr.tile.kernel import Block, Kernel, origin, space_for
from texpr.tile.layouts import Blocked, Linear, flat
from texpr.tile.monoids import identity
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.spaces import flat_space


def lower_update(node: Write, update: Update, kernel: Kernel, scope: Scope, block: Block) -> None:
    """One atomic operation (or store, of single points) per live point whose conditions hold and whose indices lie
    inside of the memory."""
    at_once, scope = _first_points(update, scope)
    sizes = {axis: scope.lanes(axis) for axis in node.axes}
    space = space_for([node.expr, *node.indices], sizes, kernel, scope)
    if update.aggregate:
        _check_lanes(node, space, kernel)
    value = tile.cast(evaluate(node.expr, scope, space, kernel.needs), node.func.dtype)
    memory = memory_of(node.func, scope.guard)
    kernel.needs.tensors[memory.name] = node.func
    conditions = [
        *live([axis for axis in node.axes if axis not in update.once], scope, space),
        *at_once,
        *(evaluate(part, scope, space, kernel.needs) for part in update.where),
        *bounds_conditions(memory, node.indices, scope, space, kernel.needs),
    ]
    label = origin(node.func.name, node.schedule)
    if update.memory is Memory.GLOBAL:
        base, offset = address(memory, node.indices, scope, space, kernel.needs)
        mask = _one_each(conditions, offset, space)
        if update.single:
            block.add(Store(memory.name, base, offset, mask, value, label))
        else:
            block.add(Atomic(update.op, memory.name, base, offset, mask, value, label, update.aggregate))
    else:
        index = _position(copy_dims(node, update, kernel.plan), update, scope, space, kernel)
        mask = _one_each(conditions, index, space)
        block.add(AtomicShared(update.op, kernel.privates[node.func], index, mask, value, label, update.aggregate))
    if node.func.dtype.is_float and in_steps(node, update, kernel.plan):
        block.add(Barrier("updates of a step come before those of the next"))


def _first_points(update: Update, scope: Scope) -> tuple[list[Expr], Scope]:
    """What holds in programs at the first point of the axes of ``once``, and the scope in which these have no lanes."""
    conditions: list[Expr] = []
    for axis in update.once:
        here = scope.axes[axis]
        scope = scope.with_axes({axis: AxisValue(here.origin, 1, True)})
        conditions.append(tile.op(OpName.EQ, tile.uniform(here.origin), tile.uniform(0)))
    return conditions, scope


def _one_each(conditions: Sequence[Expr], place: Expr | None, space: Space | None) -> Expr | None:
    """The conditions together, varying along all of the space: one operation per point, also where neither address
    nor condition varies."""
    parts = list(conditions)
    if space is not None:
        varying = {dim for part in (*parts, *([] if place is None else [place])) for dim in part.dims}
        still = [dim for dim in range(len(space.dims)) if dim not in varying]
        parts += [tile.op(OpName.GE, tile.position(space, dim), tile.uniform(0)) for dim in still]
    return tile.both(parts)


def _check_lanes(node: Write, space: Space | None, kernel: Kernel) -> None:
    """Every lane of a warp has a point of its own: what several lanes hold would be counted by each of them."""
    layout = None if space is None else space.layout
    match layout:
        case Blocked(each=each, lanes=lanes):
            assert space is not None
            fits = all(size >= a * b for size, a, b in zip(space.shape, each, lanes, strict=True))
        case Linear(lanes=bases):
            fits = all(any(base) for base in bases)
        case _:
            fits = False
    if not fits:
        points = 1 if space is None else math.prod(space.shape)
        why = f"aggregate: warp needs a point for every lane, and the tile has {points}"
        at = kernel.plan.record.place[node.func.name].location_of("aggregate")
        raise InvertInvalid(func=node.func.name, why=why, hint="a tile of 32 points or more", at=at)


# ---- copies in shared memory ----------------------------------------------------------------------------------------


def _position(
    dims: Sequence[CopyDim], update: Update, scope: Scope, space: Space | None, kernel: Kernel
) -> Expr:
    """Where in the program's copy the element of a point lies: row-major over the dims."""
    local = {
        dim.axis: dataclasses.replace(scope.axes[dim.axis], origin=const(scope.axes[dim.axis].start))
        for dim in dims
        if dim.local and dim.axis in scope.axes
    }
    inside = scope.with_axes(local)
    position: Expr = tile.uniform(0)
    stride = 1
    for dim, (_, index) in reversed(list(zip(dims, update.elements, strict=True))):
        at = inside if dim.local else scope
        here = tile.cast(evaluate(index, at, space, kernel.needs), DType.I32)
        position = tile.op(OpName.ADD, position, tile.op(OpName.MUL, here, tile.uniform(stride)))
        stride *= dim.size
    return position


def _copies(kernel: Kernel, each_tile: bool) -> list[tuple[Write, Update]]:
    """The copies that live as long as a tile, or as the program."""
    return [
        (node, node.update)
        for node in nodes_of(kernel.plan.nodes)
        if isinstance(node, Write) and node.update is not None and node.update.memory is Memory.SHARED
        if copied_each_tile(node.update, kernel.plan) is each_tile
    ]


def _copy_space(node: Write, update: Update, kernel: Kernel) -> Space:
    name = f"{node.func.name}_point".replace(".", "_")
    return flat_space(name, copy_points(node, update, kernel.plan), kernel.plan.warps, 1)


def start_copies(kernel: Kernel, block: Block, *, each_tile: bool) -> None:
    """The copies that a program keeps in shared memory, set to the value of no points."""
    for node, update in _copies(kernel, each_tile):
        space = _copy_space(node, update, kernel)
        name = kernel.name(f"{node.func.name}_copy")
        kernel.privates[node.func] = name
        note = f"{node.func.name}, this program's part"
        kernel.buffer(Buffer(name, node.func.dtype, space.shape, 0, flat(), note))
        (start,) = identity(update.op, (node.func.dtype,))
        full = Full(start, node.func.dtype, space, (0,))
        block.add(StoreShared(name, None, full, origin=origin(node.func.name, node.schedule)))


def finish_copies(kernel: Kernel, scope: Scope, block: Block, *, each_tile: bool) -> None:
    """Bring what a program has found to the memory: all of it where it is the program's own, else what it has touched
    is added."""
    for node, update in _copies(kernel, each_tile):
        space = _copy_space(node, update, kernel)
        found = SharedTile(kernel.privates[node.func], None, (0,), node.func.dtype, space, (0,))
        conditions, _ = _first_points(update, scope)
        points: dict[object, AxisValue] = {}
        rest: Expr = tile.position(space, 0)
        dims = copy_dims(node, update, kernel.plan)
        for dim in reversed(dims):
            here = rest
            if dim is not dims[0]:
                here = tile.op(OpName.MOD, rest, tile.uniform(dim.size))
                rest = tile.op(OpName.FLOORDIV, rest, tile.uniform(dim.size))
            inside = dim.points == dim.size
            if dim.local:
                here = tile.op(OpName.ADD, here, tile.uniform(scope.axes[dim.axis].origin))
                inside = scope.axes[dim.axis].full
            points[dim.axis] = AxisValue(const(0), 1, full=inside, tile=here)
        at = scope.with_axes({dim.axis: points[dim.axis] for dim in dims})
        indices = [AxisRef(dim.axis) for dim in dims]
        memory = memory_of(node.func, scope.guard)
        kernel.needs.tensors[memory.name] = node.func
        conditions += bounds_conditions(memory, indices, at, space, kernel.needs)
        base, offset = address(memory, indices, at, space, kernel.needs)
        label = origin(node.func.name, node.schedule)
        if update.owned:
            mask = _one_each(conditions, offset, space) if offset is None else tile.both(conditions)
            block.add(Store(memory.name, base, offset, mask, found, label))
            continue
        (start,) = identity(update.op, (node.func.dtype,))
        mask = tile.both([*conditions, tile.op(OpName.NE, found, start)])
        block.add(Atomic(update.op, memory.name, base, offset, mask, found, label))
