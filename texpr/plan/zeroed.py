"""Guards that zero an operand of a contraction, applied where the operand is copied to shared memory.

A conjunct of a guard over an operand's own axes zeroes that operand, whatever lies in memory there. If the operand is
a staged tile, it is cheapest to not fetch those elements: the copy leaves zeros, and the operand needs no selection of
its own. That is right if nobody else reads the tile, and if the copy knows the guard: it runs ahead of the loop. An
asynchronous copy leaves out whole pieces of several elements, so its guard must be the same along the last axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from texpr.lang.ir import Axis, Cast, Expr, Read, Tensor
from texpr.plan.inline import axes_of, key_of, reads_of
from texpr.plan.ir import AxisTile, Dot, Group, Node, Reduction, Stage, Write
from texpr.schedule.records import Copy, Memory


def zeroed_by_copies(
    stage: Stage, nodes: Sequence[Node], sizes: Mapping[Axis, int]
) -> tuple[Stage, tuple[Node, ...]]:
    """The stage with the guards of the only contraction that reads it, and the nodes without them. ``sizes`` are the
    lanes of the axes that stand somewhere at the stage's position."""
    form = stage.form
    if not isinstance(form, AxisTile) or stage.memory is not Memory.SHARED or len(stage.reads) != 1:
        return stage, tuple(nodes)
    own = [axis for axis, _ in form.axes]
    known = {axis for axis, size in sizes.items() if size == 1} | {*(own[:-1] if stage.copy is Copy.ASYNC else own)}
    taken: list[Expr] = []

    def visit(node: Node) -> Node:
        if isinstance(node, Reduction) and node.dot is not None:
            node = dataclasses.replace(node, dot=_without(node.dot, form, known, taken))
        if isinstance(node, Reduction | Group | Write) and node.body:
            node = dataclasses.replace(node, body=tuple(visit(inner) for inner in node.body))
        return node

    changed = tuple(visit(node) for node in nodes)
    return (dataclasses.replace(stage, where=tuple(taken)), changed) if taken else (stage, tuple(nodes))


def _without(dot: Dot, form: AxisTile, known: set[Axis], taken: list[Expr]) -> Dot:
    """The contraction without the guards of the operand that the tile is; ``taken`` collects them."""
    if _is_tile(dot.a, form):
        return dataclasses.replace(dot, a_where=_left(dot.a_where, known, taken))
    if _is_tile(dot.b, form):
        return dataclasses.replace(dot, b_where=_left(dot.b_where, known, taken))
    return dot


def _is_tile(operand: Expr, form: AxisTile) -> bool:
    while isinstance(operand, Cast):
        operand = operand.value
    return isinstance(operand, Read) and key_of(operand) == key_of(form.read)


def _left(guards: Sequence[Expr], known: set[Axis], taken: list[Expr]) -> tuple[Expr, ...]:
    left: list[Expr] = []
    for guard in guards:
        of_inputs = all(isinstance(read.source, Tensor) for read in reads_of(guard))
        (taken if of_inputs and axes_of(guard) <= known else left).append(guard)
    return tuple(left)
