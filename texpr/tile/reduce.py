"""Pieces of a reduction in tiles: its summands under their guards, and the combination across lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Monoid, OpName, ReduceOp
from texpr.math.expr import ge
from texpr.math.prove import is_proved
from texpr.plan.inline import conjuncts
from texpr.plan.ir import Reduction
from texpr.plan.monoids import is_arg
from texpr.tile import build as tile
from texpr.tile.declarations import Space
from texpr.tile.evaluate import evaluate, live
from texpr.tile.ir import Expr, Literal, Reduce
from texpr.tile.kernel import Kernel
from texpr.tile.scope import Scope

_IDEMPOTENT: Final = frozenset({ReduceOp.MAX, ReduceOp.MIN, ReduceOp.ANY, ReduceOp.ALL, ReduceOp.AND, ReduceOp.OR})
"""What combines a value with itself to the same value."""


def guarded_summands(
    node: Reduction,
    dtypes: Sequence[DType],
    starts: Sequence[Literal],
    space: Space | None,
    kernel: Kernel,
    scope: Scope,
) -> tuple[Expr, ...]:
    """The summands of every component in ``dtypes``; the identity where the guard fails or a lane is dead."""
    values = tuple(
        tile.cast(evaluate(expr, scope, space, kernel.needs), dtype)
        for expr, dtype in zip(node.exprs, dtypes, strict=True)
    )
    conditions = live([axis for axis in node.axes if axis in scope.axes], scope, space)
    tested = (part for part in conjuncts(node.where) if part not in scope.holds)
    conditions += [evaluate(part, scope, space, kernel.needs) for part in tested]
    guard = tile.both(conditions)
    if guard is None:
        return values
    return tuple(tile.choose(guard, value, start) for value, start in zip(values, starts, strict=True))


def same_everywhere(
    node: Reduction,
    dtypes: Sequence[DType],
    starts: Sequence[Literal],
    space: Space | None,
    kernel: Kernel,
    scope: Scope,
) -> tuple[Expr, ...] | None:
    """The reduction of a value that is the same at all points, by an operator that leaves it as it is: that value, or
    the identity where there are no points. None if it is no such reduction."""
    if node.op not in _IDEMPOTENT or node.where is not None or space is None:
        return None
    value = tile.cast(evaluate(node.exprs[0], scope, space, kernel.needs), dtypes[0])
    names = {axis.name for axis in node.axes}
    over = {d for d, dim in enumerate(space.dims) if any(name in names for name, _ in dim.axes)}
    if value.dims and (value.space != space or over & set(value.dims)):
        return None
    for axis in node.axes:
        if not is_proved(ge(axis.extent, 1), scope.facts):
            value = tile.choose(tile.op(OpName.GT, tile.uniform(axis.extent), tile.uniform(0)), value, starts[0])
    return (value,)


def across_lanes(
    op: ReduceOp | Monoid, values: tuple[Expr, ...], space: Space | None, axes: Sequence[Axis]
) -> tuple[Expr, ...]:
    """``values`` reduced over every dim that holds reduced axes."""
    if space is None:
        return values
    names = {axis.name for axis in axes}
    for d in reversed(range(len(space.dims))):
        if all(name in names for name, _ in space.dims[d].axes):
            full = tuple(tile.spread(value, space, d) for value in values)
            dims = tuple(sorted(set().union(*(v.dims for v in full)) - {d}))
            values = tuple(Reduce(op, full, d, n, v.dtype, space, dims) for n, v in enumerate(full))
    return values


def finished(op: ReduceOp | Monoid, values: tuple[Expr, ...], starts: Sequence[Literal]) -> tuple[Expr, ...]:
    """The results: a row without points has no position, which is -1, as the language says."""
    if not is_arg(op):
        return values
    value, index = values
    nowhere = tile.op(OpName.EQ, index, starts[1])
    return value, tile.choose(nowhere, tile.literal(-1, index.dtype), index)
