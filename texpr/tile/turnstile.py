"""Lowering of what programs combine in turn: wait, take over, combine, and leave it to the next one or go on with it.

    a part of the tile in registers, as if it were all of it
    if there are parts before it:
        wait until it is its turn
        combine what they come to, in memory, with its own
    if there are parts after it:
        store what it has now; pass the turn on
    if it is the last part:
        all that follows

The memory is laid out by tiles, so that it needs no masks and every program of a tile finds each element where the one
before it has left it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from texpr.lang.ir import Monoid, OpName, ReduceOp
from texpr.math.expr import IntExpr, const, sym
from texpr.plan.access import memory_of
from texpr.plan.ir import Cover, Node, Reduction, Turnstile
from texpr.tile import build as tile
from texpr.tile.communicate import AwaitTurn, PassTurn, Receive
from texpr.tile.ir import Barrier, If, Store, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, LowerNodes, assign, assign_together, origin
from texpr.tile.layouts import Blocked
from texpr.tile.monoids import combine
from texpr.tile.scope import Scope
from texpr.tile.uniform import Scalar

Merge = Callable[[Sequence[Var], Block], None]
"""Combine what the parts before come to with the program's own values, in place."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a program waits for and where: the row that it takes over, when its word is ``number``, if it ``goes_on``
    with a tile, and the row that it leaves to others if it ``is_not_last``."""

    number: IntExpr
    taken: IntExpr
    left: IntExpr
    goes_on: TileExpr
    is_not_last: TileExpr


def combined_in_turn(
    op: ReduceOp | Monoid, node: Reduction, values: Sequence[TileExpr], kernel: Kernel, scope: Scope, block: Block
) -> tuple[TileExpr, ...]:
    """The components of a reduction combined with those of the parts before."""
    own = tuple(
        assign(f"{func.name}_upto", value, kernel, block, node.schedule)
        for func, value in zip(node.funcs, values, strict=True)
    )

    def merge(before: Sequence[Var], into: Block) -> None:
        assign_together(own, combine(op, tuple(before), own), kernel, into)

    hand_over([(var,) for var in own], merge, kernel, scope, block)
    return own


def hand_over(
    components: Sequence[Sequence[Var]], merge: Merge, kernel: Kernel, scope: Scope, block: Block
) -> None:
    """Combine ``components`` with what the parts before come to, and leave the result to the part after. Each component
    is in one tile or several, which lie one after the other in its memory."""
    turnstile = kernel.plan.turnstile
    assert turnstile is not None
    turn = _turn(turnstile, kernel, scope, block)
    words = memory_of(turnstile.words, scope.guard).name
    kernel.needs.tensors[words] = turnstile.words
    kernel.needs.limits[turnstile.words.shape[0]] = None
    what = origin(turnstile.funcs[0].name, "")
    taken, left = Block(), Block()
    taken.add(AwaitTurn(words, turn.taken + 1, turn.number, what))
    if turn.taken is turn.left:
        left.add(Barrier("what is overwritten has been read"))
    before: list[Var] = []
    for state, variables in zip(turnstile.states, components, strict=True):
        memory = memory_of(state, scope.guard)
        kernel.needs.tensors[memory.name] = state
        done = 0
        for var in variables:
            offset, space = _offset(var), var.space if var.dims else None
            name = kernel.name(f"{var.name}_before")
            found, at = turn.taken * state.shape[1] + done, turn.left * state.shape[1] + done
            taken.add(Receive(name, memory.name, found, offset, var.dtype, space, var.dims))
            left.add(Store(memory.name, at, offset, None, var, what))
            before.append(Var(name, var.dtype, space, var.dims))
            done += math.prod(_sizes(var).values())
    merge(before, taken)
    left.add(PassTurn(words, turn.left + 1, turn.number + 1 if turn.taken is turn.left else const(1)))
    block.add(If(turn.goes_on, tuple(taken.statements), "in turn, after the parts before"))
    block.add(If(turn.is_not_last, tuple(left.statements), "the next part goes on"))


def by_the_last(nodes: Sequence[Node], kernel: Kernel, scope: Scope, block: Block, lower: LowerNodes) -> Scope:
    """What the program with the last part of a tile does."""
    turnstile = kernel.plan.turnstile
    assert turnstile is not None
    inner = Block()
    if kernel.share is None:
        here, last = scope.axes[turnstile.axis].origin, turnstile.axis.extent - 1
    else:
        here, last = kernel.share.stop, kernel.share.steps
    scope = lower(nodes, kernel, scope, inner)
    condition = tile.op(OpName.EQ, tile.uniform(here), tile.uniform(last))
    block.add(If(condition, tuple(inner.statements), "the last part has all of the tile"))
    return scope


def _turn(turnstile: Turnstile, kernel: Kernel, scope: Scope, block: Block) -> _Turn:
    share = kernel.share
    if share is not None:  # every program has a row of its own, which is stored once
        goes_on = tile.op(OpName.GT, tile.uniform(share.first), tile.uniform(0))
        is_not_last = tile.op(OpName.LT, tile.uniform(share.stop), tile.uniform(share.steps))
        return _Turn(const(1), share.program - 1, share.program, goes_on, is_not_last)
    part = scope.axes[turnstile.axis].origin
    row = sym(kernel.name("turnstile"))
    block.add(Scalar(row.name, _tile_number(turnstile, kernel, scope), "the tile, without its parts"))
    goes_on = tile.op(OpName.GT, tile.uniform(part), tile.uniform(0))
    is_not_last = tile.op(OpName.LT, tile.uniform(part), tile.uniform(turnstile.axis.extent - 1))
    return _Turn(part, row, row, goes_on, is_not_last)


def _tile_number(turnstile: Turnstile, kernel: Kernel, scope: Scope) -> IntExpr:
    """Row-major over the grid, without the parts."""
    number: IntExpr = const(0)
    for t in kernel.plan.tile:
        if t.cover is Cover.GRID and t.axis is not turnstile.axis:
            number = number * t.count + scope.axes[t.axis].origin // t.size
    return number


def _sizes(var: Var) -> dict[int, int]:
    """The points along each dim that a value varies along, in the order in which they lie in memory: neighbours that a
    thread holds are neighbours there."""
    if var.space is None:
        return {}
    layout = var.space.layout
    order = reversed(layout.order) if isinstance(layout, Blocked) else range(len(var.space.dims))
    return {dim: var.space.dims[dim].size for dim in order if dim in var.dims}


def _offset(var: Var) -> TileExpr | None:
    """Where the elements of a value lie, from the first one on."""
    offset: TileExpr | None = None
    stride = 1
    for dim, size in reversed(_sizes(var).items()):
        assert var.space is not None
        along: TileExpr = tile.position(var.space, dim)
        if stride > 1:
            along = tile.op(OpName.MUL, along, tile.uniform(stride))
        offset = along if offset is None else tile.op(OpName.ADD, along, offset)
        stride *= size
    return offset
