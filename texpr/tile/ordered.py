"""Reductions by operators that do not commute: the last prefix of every tile, one tile after the other."""

from __future__ import annotations

from texpr.lang.ir import Monoid
from texpr.plan.ir import Reduction
from texpr.tile import build as tile
from texpr.tile.ir import Assign, Full, Scan, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, LowerNodes, assign, assign_together, origin
from texpr.tile.loops import emit_loops
from texpr.tile.monoids import combine, identity
from texpr.tile.reduce import guarded_summands
from texpr.tile.scans import dims_without, everywhere, picked, spaces_of
from texpr.tile.scope import Scope
from texpr.tile.turnstile import combined_in_turn


def lower_ordered(node: Reduction, kernel: Kernel, scope: Scope, block: Block, lower: LowerNodes) -> Scope:
    """A reduction along one axis whose points are combined in index order; parts of it too."""
    turnstile = kernel.plan.turnstile
    parts = None if turnstile is None or turnstile.shared is not None else turnstile.axis
    (axis,) = (a for a in node.axes if a is not parts)
    op = node.op
    assert isinstance(op, Monoid)
    dtypes = tuple(expr.dtype for expr in node.exprs)
    start = identity(op, dtypes)
    sizes = {a: scope.lanes(a) for a in (*node.keep, axis) if a in scope.axes}
    sizes |= {loop.axis: loop.size for loop in node.loops}
    home, work = spaces_of(sizes, axis, kernel)

    def total(at: Scope, inner: Block) -> tuple[TileExpr, ...]:
        values = guarded_summands(node, dtypes, start, home, kernel, at)
        dim = None if work is None else work.dim_of(axis.name)
        if home is None or work is None or dim is None:
            return values
        own = tuple(everywhere(value, home, work) for value in values)
        every, end = tuple(range(len(work.dims))), work.dims[dim].size - 1
        prefixes = [
            assign(f"{func.name}_upto", Scan(op, own, dim, False, n, own[n].dtype, work, every), kernel, inner)
            for n, func in enumerate(node.funcs)
        ]
        return tuple(picked(prefix, work, dim, end) for prefix in prefixes)

    results: tuple[TileExpr, ...]
    if node.loops:
        dims = dims_without(work, axis)
        names = [kernel.name(f"{func.name}_acc") for func in node.funcs]
        state = tuple(Var(n, d, work, dims) for n, d in zip(names, dtypes, strict=True))
        for name, e in zip(names, start, strict=True):
            first: TileExpr = e if work is None else Full(e, e.dtype, work, dims)
            block.add(Assign(name, first, origin=origin(node.funcs[0].name, node.schedule)))

        def body(at: Scope, inner: Block) -> None:
            assign_together(state, combine(op, state, total(at, inner)), kernel, inner)

        emit_loops(node.loops, node.body, body, kernel, scope, block, lower)
        results = state
    else:
        results = total(lower(node.body, kernel, scope, block), block)
    if kernel.plan.passes_on(node):
        results = combined_in_turn(op, node, results, kernel, scope, block)
    for func, value in zip(node.funcs, results, strict=True):
        scope = scope.with_value(func, assign(func.name, tile.cast(value, func.dtype), kernel, block, node.schedule))
    return scope
