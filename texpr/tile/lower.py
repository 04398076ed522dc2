"""Plan -> tile program: the nodes of a loop tree, one function per node kind, in execution order.

The functions thread an immutable ``Scope`` (what is known) and append statements to the block they are given. Nothing
is decided here that the plan does not say, except layouts (``spaces``) and masks (``evaluate``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from texpr.lang.ir import BoundaryMode, Monoid, Ranking, Tensor
from texpr.lang.user_code import TileOp
from texpr.plan.access import memory_of
from texpr.plan.attach import node_exprs
from texpr.plan.checks import nodes_of
from texpr.plan.divided import starts_of
from texpr.plan.errors import NoEffect
from texpr.plan.inline import axes_of, reads_of
from texpr.plan.ir import Compute, Group, Node, Prefixes, Reduction, Stage, Write
from texpr.plan.monoids import as_monoid, kept_as
from texpr.schedule.words import Copy, Memory
from texpr.tile import build as tile
from texpr.tile.contract import lower_contraction
from texpr.tile.declarations import Buffer, Space
from texpr.tile.evaluate import address, bounds_conditions, distinct_conditions, evaluate, store_space
from texpr.tile.groups import lower_group
from texpr.tile.ir import Assign, Barrier, Full, Literal, SharedTile, Store, StoreShared, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, assign, assign_together, origin, space_for
from texpr.tile.layouts import Blocked, Linear, MmaV3, ctas_of, operand_swizzle
from texpr.tile.loops import emit_loops
from texpr.tile.monoids import combine, identity
from texpr.tile.ordered import lower_ordered
from texpr.tile.possible import only_if_live
from texpr.tile.ranking import lower_ranking
from texpr.tile.reduce import across_lanes, finished, guarded_summands, same_everywhere
from texpr.tile.scans import begin_carried, lower_prefixes
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.stages import lower_stage, lower_window_func, with_kept
from texpr.tile.tensor_stores import store_boxes
from texpr.tile.through import add_tile
from texpr.tile.tile_ops import lower_tile_op
from texpr.tile.turnstile import by_the_last, combined_in_turn
from texpr.tile.updates import lower_update


def lower_nodes(nodes: Sequence[Node], kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """Lower nodes in order; the resulting scope knows the values and tiles they left behind."""
    for n, node in enumerate(nodes):
        match node:
            case Stage():
                scope = lower_stage(node, kernel, scope, block)
            case Compute(memory=Memory.SHARED):
                scope = lower_window_func(node, kernel, scope, block)
            case Compute(func=func, expr=expr):
                space = space_for([expr], {a: scope.lanes(a) for a in axes_of(expr) if a in scope.axes}, kernel, scope)
                value = tile.cast(evaluate(expr, scope, space, kernel.needs), func.dtype)
                scope = scope.with_value(func, assign(func.name, value, kernel, block, node.schedule))
            case Reduction():
                scope = lower_reduction(node, kernel, scope, block)
            case Group():
                scope = lower_group(node, kernel, scope, block, lower_nodes)
            case Prefixes(op=TileOp() as op):
                scope = lower_tile_op(node, op, kernel, scope, block)
            case Prefixes():
                scope = lower_prefixes(node, kernel, scope, block)
            case Write(axes=axes) if kernel.instance is None or kernel.instance.stores(axes):
                lower_write(node, kernel, scope, block)
            case Write():
                pass  # another instance of the role stores it
        scope = with_kept(node, kernel, scope)
        if kernel.plan.passes_on(node):
            return by_the_last(nodes[n + 1 :], kernel, scope, block, lower_nodes)
    return scope


def lower_reduction(node: Reduction, kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """A reduction: accumulators, loops, and the final combination across lanes."""
    if node.dot is not None:
        return lower_contraction(node, node.dot, kernel, scope, block, lower_nodes)
    if node.through_tiles:
        kernel.through.append(add_tile(node, kernel, scope, block))
        return scope
    if isinstance(node.op, Ranking):
        return lower_ranking(node, node.op, kernel, scope, block, lower_nodes)
    if isinstance(node.op, Monoid) and not node.op.commutative:
        return lower_ordered(node, kernel, scope, block, lower_nodes)
    sizes = {axis: scope.lanes(axis) for axis in node.keep if axis in scope.axes}
    sizes |= {axis: scope.lanes(axis) for axis in node.axes if axis in scope.axes}
    sizes |= {loop.axis: loop.size for loop in node.loops}
    exprs = list(node.exprs) + ([node.where] if node.where is not None else [])
    space = space_for(exprs, sizes, kernel, scope, whole=True, coming=node.body)
    dtypes = tuple(kept_as(expr, func) for expr, func in zip(node.exprs, node.funcs, strict=True))
    op = as_monoid(node.op, dtypes)
    start = identity(op, dtypes)

    def step(at: Scope) -> tuple[TileExpr, ...]:
        return guarded_summands(node, dtypes, start, space, kernel, at)

    def computed(into: Block) -> tuple[TileExpr, ...]:
        at = lower_nodes(node.body, kernel, scope, into)
        same = same_everywhere(node, dtypes, start, space, kernel, at)
        return across_lanes(op, step(at), space, node.axes) if same is None else same

    if node.loops:
        names = [kernel.name(f"{func.name}_acc") for func in node.funcs]
        everywhere = tuple(range(len(space.dims))) if space is not None else ()
        accumulators = [Var(n, d, space, everywhere) for n, d in zip(names, dtypes, strict=True)]
        for var, e in zip(accumulators, start, strict=True):
            initial: TileExpr = e if space is None else Full(e, e.dtype, space, everywhere)
            block.add(Assign(var.name, initial, origin=origin(node.funcs[0].name, node.schedule)))

        def body(at: Scope, inner: Block) -> None:
            updated = combine(op, tuple(accumulators), step(at))
            assign_together(accumulators, updated, kernel, inner)

        def loop(into: Block) -> None:
            emit_loops(node.loops, node.body, body, kernel, scope, into, lower_nodes)

        only_if_live(node.live, node.funcs[0].name, kernel, scope, block, loop)
        results = across_lanes(op, tuple(accumulators), space, node.axes)
    elif node.live:
        results = _computed_if_live(node, start, computed, kernel, scope, block)
    else:
        results = computed(block)
    if kernel.plan.passes_on(node):
        results = combined_in_turn(op, node, results, kernel, scope, block)
    results = finished(node.op, results, start)
    for func, value in zip(node.funcs, results, strict=True):
        scope = scope.with_value(func, assign(func.name, tile.cast(value, func.dtype), kernel, block, node.schedule))
    return scope


def _computed_if_live(
    node: Reduction,
    start: Sequence[Literal],
    computed: Callable[[Block], tuple[TileExpr, ...]],
    kernel: Kernel,
    scope: Scope,
    block: Block,
) -> tuple[TileExpr, ...]:
    """The values of a reduction without loops; what it starts with where no point of the tile is live."""
    found: list[Var] = []

    def emit(into: Block) -> None:
        for func, value, e in zip(node.funcs, computed(into), start, strict=True):
            var = Var(kernel.name(f"{func.name}_acc"), value.dtype, value.space, value.dims)
            initial: TileExpr = e if value.space is None else Full(e, e.dtype, value.space, value.dims)
            block.add(Assign(var.name, initial, origin=origin(func.name, node.schedule)))
            into.add(Assign(var.name, value))
            found.append(var)

    only_if_live(node.live, node.funcs[0].name, kernel, scope, block, emit)
    return tuple(found)


def _overwrites(node: Write, kernel: Kernel) -> bool:
    """Whether the kernel reads the input whose memory the output may be. Threads other than the one that stores may
    have read it: for an earlier node, or because they hold the same elements of a tile smaller than the program."""
    alias = node.func.output.may_alias if node.func.output is not None else None
    reads = (read for one in nodes_of(kernel.plan.nodes) for expr in node_exprs(one) for read in reads_of(expr))
    return alias is not None and any(isinstance(r.source, Tensor) and r.source.name == alias for r in reads)


def lower_write(node: Write, kernel: Kernel, scope: Scope, block: Block) -> None:
    """Store an output or workspace func, loop by loop and piece by piece."""

    def body(at: Scope, inner: Block) -> None:
        if node.copy is Copy.TMA:
            store_boxes(node, kernel, _pieces(node, at), inner)
            return
        for piece in _pieces(node, at):
            if node.update is None:
                _store(node, kernel, piece, inner)
            else:
                lower_update(node, node.update, kernel, piece, inner)

    if node.loops:
        scope = begin_carried(node, kernel, scope, block)
        emit_loops(node.loops, node.body, body, kernel, scope, block, lower_nodes)
    else:
        body(lower_nodes(node.body, kernel, scope, block), block)


def _pieces(node: Write, scope: Scope) -> list[Scope]:
    """One scope per piece of the tile that the epilogue handles at a time."""
    scopes = [scope]
    widths = dict(node.chunk)
    for axis in (axis for axis in node.axes if axis in scope.axes):
        at = scope.axes[axis]
        pieces = starts_of(at.size, widths.get(axis.name, at.size))
        if len(pieces) > 1:
            scopes = [s.with_axes({axis: at.piece(at.start + start, width)}) for s in scopes for start, width in pieces]
    return [_cut_in_place(node, _with_pieces(piece)) for piece in scopes]


def _with_pieces(scope: Scope) -> Scope:
    """A piece with the values in pieces that it lies in."""
    for func, parts in scope.pieces.items():
        inside = [part for part in parts if all(_lies_in(scope.axes[axis], at) for axis, at in part.at.items())]
        if len(inside) == 1:
            scope = scope.with_value(func, inside[0].value)
    return scope


def _lies_in(piece: AxisValue, part: AxisValue) -> bool:
    return part.start <= piece.start and piece.start + piece.size <= part.start + part.size


def _cut_in_place(node: Write, piece: Scope) -> Scope:
    """A piece with the columns of it that values held whole have."""
    for func, value in piece.values.items():
        if value.space is None or not isinstance(value.space.layout, MmaV3) or len(value.dims) < 2:
            continue
        name, size = value.space.dims[1].axes[0]
        at = next((piece.axes[axis] for axis in node.axes if axis.name == name), None)
        if at is not None and at.size < size:
            piece = piece.with_value(func, tile.columns(value, at.start % size, at.size))
    return piece


def _store(node: Write, kernel: Kernel, scope: Scope, block: Block) -> None:
    sizes = {axis: scope.lanes(axis) for axis in node.axes}
    space = space_for([node.expr], sizes, kernel, scope)
    value = tile.cast(evaluate(node.expr, scope, space, kernel.needs), node.func.dtype)
    memory = memory_of(node.func, scope.guard)
    kernel.needs.tensors[memory.name] = node.func
    as_computed = space is None or isinstance(space.layout, Blocked | Linear)
    if space is not None and (node.via_shared or not as_computed):
        moving = [axis for axis in node.axes if scope.lanes(axis) > 1]
        target = store_space(memory, node.indices, BoundaryMode.NONE, moving, scope, space, kernel.plan.warps)
        as_computed = target.layout == space.layout or not value.dims
        through = node.via_shared and not as_computed
        value = _through_shared(value, target, node, kernel, block) if through else tile.relayout(value, target)
        space = target
    if node.via_shared and as_computed:
        place = kernel.plan.record.place[node.func.name]
        why = "every thread stores what it has computed"
        raise NoEffect(directive="via", name=node.func.name, why=why, at=place.location_of("via"))
    base, offset = address(memory, node.indices, scope, space, kernel.needs)
    mask = tile.both(
        [
            *bounds_conditions(memory, node.indices, scope, space, kernel.needs),
            *distinct_conditions(memory, node.indices, node.axes, scope, space),
        ]
    )
    if _overwrites(node, kernel):
        value = assign(node.func.name, value, kernel, block, node.schedule)
        block.add(Barrier("what is overwritten has been read"))
    block.add(Store(memory.name, base, offset, mask, value, origin=origin(node.func.name, node.schedule)))


def _through_shared(value: TileExpr, target: Space, node: Write, kernel: Kernel, block: Block) -> TileExpr:
    """``value`` brought into another space by a buffer of its own instead of a hidden one."""
    shape = tuple(target.dims[d].size for d in value.dims)
    name = kernel.name(f"{node.func.name}_shared")
    ctas = tuple(tuple(basis[d] for d in value.dims) for basis in ctas_of(target.layout))
    layout = operand_swizzle(shape, value.dtype.bytes, len(shape) - 1, ctas)
    kernel.buffer(Buffer(name, value.dtype, shape, 0, layout, f"{node.func.name} on its way to global memory"))
    block.add(StoreShared(name, None, value, origin=origin(node.func.name, node.schedule), dims=value.dims))
    order = tuple(range(len(shape)))
    stored = SharedTile(name, None, order, value.dtype, target, value.dims)
    return assign(f"{node.func.name}_out", stored, kernel, block, node.schedule)
