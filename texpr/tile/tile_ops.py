"""Lowering of a user's function over tiles: its operands as tiles of whole lines, in a space of rows and lines that has
the layout it asks for."""

from __future__ import annotations

from texpr.lang.user_code import LineLayout, TileOp
from texpr.plan.ir import Prefixes
from texpr.tile import build as tile
from texpr.tile.declarations import PhysicalDim, Space
from texpr.tile.evaluate import evaluate, live
from texpr.tile.ir import Expr, TileCall
from texpr.tile.kernel import Block, Kernel, assign
from texpr.tile.layouts import Blocked, blocked
from texpr.tile.scope import Scope
from texpr.tile.spaces import blocked_space

_LANES = 32


def lower_tile_op(node: Prefixes, op: TileOp, kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """The function's results, as values of the tile."""
    sizes = {axis: scope.lanes(axis) for axis in node.axes if axis in scope.axes}
    home = blocked_space(kernel.plan, kernel.grouping, sizes)
    dim = None if home is None else home.dim_of(node.axis.name)
    assert home is not None
    assert dim is not None
    assert home.dims[dim].axes == ((node.axis.name, sizes[node.axis]),), "a line is a dim of its own"
    rows = PhysicalDim(tuple(axis for d, one in enumerate(home.dims) if d != dim for axis in one.axes))
    inner = _inner_space(op, rows, home.dims[dim], kernel.plan.warps, kernel.grouping.vector)
    alive = tile.both(live([node.axis], scope, home))
    args: list[Expr] = []
    for operand, expr in zip(op.operands, node.exprs, strict=True):
        value = tile.cast(evaluate(expr, scope, home, kernel.needs), operand.dtype)
        if value.dims and value.space is not None and value.space != home:
            value = tile.relayout(value, home)
        if operand.line and alive is not None and operand.beyond is not None:
            value = tile.choose(alive, value, tile.literal(operand.beyond, operand.dtype))
        for d in range(len(home.dims)):
            if operand.line if d == dim else operand.rows and op.rows:
                value = tile.spread(value, home, d)
        args.append(value)
    everywhere = tuple(range(len(home.dims)))
    for n, func in enumerate(node.funcs):
        dims = tuple(d for d in everywhere if d != dim) if op.per_line[n] else everywhere
        made = TileCall(op, tuple(args), dim, inner, n, home if dims else None, dims)
        scope = scope.with_value(func, assign(func.name, tile.cast(made, func.dtype), kernel, block, node.schedule))
    return scope


def _inner_space(op: TileOp, rows: PhysicalDim, line: PhysicalDim, warps: int, vector: int) -> Space:
    """Rows by lines, in the layout that the function asks for."""
    match op.layout:
        case LineLayout.ANY:
            layout = blocked((rows.size, line.size), warps, vector, 1)
        case LineLayout.THREAD:
            layout = Blocked((1, line.size), (_LANES, 1), (warps, 1), (1, 0))
        case LineLayout.WARP:
            along = min(_LANES, line.size)
            layout = Blocked((1, 1), (_LANES // along, along), (warps, 1), (1, 0))
    return Space(op.name, (rows, line), layout)
