"""Guards that zero operands of contractions, applied where the operands are copied to shared memory.

A conjunct of a guard over an operand's own axes zeroes that operand, whatever lies in memory there. If the operand is
a staged tile, it is cheapest to not fetch those elements: the copy leaves zeros, and the operand needs no selection of
its own. That is right if nobody sees the difference. Nobody does if the tile has one reader, or if it is copied in a
loop whose reductions all leave out the points where the guard fails, and what they read there is found point by point.

The copy runs ahead of the loop, so it must know the guard. An asynchronous copy leaves out whole pieces of several
elements, so its guard must be the same along the last axis. The copy engine leaves out nothing: what it has brought is
zeroed in shared memory, in those steps in which the guard does not hold everywhere, and only for operands that the
guard zeroes. A guard that ends where the tensor does (as that of the last part of a split reduction) needs nothing: the
engine brings zeros from outside of the tensor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from texpr.lang.index import to_int_expr
from texpr.lang.ir import Axis, Cast, Expr, Op, OpName, Read, Tensor
from texpr.plan.inline import Key, axes_of, conjuncts, key_of, reads_of
from texpr.plan.ir import AxisTile, Compute, Dot, Group, Node, Prefixes, Reduction, Stage, Write
from texpr.schedule.words import Copy, Memory


def zeroed_by_copies(
    stage: Stage, nodes: Sequence[Node], sizes: Mapping[Axis, int]
) -> tuple[Stage, tuple[Node, ...]]:
    """The stage with the guards that its copies apply, and the nodes without them. ``nodes`` are those of the tile, or
    the one whose loop the stage stands in; ``sizes`` the lanes of the axes that stand somewhere at its position."""
    form = stage.form
    if not isinstance(form, AxisTile) or stage.memory is not Memory.SHARED:
        return stage, tuple(nodes)
    if stage.copy is Copy.TMA:
        ends = {key_of(guard) for guard in _of_operand(nodes, form) if _ends_with_tensor(guard, form.read)}
        nodes = [_without(node, form, ends) for node in nodes]
    own = [axis for axis, _ in form.axes]
    known = {axis for axis, size in sizes.items() if size == 1} | {*(own[:-1] if stage.copy is Copy.ASYNC else own)}
    guards = _of_loop(nodes, form, sizes) or (_of_operand(nodes, form) if len(stage.reads) == 1 else [])
    applied = [
        guard
        for guard in guards
        if axes_of(guard) <= known and all(isinstance(read.source, Tensor) for read in reads_of(guard))
    ]
    if stage.copy is Copy.TMA:
        needed = {key_of(guard) for guard in _of_operand(nodes, form)}
        applied = [guard for guard in applied if key_of(guard) in needed]
    if not applied:
        return stage, tuple(nodes)
    keys = {key_of(guard) for guard in applied}
    return dataclasses.replace(stage, where=tuple(applied)), tuple(_without(node, form, keys) for node in nodes)


def _ends_with_tensor(guard: Expr, read: Read) -> bool:
    """Whether a guard says no more than that an index of the read is below the extent of its dim."""
    if not isinstance(guard, Op) or guard.name is not OpName.LT or not isinstance(read.source, Tensor):
        return False
    index, extent = map(to_int_expr, guard.args)
    dims = zip(read.indices, read.source.shape, strict=True)
    return index is not None and any(to_int_expr(each) == index and size == extent for each, size in dims)


def _of_operand(nodes: Sequence[Node], form: AxisTile) -> list[Expr]:
    """The guards of the operand that the tile is."""
    found: list[Expr] = []
    for node in nodes:
        if isinstance(node, Reduction) and node.dot is not None:
            found += node.dot.a_where if _is_tile(node.dot.a, form) else ()
            found += node.dot.b_where if _is_tile(node.dot.b, form) else ()
        found += _of_operand(_body(node), form)
    return found


def _of_loop(nodes: Sequence[Node], form: AxisTile, sizes: Mapping[Axis, int]) -> list[Expr]:
    """The guards of all reductions of a loop in which the tile is an operand; none where a value that is found in the
    loop could carry what lies at one point to another."""
    if len(nodes) != 1 or not isinstance(nodes[0], Reduction | Group) or not nodes[0].loops:
        return []
    owner = nodes[0]
    if not _is_operand(nodes, form):
        return []
    members = [owner] if isinstance(owner, Reduction) else [
        node for node in owner.body if isinstance(node, Reduction) and node.carried is not None
    ]
    common = conjuncts(members[0].where)
    for member in members[1:]:
        keys = {key_of(guard) for guard in conjuncts(member.where)}
        common = [guard for guard in common if key_of(guard) in keys]
    others = [node for node in owner.body if not any(node is member for member in members)]
    return [guard for guard in common if all(_by_points(node, _moving(guard, sizes)) for node in others)]


def _moving(guard: Expr, sizes: Mapping[Axis, int]) -> frozenset[Axis]:
    return frozenset(axis for axis in axes_of(guard) if sizes.get(axis, 1) > 1)


def _by_points(node: Node, axes: frozenset[Axis]) -> bool:
    """Whether what a node finds at a point along ``axes`` depends on that point alone."""
    match node:
        case Stage():
            return True
        case Compute(memory=memory):
            return memory is Memory.REGISTERS
        case Reduction(axes=reduced, body=body):
            return not axes & set(reduced) and all(_by_points(inner, axes) for inner in body)
        case Group() | Prefixes() | Write():
            return False


def _is_operand(nodes: Sequence[Node], form: AxisTile) -> bool:
    return any(
        (isinstance(node, Reduction) and node.dot is not None
         and (_is_tile(node.dot.a, form) or _is_tile(node.dot.b, form)))
        or _is_operand(_body(node), form)
        for node in nodes
    )  # fmt: skip


def _without(node: Node, form: AxisTile, keys: set[Key]) -> Node:
    """A node whose contractions do not select what the copy has zeroed."""
    if isinstance(node, Reduction) and node.dot is not None:
        node = dataclasses.replace(node, dot=_selecting_less(node.dot, form, keys))
    if isinstance(node, Reduction | Group | Write) and node.body:
        node = dataclasses.replace(node, body=tuple(_without(inner, form, keys) for inner in node.body))
    return node


def _selecting_less(dot: Dot, form: AxisTile, keys: set[Key]) -> Dot:
    if _is_tile(dot.a, form):
        dot = dataclasses.replace(dot, a_where=tuple(guard for guard in dot.a_where if key_of(guard) not in keys))
    if _is_tile(dot.b, form):
        dot = dataclasses.replace(dot, b_where=tuple(guard for guard in dot.b_where if key_of(guard) not in keys))
    return dot


def _body(node: Node) -> tuple[Node, ...]:
    return node.body if isinstance(node, Reduction | Group | Write) else ()


def _is_tile(operand: Expr, form: AxisTile) -> bool:
    while isinstance(operand, Cast):
        operand = operand.value
    return isinstance(operand, Read) and key_of(operand) == key_of(form.read)
