"""Contractions on a matrix unit: accumulator pieces, operands in the unit's layouts, one multiply step per loop
iteration."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from texpr.dtypes import DType
from texpr.instructions import mma_form, warpgroup_form
from texpr.lang.ir import Axis, Cast, Expr, Func, OpName, Read
from texpr.math.expr import const
from texpr.plan.copies import points_of
from texpr.plan.divided import starts_of
from texpr.plan.inline import axes_of
from texpr.plan.ir import Dot, Reduction, Unit
from texpr.schedule.words import Memory
from texpr.tile import build as tile
from texpr.tile.declarations import PhysicalDim, Space
from texpr.tile.evaluate import evaluate, live
from texpr.tile.ir import Assign, DotStep, Full, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, LowerNodes, assign, origin
from texpr.tile.loops import emit_loops
from texpr.tile.pipeline import Drain
from texpr.tile.possible import only_if_live
from texpr.tile.protocol import DotWait
from texpr.tile.scope import AxisValue, Piece, Scope
from texpr.tile.spaces import operand_space
from texpr.tile.stages import zero_where_dead
from texpr.tile.turnstile import hand_over

_EVERYWHERE = (0, 1)


def lower_contraction(
    node: Reduction, dot: Dot, kernel: Kernel, scope: Scope, block: Block, lower: LowerNodes
) -> Scope:
    """``func = sum(a * b)``: the accumulator in column pieces of the width that the epilogue wants, its own or that of
    the reduction it continues. Unrolled kept axes have an accumulator per point."""
    accumulators = start_accumulators(node, dot, kernel, scope, block)

    def body(at: Scope, inner: Block) -> None:
        multiply_step(node, dot, accumulators, kernel, at, inner)

    wait = DotWait(0, tuple(var.name for var in accumulators))
    drain = Drain(wait, dot.in_flight) if dot.in_flight else None
    (func,) = node.funcs

    def compute(into: Block) -> None:
        emit_loops(node.loops, node.body, body, kernel, scope, into, lower, drain=drain)
        clear_guarded(node, dot, accumulators, kernel, scope, into)

    only_if_live(node.live, func.name, kernel, scope, block, compute)
    if kernel.plan.passes_on(node):

        def add(before: Sequence[Var], into: Block) -> None:
            for var, other in zip(accumulators, before, strict=True):
                into.add(Assign(var.name, tile.op(OpName.ADD, other, var)))

        hand_over([accumulators], add, kernel, scope, block)
    return with_product(node, accumulators, kernel, scope, block)


def with_product(node: Reduction, accumulators: Sequence[Var], kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """The scope that knows a contraction whose sums are complete, rounded to the type of its func."""
    (func,) = node.funcs
    dtype = node.exprs[0].dtype
    values = tuple(
        assign(func.name, tile.cast(var, func.dtype), kernel, block, node.schedule) if func.dtype is not dtype else var
        for var in accumulators
    )
    if node.copies:
        return scope.with_copies(func, dict(zip(points_of(node.copies), values, strict=True)))
    if len(values) == 1:
        return scope.with_value(func, values[0])
    assert node.dot is not None
    parts = zip(_parts(node, node.dot, scope), values, strict=True)
    return scope.with_pieces(func, tuple(Piece(part, value) for part, value in parts))


def start_accumulators(node: Reduction, dot: Dot, kernel: Kernel, scope: Scope, block: Block) -> tuple[Var, ...]:
    """The accumulators at zero, one per piece and point, or those that the reduction continues."""
    (func,) = node.funcs
    sizes = {axis: scope.lanes(axis) for axis in (*dot.rows, *dot.cols)}
    parts = _parts(node, dot, scope)
    if node.into is not None:
        return _continued(node.into, node, scope)
    accumulators: list[Var] = []
    dtype = node.exprs[0].dtype
    zero = tile.literal(0.0 if dtype.is_float else 0, dtype)
    for n, part in enumerate(parts):
        local = scope.with_axes(part)
        at = {axis: local.lanes(axis) for axis in sizes}
        space = kernel.accumulator(dot, at, func)
        name = kernel.name(f"{func.name}_acc" if len(parts) == 1 else f"{func.name}_acc{n}")
        block.add(Assign(name, Full(zero, dtype, space, _EVERYWHERE), origin=origin(func.name, node.schedule)))
        accumulators.append(Var(name, dtype, space, _EVERYWHERE))
    return tuple(accumulators)


def multiply_step(
    node: Reduction, dot: Dot, accumulators: Sequence[Var], kernel: Kernel, scope: Scope, block: Block
) -> None:
    """One step of the contraction for every piece and point of the accumulator."""
    operands = first_operands(node, dot, accumulators, kernel, scope)
    if dot.unit is Unit.WGMMA and dot.a_in is Memory.REGISTERS:
        name = f"{node.funcs[0].name}_a"
        held = {a: assign(name, a, kernel, block, node.schedule) for a in dict.fromkeys(operands)}
        operands = tuple(held[a] for a in operands)
    start_products(node, dot, accumulators, operands, kernel, scope, block)
    if dot.unit is Unit.WGMMA:
        names = tuple(var.name for var in accumulators)
        block.add(DotWait(dot.in_flight * len(names), names))


def first_operands(
    node: Reduction, dot: Dot, accumulators: Sequence[Var], kernel: Kernel, scope: Scope
) -> tuple[TileExpr, ...]:
    """Operand A of a step for every piece and point of the accumulator."""
    return tuple(
        _operand(0, dot, node, var, scope.with_axes(part) if _varies(dot.a, dot.a_where, part) else scope, kernel)
        for var, part in zip(accumulators, _parts(node, dot, scope), strict=True)
    )


def start_products(
    node: Reduction,
    dot: Dot,
    accumulators: Sequence[Var],
    operands: Sequence[TileExpr],
    kernel: Kernel,
    scope: Scope,
    block: Block,
) -> None:
    """Multiply operands A of a step, one for every piece and point of the accumulator, with operand B; nothing is
    waited for."""
    dtype = node.exprs[0].dtype
    for var, a, part in zip(accumulators, operands, _parts(node, dot, scope), strict=True):
        local = scope.with_axes(part)
        b = _operand(1, dot, node, var, local if _varies(dot.b, dot.b_where, part) else scope, kernel)
        step = DotStep(a, b, var, dot.unit is not Unit.FMA, dtype, var.space, _EVERYWHERE)  # type: ignore[arg-type]
        block.add(Assign(var.name, step, origin=origin(node.funcs[0].name, node.schedule)))


def clear_guarded(
    node: Reduction, dot: Dot, accumulators: Sequence[Var], kernel: Kernel, scope: Scope, block: Block
) -> None:
    """Zero the sums whose guard fails: it is the same for all of their summands."""
    if not dot.where:
        return
    for var, part in zip(accumulators, _parts(node, dot, scope), strict=True):
        local = scope.with_axes(part)
        condition = tile.both([evaluate(guard, local, var.space, kernel.needs) for guard in dot.where])
        assert condition is not None
        zero = tile.literal(0.0 if var.dtype.is_float else 0, var.dtype)
        block.add(Assign(var.name, tile.choose(condition, var, zero), origin=origin(node.funcs[0].name, node.schedule)))


def _parts(node: Reduction, dot: Dot, scope: Scope) -> list[dict[Axis, AxisValue]]:
    """Where axes stand in each accumulator: its point of the unrolled kept axes, and its piece of the columns."""
    sizes = {axis: scope.lanes(axis) for axis in (*dot.rows, *dot.cols)}
    points = [
        {axis: AxisValue(const(value), 1, True) for axis, value in zip(node.copies, point, strict=True)}
        for point in points_of(node.copies)
    ]
    return [{**point, **piece} for point, piece in itertools.product(points, _pieces(dot, sizes, scope))]


def _continued(func: Func, node: Reduction, scope: Scope) -> tuple[Var, ...]:
    """The accumulators of ``func``, which ``node`` goes on with."""
    if node.copies:
        held: Sequence[TileExpr] = [scope.copies[func, point] for point in points_of(node.copies)]
    else:
        held = [p.value for p in scope.pieces[func]] if func in scope.pieces else [scope.values[func]]
    found = []
    for value in held:
        assert isinstance(value, Var)
        found.append(value)
    return tuple(found)


def _varies(operand: Expr, guards: Sequence[Expr], part: Mapping[Axis, AxisValue]) -> bool:
    """Whether an operand differs between the pieces and points of the accumulator."""
    return any(axes_of(expr) & set(part) for expr in (operand, *guards))


def _pieces(dot: Dot, sizes: Mapping[Axis, int], scope: Scope) -> list[dict[Axis, AxisValue]]:
    """The parts of the tile that have accumulators of their own, and column pieces of the width that the plan says."""
    along: list[list[tuple[Axis, AxisValue]]] = []
    for axis in (*dot.rows, *dot.cols):
        size = sizes[axis]
        most = dot.piece if dot.piece and (axis,) == dot.cols else size
        pieces = starts_of(size, most)
        if len(pieces) > 1:
            at = scope.axes[axis]
            along.append([(axis, at.piece(at.start + start, width)) for start, width in pieces])
    return [dict(places) for places in itertools.product(*along)]


def _operand(index: int, dot: Dot, node: Reduction, accumulator: Var, scope: Scope, kernel: Kernel) -> TileExpr:
    """Operand A or B in the unit's layout, zeroed where it must not contribute.

    Dead lanes of the reduction are zero on both sides: a masked load of a plain read already is; anything computed is
    selected.
    """
    expr, guards = (dot.a, dot.a_where) if index == 0 else (dot.b, dot.b_where)
    reduced = {axis: scope.lanes(axis) for axis in node.axes if axis in scope.axes}
    dims = kernel.grouping.dims(reduced)
    together = PhysicalDim(tuple(pair for dim in dims for pair in dim.axes))
    space = accumulator.space
    assert isinstance(space, Space)
    target = operand_space(space, index, together, _k_width(dot, kernel))
    if dot.unit is Unit.WGMMA and (index == 1 or dot.a_in is Memory.SHARED):
        return evaluate(expr, scope, target, kernel.needs)  # as it lies: the copy has put zeros where they belong
    dead = [axis for axis in reduced if not scope.axes[axis].full]
    masked = dead if dead and not zero_where_dead(expr, frozenset(dead)) else []
    at = _held_space(expr, scope, target) or target
    value = _selected(expr, guards, masked, scope, at, kernel)
    return tile.relayout(value, target)


def _k_width(dot: Dot, kernel: Kernel) -> int:
    """How many consecutive steps along K a thread holds of an operand in registers; 0 for fma."""
    match dot.unit:
        case Unit.MMA:
            form = mma_form(dot.a.dtype, dot.b.dtype, kernel.plan.target)
            return 0 if form is None else form.k_width
        case Unit.WGMMA:
            whole = warpgroup_form(dot.a.dtype, dot.b.dtype, kernel.plan.target)
            return 0 if whole is None else whole.k_width
        case Unit.FMA:
            return 0


def _held_space(expr: Expr, scope: Scope, target: Space) -> Space | None:
    """The space of a value in registers that is an operand as it is, but for conversions: its guards are evaluated
    there, where other readers have them already, and only what is left is brought into the operand's layout."""
    while isinstance(expr, Cast):
        expr = expr.value
    value = scope.held(expr) if isinstance(expr, Read) else None
    if value is None or value.space is None or len(value.dims) < len(value.space.dims):
        return None
    return value.space if sorted(value.space.dims, key=str) == sorted(target.dims, key=str) else None


def _selected(
    expr: Expr, guards: Sequence[Expr], masked: Sequence[Axis], scope: Scope, space: Space, kernel: Kernel
) -> TileExpr:
    """``expr`` in a space, zero where a guard fails or a lane of ``masked`` is dead. The selection comes before the
    conversions to narrower types, as it does for other readers of a held value."""
    tested = (evaluate(guard, scope, space, kernel.needs) for guard in guards if guard not in scope.holds)
    condition = tile.both([*live(masked, scope, space), *tested])
    casts: list[DType] = []
    inner = expr
    while condition is not None and isinstance(inner, Cast) and inner.dtype.is_float and inner.value.dtype.is_float:
        casts.append(inner.dtype)
        inner = inner.value
    value = evaluate(inner, scope, space, kernel.needs)
    if condition is not None:
        value = tile.choose(condition, value, tile.literal(0.0 if value.dtype.is_float else 0, value.dtype))
    for dtype in reversed(casts):
        value = tile.cast(value, dtype)
    return value
