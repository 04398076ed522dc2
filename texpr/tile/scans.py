"""Lowering of scans: every prefix of a tile along one axis, going on from the tile before where it is carried.

The values are brought into a blocked layout in which few threads share a line (``scan_space``): every thread combines
its own run of neighbours, and only what the runs come to is passed between lanes and warps. What is carried enters as
the left operand of the first point, so that nothing has to be added afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Monoid, OpName, ReduceOp
from texpr.plan.ir import LoopAxis, Prefixes, Write
from texpr.plan.monoids import scan_monoid
from texpr.tile import build as tile
from texpr.tile.declarations import Space
from texpr.tile.evaluate import evaluate, live
from texpr.tile.ir import Assign, Full, Literal, Reduce, Scan, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, assign, assign_together, origin
from texpr.tile.layouts import Blocked
from texpr.tile.lookback import before_the_tile, publish_tile
from texpr.tile.monoids import combine, identity
from texpr.tile.scope import Scope
from texpr.tile.spaces import blocked_space


def begin_carried(node: Write, kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """Give the scans that are carried along a node's loops their first state, before the loops."""
    for inner in node.body:
        if isinstance(inner, Prefixes) and inner.carried:
            _, work = _spaces(inner, kernel, scope, node.loops)
            dims = dims_without(work, inner.axis)
            names = [kernel.name(f"{func.name}_carry") for func in inner.funcs]
            dtypes = _dtypes(inner)
            start = identity(inner.operator, dtypes)
            for name, e in zip(names, start, strict=True):
                initial: TileExpr = e if work is None else Full(e, e.dtype, work, dims)
                block.add(Assign(name, initial, origin=origin(inner.funcs[0].name, inner.schedule)))
            state = tuple(Var(n, d, work, dims) for n, d in zip(names, dtypes, strict=True))
            scope = scope.with_carry(inner.funcs[0], state)
    return scope


def lower_prefixes(node: Prefixes, kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """A scan: its values, the prefixes within the tile, and the state for the next tile."""
    home, work = _spaces(node, kernel, scope, ())
    dtypes = _dtypes(node)
    start = identity(node.operator, dtypes)
    alive = tile.both(live([node.axis], scope, home))
    values = [tile.cast(evaluate(e, scope, home, kernel.needs), d) for e, d in zip(node.exprs, dtypes, strict=True)]
    if alive is not None:
        values = [tile.choose(alive, value, e) for value, e in zip(values, start, strict=True)]
    anew = None
    if node.reset is not None:
        starts = tile.both([*([] if alive is None else [alive]), evaluate(node.reset, scope, home, kernel.needs)])
        assert starts is not None
        anew = tile.choose(starts, tile.literal(1, DType.I32), tile.literal(0, DType.I32))
    carry = scope.carries.get(node.funcs[0]) if node.carried else None
    dim = None if work is None else work.dim_of(node.axis.name)
    if work is None or dim is None:
        results, last = _one_point(node, values, anew, carry, start)
        started = anew
    else:
        results, last, started = _along_lanes(node, values, anew, carry, start, home, work, dim, kernel, block)
    if node.look_back is not None:
        state = last if started is None else (_end(node, started, work), *last)
        told = publish_tile(node, node.look_back, state, kernel, scope, block)
        if started is None:  # moved while other programs are at work
            results = _moved(node, results, home, kernel, block)
        results = _going_on(node, before_the_tile(told, kernel, block), results, started)
    for func, value in zip(node.funcs, results, strict=True):
        back = value if home is None else tile.relayout(value, home)
        scope = scope.with_value(func, assign(func.name, tile.cast(back, func.dtype), kernel, block, node.schedule))
    if carry is not None:
        assign_together(carry, last, kernel, block)
    return scope


def _dtypes(node: Prefixes) -> tuple[DType, ...]:
    """The types that prefixes are combined in: the values', as for a reduction."""
    return tuple(expr.dtype for expr in node.exprs)


def _one_point(
    node: Prefixes,
    values: Sequence[TileExpr],
    anew: TileExpr | None,
    carry: tuple[TileExpr, ...] | None,
    start: Sequence[Literal],
) -> tuple[tuple[TileExpr, ...], tuple[TileExpr, ...]]:
    """Tiles of one point along the axis: no lanes to combine. The results, and the prefix that ends with the point."""
    before: tuple[TileExpr, ...] = tuple(start) if carry is None else carry
    if anew is not None:
        condition = tile.op(OpName.NE, anew, tile.literal(0, DType.I32))
        before = tuple(tile.choose(condition, e, b) for e, b in zip(start, before, strict=True))
    last = tuple(values) if carry is None else combine(node.operator, before, tuple(values))
    return (before if node.exclusive else last), last


def _along_lanes(
    node: Prefixes,
    values: Sequence[TileExpr],
    anew: TileExpr | None,
    carry: tuple[Var, ...] | None,
    start: Sequence[Literal],
    home: Space | None,
    work: Space,
    dim: int,
    kernel: Kernel,
    block: Block,
) -> tuple[tuple[TileExpr, ...], tuple[TileExpr, ...], TileExpr | None]:
    """The prefixes in the space ``work``; what the tile comes to, if that goes on; where it has started anew, if other
    tiles' values do not pass that."""
    assert home is not None
    own = tuple(everywhere(value, home, work) for value in values)
    flags = [] if anew is None else [everywhere(anew, home, work)]
    reached = len(work.dims)
    difference = node.exclusive and _has_inverse(node.operator, values[0].dtype)
    exclusive = node.exclusive and not difference
    earlier: tuple[TileExpr, ...] = tuple(everywhere(e, home, work) for e in start) if exclusive else ()
    entering = own
    if carry is not None:
        position = tile.position(work, dim)
        first: TileExpr = tile.op(
            OpName.EQ, position, tile.uniform(work.dims[dim].size - 1 if node.reverse else 0)
        )
        if flags:
            unset = tile.op(OpName.EQ, flags[0], tile.literal(0, DType.I32))
            first = tile.op(OpName.AND, first, unset)
        going_on = combine(node.operator, carry, own)
        entering = tuple(tile.choose(first, new, old) for new, old in zip(going_on, own, strict=True))
        if exclusive:
            earlier = tuple(tile.choose(first, state, e) for state, e in zip(carry, earlier, strict=True))
    args = (*flags, *earlier, *entering)
    dtypes = tuple(value.dtype for value in own)
    op = node.operator
    if len(args) != len(own):
        op = scan_monoid(op, dtypes, flagged=bool(flags), exclusive=exclusive)
    every = tuple(range(reached))

    def component(n: int, name: str) -> TileExpr:
        scanned = Scan(op, args, dim, node.reverse, n, args[n].dtype, work, every)
        return assign(name, scanned, kernel, block, node.schedule)

    offset, goes_on = len(args) - len(own), carry is not None or node.look_back is not None
    inclusive, preceding = own, earlier
    if goes_on or not exclusive:
        inclusive = tuple(component(offset + n, f"{func.name}_upto") for n, func in enumerate(node.funcs))
    if exclusive:
        preceding = tuple(component(len(flags) + n, f"{func.name}_before") for n, func in enumerate(node.funcs))
    started = component(0, f"{node.funcs[0].name}_anew") if flags and node.look_back is not None else None
    results = preceding if exclusive else inclusive
    if difference:
        inverse = OpName.SUB if node.operator is ReduceOp.SUM else OpName.XOR
        results = tuple(tile.op(inverse, total, value) for total, value in zip(inclusive, own, strict=True))
    return results, tuple(_end(node, value, work) for value in inclusive) if goes_on else (), started


def _end(node: Prefixes, value: TileExpr, work: Space | None) -> TileExpr:
    """The value at the point of the tile that the scan comes to last."""
    dim = None if work is None else work.dim_of(node.axis.name)
    if work is None or dim is None:
        return value
    return picked(value, work, dim, 0 if node.reverse else work.dims[dim].size - 1)


def _moved(
    node: Prefixes, values: tuple[TileExpr, ...], home: Space | None, kernel: Kernel, block: Block
) -> tuple[TileExpr, ...]:
    """Prefixes within the tile, brought to where they are stored from."""
    if home is None:
        return values
    return tuple(
        assign(f"{func.name}_local", tile.relayout(value, home), kernel, block, node.schedule)
        for func, value in zip(node.funcs, values, strict=True)
    )


def _going_on(
    node: Prefixes, before: tuple[TileExpr, ...], prefixes: tuple[TileExpr, ...], started: TileExpr | None
) -> tuple[TileExpr, ...]:
    """Prefixes of the tile that go on from what comes before it, but for those that have ``started`` anew."""
    going_on = combine(node.operator, before, prefixes)
    if started is None:
        return going_on
    unset = tile.op(OpName.EQ, started, tile.literal(0, DType.I32))
    return tuple(tile.choose(unset, new, old) for new, old in zip(going_on, prefixes, strict=True))


def _has_inverse(op: ReduceOp | Monoid, dtype: DType) -> bool:
    """Whether the prefix before a point is exactly the prefix with it less the point itself."""
    return (op is ReduceOp.SUM and dtype.is_int) or op is ReduceOp.XOR


def picked(value: TileExpr, space: Space, dim: int, position: int) -> TileExpr:
    """The value at one position along ``dim``: a sum with zeros elsewhere, which is exact (-0.0 + -0.0 = -0.0)."""
    here = tile.op(OpName.EQ, tile.position(space, dim), tile.uniform(position))
    nothing = False if value.dtype is DType.BOOL else -0.0 if value.dtype.is_float else 0
    alone = tile.choose(here, value, tile.literal(nothing, value.dtype))
    op = ReduceOp.ANY if value.dtype is DType.BOOL else ReduceOp.SUM
    dims = tuple(d for d in range(len(space.dims)) if d != dim)
    return Reduce(op, (alone,), dim, 0, value.dtype, space, dims)


def everywhere(value: TileExpr, home: Space, work: Space) -> TileExpr:
    """``value`` made to vary along all dims of the scan's space, and brought there."""
    if value.dims and value.space is not None and value.space != home and value.space != work:
        value = tile.relayout(value, home)
    target = work if value.space == work or not value.dims else home
    if not value.dims and isinstance(value, Literal):
        return Full(value, value.dtype, work, tuple(range(len(work.dims))))
    for dim in range(len(target.dims)):
        value = tile.spread(value, target, dim)
    return tile.relayout(value, work)


# ---- spaces ---------------------------------------------------------------------------------------------------------


def _spaces(
    node: Prefixes, kernel: Kernel, scope: Scope, loops: Sequence[LoopAxis]
) -> tuple[Space | None, Space | None]:
    sizes = {axis: scope.lanes(axis) for axis in node.axes if axis in scope.axes}
    sizes |= {loop.axis: loop.size for loop in loops if loop.axis in node.axes}
    return spaces_of(sizes, node.axis, kernel)


def spaces_of(sizes: Mapping[Axis, int], axis: Axis, kernel: Kernel) -> tuple[Space | None, Space | None]:
    """Where values over a tile are evaluated, and where they are scanned along ``axis``: the same where the latter is
    as good for memory."""
    home = blocked_space(kernel.plan, kernel.grouping, sizes)
    dim = None if home is None else home.dim_of(axis.name)
    if home is None or dim is None:
        return home, home
    work = scan_space(home, dim, kernel.plan.warps)
    if work.layout == home.layout:
        return home, home
    last = len(home.dims) - 1
    rows = isinstance(work.layout, Blocked) and dim != last and work.layout.lanes[last] >= 32
    return (work, work) if rows else (home, work)


def scan_space(home: Space, dim: int, warps: int) -> Space:
    """The dims of ``home`` in a layout for scans along ``dim``: lanes and warps go to the other dims first, the
    contiguous one foremost; those that are left divide each line into runs of neighbours, one run a thread."""
    shape = home.shape
    order = (*(d for d in reversed(range(len(shape))) if d != dim), dim)
    lanes, warp_count = [1] * len(shape), [1] * len(shape)
    left_lanes, left_warps = 32, warps
    for d in order[:-1]:
        lanes[d] = min(left_lanes, shape[d])
        left_lanes //= lanes[d]
        warp_count[d] = min(left_warps, shape[d] // lanes[d])
        left_warps //= warp_count[d]
    lanes[dim], warp_count[dim] = left_lanes, left_warps
    each = [1] * len(shape)
    each[dim] = max(1, shape[dim] // (lanes[dim] * warp_count[dim]))
    return Space("scan", home.dims, Blocked(tuple(each), tuple(lanes), tuple(warp_count), order))


def dims_without(work: Space | None, axis: Axis) -> tuple[int, ...]:
    """The dims of a space that an axis does not run along."""
    if work is None:
        return ()
    dim = work.dim_of(axis.name)
    return tuple(d for d in range(len(work.dims)) if d != dim)

