"""Reductions that go on from tile to tile of a persistent program: accumulators are set before the first tile, every
tile adds its summands lane by lane, and lanes are combined once, after the last tile."""

from __future__ import annotations

from texpr.plan.ir import Reduction
from texpr.plan.monoids import as_monoid
from texpr.tile import build as tile
from texpr.tile.ir import Assign, Full, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, ThroughTiles, assign, assign_together, origin, space_for
from texpr.tile.monoids import combine, identity
from texpr.tile.possible import only_if_live
from texpr.tile.reduce import across_lanes, finished, guarded_summands
from texpr.tile.scope import Scope


def add_tile(node: Reduction, kernel: Kernel, scope: Scope, block: Block) -> ThroughTiles:
    """Add the summands of a tile to accumulators that ``start_through`` sets."""
    sizes = {axis: scope.lanes(axis) for axis in (*node.keep, *node.axes) if axis in scope.axes}
    exprs = [*node.exprs, *([] if node.where is None else [node.where])]
    space = space_for(exprs, sizes, kernel, scope, whole=True)
    dtypes = tuple(expr.dtype for expr in node.exprs)
    op = as_monoid(node.op, dtypes)  # type: ignore[arg-type]
    starts = identity(op, dtypes)
    everywhere = () if space is None else tuple(range(len(space.dims)))
    accumulators = tuple(
        Var(kernel.name(f"{func.name}_acc"), dtype, space, everywhere)
        for func, dtype in zip(node.funcs, dtypes, strict=True)
    )
    values = guarded_summands(node, dtypes, starts, space, kernel, scope)

    def add(into: Block) -> None:
        assign_together(accumulators, combine(op, accumulators, values), kernel, into)

    only_if_live(node.live, node.funcs[0].name, kernel, scope, block, add)
    return ThroughTiles(node, op, space, accumulators, starts)


def start_through(through: ThroughTiles, block: Block) -> None:
    """The accumulators of no points, before the first tile."""
    for var, start in zip(through.accumulators, through.starts, strict=True):
        initial: TileExpr = start if var.space is None else Full(start, start.dtype, var.space, var.dims)
        block.add(Assign(var.name, initial, origin=origin(through.node.funcs[0].name, through.node.schedule)))


def finish_through(through: ThroughTiles, kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """The results, after the last tile."""
    node = through.node
    values = across_lanes(through.op, through.accumulators, through.space, node.axes)
    for func, value in zip(node.funcs, finished(through.op, values, through.starts), strict=True):
        scope = scope.with_value(func, assign(func.name, tile.cast(value, func.dtype), kernel, block, node.schedule))
    return scope
