"""Whether a guard can hold anywhere in a tile, and statements that are executed only if it can.

    a < b    the least value of a - b over the tile is negative; and its like, where a - b is linear in the lanes
    other    or of its values over the tile, which the program finds by a reduction
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from texpr.lang.index import to_int_expr
from texpr.lang.ir import Expr, Op, OpName
from texpr.math.expr import Const, IntExpr
from texpr.tile import build as tile
from texpr.tile.index import split, width_of
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.ir import If
from texpr.tile.kernel import Block, Kernel
from texpr.tile.live import holds_somewhere
from texpr.tile.scope import Scope

_EXTREMES = {
    OpName.LT: (False, OpName.LT),
    OpName.LE: (False, OpName.LE),
    OpName.GT: (True, OpName.GT),
    OpName.GE: (True, OpName.GE),
}
"""Of the difference of a comparison's operands: whether its greatest value decides, and how that compares with 0."""


def only_if_live(
    live: Sequence[Expr], name: str, kernel: Kernel, scope: Scope, block: Block, emit: Callable[[Block], None]
) -> None:
    """What ``emit`` adds to a block, executed where all of ``live`` can hold somewhere in the tile."""
    if not live:
        emit(block)
        return
    condition = _possible(live, name, kernel, scope, block)
    inner = Block()
    emit(inner)
    block.add(If(condition, tuple(inner.statements), f"unless the guard of {name} holds nowhere in the tile"))


def _possible(live: Sequence[Expr], name: str, kernel: Kernel, scope: Scope, block: Block) -> TileExpr:
    conditions: list[TileExpr] = []
    others: list[Expr] = []
    for part in live:
        known = _by_extremum(part, scope)
        if known is None:
            others.append(part)
        else:
            conditions.append(known)
    if others:
        conditions.append(holds_somewhere(others, f"{name}_any", kernel, scope, block))
    result = tile.both(conditions)
    assert result is not None
    return result


def _by_extremum(part: Expr, scope: Scope) -> TileExpr | None:
    if not isinstance(part, Op) or part.name not in _EXTREMES:
        return None
    left, right = (to_int_expr(arg) for arg in part.args)
    if left is None or right is None:
        return None
    largest, comparison = _EXTREMES[part.name]
    extremum = extremum_of(left - right, largest, scope)
    if extremum is None:
        return None
    return tile.op(comparison, tile.uniform(extremum, width_of(extremum)), tile.uniform(0))


def extremum_of(value: IntExpr, largest: bool, scope: Scope) -> IntExpr | None:
    """The largest or smallest value over the tile of what is linear in its lanes, dead ones included."""
    parts = split(value, scope)
    if parts is None:
        return None
    lanes = {axis.name: scope.lanes(axis) for axis in scope.axes}
    total = parts.base
    for name, slope in parts.lanes:
        if not isinstance(slope, Const):
            return None
        if (slope.value > 0) == largest:
            total = total + slope * (lanes[name] - 1)
    return total
