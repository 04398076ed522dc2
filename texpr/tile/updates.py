"""Writes that are combined with what is in memory: atomic operations on global memory, or on a copy in shared memory
that every program adds to the memory at its end."""

from __future__ import annotations

import math

from texpr.dtypes import DType
from texpr.lang.ir import OpName
from texpr.math.expr import IntExpr, const
from texpr.plan.access import memory_of
from texpr.plan.checks import nodes_of
from texpr.plan.ir import Update, Write
from texpr.plan.resolve import constant
from texpr.schedule.records import Memory
from texpr.tile import build as tile
from texpr.tile.evaluate import address, bounds_conditions, evaluate, live
from texpr.tile.ir import Atomic, AtomicShared, Buffer, Expr, Full, SharedTile, StoreShared
from texpr.tile.kernel import Block, Kernel, origin, space_for
from texpr.tile.layouts import flat
from texpr.tile.monoids import identity
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.spaces import flat_space


def lower_update(node: Write, update: Update, kernel: Kernel, scope: Scope, block: Block) -> None:
    """One atomic operation per live point whose conditions hold and whose indices lie inside of the memory."""
    at_once: list[Expr] = []
    for axis in update.once:
        here = scope.axes[axis]
        scope = scope.with_axes({axis: AxisValue(here.origin, 1, True)})
        at_once.append(tile.op(OpName.EQ, tile.uniform(here.origin), tile.uniform(0)))
    sizes = {axis: scope.lanes(axis) for axis in node.axes}
    space = space_for([node.expr, *node.indices], sizes, kernel, scope)
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
    base, offset = address(memory, node.indices, scope, space, kernel.needs)
    if space is not None:  # one operation per point, also where neither address nor condition varies
        varying = {dim for part in (*conditions, *([] if offset is None else [offset])) for dim in part.dims}
        still = [dim for dim in range(len(space.dims)) if dim not in varying]
        conditions += [tile.op(OpName.GE, tile.position(space, dim), tile.uniform(0)) for dim in still]
    mask = tile.both(conditions)
    if update.memory is Memory.GLOBAL:
        block.add(Atomic(update.op, memory.name, base, offset, mask, value, label))
        return
    index = tile.uniform(base)
    if offset is not None:
        index = tile.cast(tile.op(OpName.ADD, offset, tile.uniform(base)), DType.I32)
    block.add(AtomicShared(update.op, kernel.privates[node.func], index, mask, value, label))


def start_copies(kernel: Kernel, block: Block) -> None:
    """The copies that a program keeps in shared memory, set to the value of no points."""
    for node in nodes_of(kernel.plan.nodes):
        if not isinstance(node, Write) or node.update is None or node.update.memory is not Memory.SHARED:
            continue
        points = _points(node)
        size = 1 << (points - 1).bit_length()
        name = kernel.name(f"{node.func.name}_copy")
        kernel.privates[node.func] = name
        kernel.buffer(Buffer(name, node.func.dtype, (size,), 0, flat(), f"{node.func.name}, this program's part"))
        (start,) = identity(node.update.op, (node.func.dtype,))
        space = flat_space(f"{node.func.name}_point".replace(".", "_"), size, kernel.plan.warps, 1)
        full = Full(start, node.func.dtype, space, (0,))
        block.add(StoreShared(name, None, full, origin=origin(node.func.name, node.schedule)))


def finish_copies(kernel: Kernel, scope: Scope, block: Block) -> None:
    """Add what a program has found to the memory: elements that it has not touched are left out."""
    for node in nodes_of(kernel.plan.nodes):
        if not isinstance(node, Write) or node.update is None or node.func not in kernel.privates:
            continue
        points = _points(node)
        size = 1 << (points - 1).bit_length()
        space = flat_space(f"{node.func.name}_point".replace(".", "_"), size, kernel.plan.warps, 1)
        found = SharedTile(kernel.privates[node.func], None, (0,), node.func.dtype, space, (0,))
        (start,) = identity(node.update.op, (node.func.dtype,))
        lane = tile.position(space, 0)
        conditions = [tile.op(OpName.NE, found, start)]
        if size > points:
            conditions.append(tile.op(OpName.LT, lane, tile.uniform(points)))
        memory = memory_of(node.func, scope.guard)
        base: IntExpr = const(0)
        label = origin(node.func.name, node.schedule)
        block.add(Atomic(node.update.op, memory.name, base, lane, tile.both(conditions), found, label))


def _points(node: Write) -> int:
    extents = [constant(axis.extent) for axis in node.func.axes]
    return math.prod(extent for extent in extents if extent is not None)
