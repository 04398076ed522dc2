"""Pieces of a reduction in tiles: its summands under their guards, and the combination across lanes."""

from __future__ import annotations

from collections.abc import Sequence

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Monoid, OpName, ReduceOp
from texpr.plan.inline import conjuncts
from texpr.plan.ir import Reduction
from texpr.plan.monoids import is_arg
from texpr.tile import build as tile
from texpr.tile.evaluate import evaluate, live
from texpr.tile.ir import Expr, Literal, Reduce, Space
from texpr.tile.kernel import Kernel
from texpr.tile.scope import Scope


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
