"""``order: {flatten: [i, j, k]}``: programs share out the steps of a reduction's loop in all tiles (stream-K).

    persistent: true                          split_reduction: {of: [acc], over: k, by: program, combine: turnstile}

The steps of ``k`` in the tiles of the grid are one sequence, ``k`` the fastest, and program p of P has those from
``p * steps // P`` on, up to one more than others. It goes from its last tile to its first: what it has of its last one
is ready early, for the next program, which comes to that tile at its end. Programs wait for lower numbers only, and
number themselves in the order in which they start (Osama, Merrill, Cecka, Garland and Owens, Stream-K: work-centric
parallel decomposition for dense matrix multiplication on the GPU, 2023; there the first program of a tile adds up).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from texpr.lang.ir import Axis
from texpr.math.expr import IntExpr, ceildiv, maximum
from texpr.plan.attach import node_body, node_loops
from texpr.plan.errors import FlattenInvalid
from texpr.plan.ir import Group, LoopAxis, Node, Reduction
from texpr.plan.parts import by_turns, step_of
from texpr.plan.resolve import Context
from texpr.schedule.places import SplitReduction
from texpr.schedule.records import Order
from texpr.schedule.words import OrderKind


def steps_of_axis(axis: Axis, size: int) -> IntExpr:
    """The steps of a tile: one at least, since somebody stores also what is the sum of nothing."""
    return maximum(ceildiv(axis.extent, size), 1)


def steps_in_turn(context: Context, tiles: IntExpr) -> IntExpr:
    """What programs of a persistent kernel are shared out: tiles, or the steps in all of them."""
    record = by_turns(context.record)
    order = context.record.order
    if record is None or order is None or order.kind is not OrderKind.FLATTEN:
        return tiles
    return tiles * steps_of_axis(context.axes[record.over], step_of(context.record, record.of, record.over))


def check_flattened(context: Context, record: SplitReduction | None) -> None:
    """An order that shares out steps goes with reductions that are combined in turn, by program, and the other way
    round. Raises ``FlattenInvalid``."""
    order = context.record.order
    flat = order is not None and order.kind is OrderKind.FLATTEN
    by_program = record is not None and record.parts is None
    at = context.record.location_of("order") if flat else record.location_of("combine") if record is not None else None
    if flat and not by_program:
        assert order is not None
        why = "programs share out the steps of a reduction, and no split_reduction says of which"
        loop = order.axes[-1]
        hint = f"split_reduction: {{of: [acc], over: {loop}, by: program, combine: turnstile}}"
        raise FlattenInvalid(why=why, hint=hint, at=at)
    if record is None or not by_program:
        return
    axes = [*context.record.grid, record.over]
    wanted = f"order: {{flatten: [{', '.join(axes)}]}}"
    if not flat:
        why = f"parts of {record.of[0]} by program are combined in turn, and no order shares out its steps"
        raise FlattenInvalid(why=why, hint=f"{wanted}, or combine: two_pass", at=at)
    assert order is not None
    _check_axes(context, record, order, axes, wanted)


def _check_axes(context: Context, record: SplitReduction, order: Order, axes: Sequence[str], wanted: str) -> None:
    at = context.record.location_of("order")
    if order.axes[-1] != record.over or set(order.axes) != set(axes):
        why = f"it is along {', '.join(order.axes)}, not along the grid and then {record.over}"
        raise FlattenInvalid(why=why, hint=wanted, at=at)
    if context.record.persistent is None:
        why = "a program has a share of all steps, so it goes on from tile to tile"
        raise FlattenInvalid(why=why, hint="persistent: true", at=at)


def shared_loop(
    context: Context, record: SplitReduction, node: Reduction | Group, nodes: Sequence[Node]
) -> LoopAxis:
    """The loop whose steps are shared out. Raises ``FlattenInvalid``."""
    at = context.record.location_of("order")
    loop = next((loop for loop in node.loops if loop.axis.name == record.over), None)
    if loop is None:
        why = f"{record.of[0]} has no loop over {record.over}"
        hint = f"place: {{{record.of[0]}: {{loop: {{{record.over}: 64}}}}}}"
        raise FlattenInvalid(why=why, hint=hint, at=at)
    how = [
        word
        for word, found in (
            ("trim", loop.trim is not None),
            ("skip", loop.skip is not None),
            ("unroll", loop.unrolled),
            ("base", loop.base is not None),
        )
        if found
    ]
    if how:
        why = f"the loop over {record.over} has {how[0]}, and programs share out all of its steps"
        raise FlattenInvalid(why=why, hint=f"no {how[0]}", at=at)
    for other in nodes:
        if other is not node and any(each.axis is loop.axis for each in _loops(other)):
            why = f"another loop over {record.over} would be gone through in every program that has part of a tile"
            raise FlattenInvalid(why=why, hint="another kernel for it", at=at)
    return loop


def _loops(node: Node) -> Iterator[LoopAxis]:
    yield from node_loops(node)
    for inner in node_body(node):
        yield from _loops(inner)
