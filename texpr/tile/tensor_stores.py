"""Outputs that the copy engine stores: each piece of a tile goes to a slot of shared memory, and from there to global
memory while the program computes on.

    wait until at most depth - 1 stores still read shared memory: the slot is free
    slot = piece;  fence, so that the copy engine sees it;  start the store

The engine leaves out what lies beyond the edges of the tensor. The end of the program waits for the last stores.
"""

from __future__ import annotations

from texpr.lang.ir import Read
from texpr.math.expr import IntExpr, const, sym
from texpr.plan.access import Memory, memory_of
from texpr.plan.boxes import Box, box_of
from texpr.plan.errors import NotLowered
from texpr.plan.ir import Write
from texpr.tile import build as tile
from texpr.tile.boxes import box_layout, coordinates, in_order, tensor_map
from texpr.tile.declarations import Buffer, Space
from texpr.tile.evaluate import evaluate
from texpr.tile.ir import StoreShared
from texpr.tile.kernel import Block, Kernel, origin, space_for
from texpr.tile.layouts import ctas_of
from texpr.tile.protocol import Advance, FenceAsync, StoreTensor, WaitStores
from texpr.tile.scope import Scope


def store_boxes(node: Write, kernel: Kernel, pieces: list[Scope], block: Block) -> None:
    """Store the pieces of a tile one after the other."""
    first: IntExpr = const(0)
    if pieces[0].repeated and len(pieces) % node.depth:
        name = kernel.stored.get(node.func)
        if name is None:
            name = kernel.stored[node.func] = kernel.name(f"{node.func.name}_stored")
            kernel.carried.append(name)
        first = sym(name)
    for n, piece in enumerate(pieces):
        _store_box(node, (first + n) % node.depth, kernel, piece, block)
    if first != const(0):
        block.add(Advance(kernel.stored[node.func], const(len(pieces))))


def drain_stores(kernel: Kernel, block: Block) -> None:
    """Wait for the last stores of a program, whose memory would be given back else."""
    if kernel.boxed:
        block.add(WaitStores(0))


def _store_box(node: Write, slot: IntExpr, kernel: Kernel, scope: Scope, block: Block) -> None:
    sizes = {axis: scope.lanes(axis) for axis in node.axes}
    space = space_for([node.expr], sizes, kernel, scope)
    value = tile.cast(evaluate(node.expr, scope, space, kernel.needs), node.func.dtype)
    if space is None:
        raise NotLowered(what=f"copy: tma of single points of {node.func.name}", instead="copy: sync")
    memory = memory_of(node.func, scope.guard)
    box = _box(node, space, memory, scope)
    buffer = _buffer(node, space, kernel)
    stage = slot if buffer.depth else None
    label = origin(node.func.name, node.schedule)
    store = StoreTensor(
        tensor_map(memory, box, buffer, kernel),
        coordinates(Read(node.func, node.indices), box, scope),
        buffer.name,
        stage,
        label,
    )
    kernel.boxed.append(store)
    block.add(WaitStores(node.depth - 1))
    block.add(StoreShared(buffer.name, stage, tile.cast(value, node.func.dtype), origin=label))
    block.add(FenceAsync("the copy engine sees what was written"), store)


def _buffer(node: Write, space: Space, kernel: Kernel) -> Buffer:
    """The slots of an output: one for all places that store it."""
    if id(node) not in kernel.owned:
        name = kernel.name(f"{node.func.name}_shared")
        depth = node.depth if node.depth > 1 else 0
        layout = box_layout(space.shape, node.func.dtype.bytes, ctas_of(space.layout))
        note = f"{node.func.name} on its way to global memory"
        kernel.owned[id(node)] = Buffer(name, node.func.dtype, space.shape, depth, layout, note)
        kernel.buffer(kernel.owned[id(node)])
    return kernel.owned[id(node)]


def _box(node: Write, space: Space, memory: Memory, scope: Scope) -> Box:
    rows = space.dims[-1].axes
    axes = [(axis, scope.lanes(axis)) for axis in node.axes if scope.lanes(axis) > 1]
    why = f"rows that join {' and '.join(name for name, _ in rows)}" if len(rows) > 1 else ""
    found = box_of(Read(node.func, node.indices), in_order(axes, space.dims), memory, scope.facts)
    if why or isinstance(found, str):
        raise NotLowered(what=f"copy: tma of {node.func.name} ({why or found})", instead="copy: sync")
    return found
