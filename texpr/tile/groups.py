"""Reductions that share loops: accumulators before, updates in every step, results after.

A member is kept in one of three ways:

    rows        one value per kept point, reduced across lanes in every step (``plan.lanes`` says which are)
    lanes       a partial result per element of the tile, reduced across lanes once, after the loops
    matrix      the accumulator of a matrix unit

In a step the components of a member are first carried over to the new running values of earlier members (``Member`` in
``plan.online``: multiplied, shifted or started afresh), then the tile's own summands are added. A factor has one value
per row of the accumulator that it multiplies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from texpr.lang.ir import Expr, Func, Monoid, ReduceOp, Var
from texpr.math.expr import const, minimum
from texpr.math.integer import product
from texpr.plan.inline import axes_of
from texpr.plan.ir import Compute, Dot, Group, Node, Reduction
from texpr.plan.lanes import is_kept_by_rows
from texpr.plan.monoids import as_monoid
from texpr.plan.online import Member, starts_of
from texpr.schedule.words import Memory
from texpr.tile import build as tile
from texpr.tile.contract import (
    clear_guarded,
    first_operands,
    multiply_step,
    start_accumulators,
    start_products,
    with_product,
)
from texpr.tile.declarations import Space
from texpr.tile.evaluate import evaluate
from texpr.tile.ir import Assign, Full, Literal
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.ir import Var as TileVar
from texpr.tile.kernel import Block, Kernel, LowerNodes, assign, origin, space_for
from texpr.tile.loops import emit_loops
from texpr.tile.monoids import combine
from texpr.tile.overlap import Overlap
from texpr.tile.possible import only_if_live
from texpr.tile.protocol import DotWait
from texpr.tile.reduce import across_lanes, finished, guarded_summands
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.turnstile import hand_over


@dataclass(frozen=True, slots=True)
class _State:
    """How one member is kept: its accumulators, one per component, and the space its summands are evaluated in.
    ``every_step``: reduced across lanes in every step. ``behind``: operands A that a lagging product multiplies in the
    next step, one per accumulator."""

    node: Reduction
    member: Member
    space: Space | None
    accumulators: tuple[TileVar, ...]
    starts: tuple[Literal, ...]
    every_step: bool
    behind: tuple[TileVar, ...] = ()


@dataclass(slots=True)
class _Lowering:
    """One group while it is lowered. ``factors`` remembers the names of factors that several members share. Of a step
    in which products lag (``lags``), ``started`` has the accumulators of those that lead it, and ``rescaled`` what
    becomes of the others when they have ended."""

    node: Group
    kernel: Kernel
    states: dict[Func, _State]
    lower: LowerNodes
    factors: dict[TileExpr, TileVar] = field(default_factory=dict)
    pending: list[tuple[TileVar, TileExpr]] = field(default_factory=list)
    lags: bool = False
    started: dict[Func, tuple[TileVar, ...]] = field(default_factory=dict)
    rescaled: list[tuple[TileVar, TileExpr]] = field(default_factory=list)


def lower_group(node: Group, kernel: Kernel, scope: Scope, block: Block, lower: LowerNodes) -> Scope:
    """The loops of a group; the resulting scope knows the members' values."""
    states = _start(node, kernel, scope, block)
    group = _Lowering(node, kernel, states, lower)

    def nodes(inner: Sequence[Node], _: Kernel, at: Scope, into: Block) -> Scope:
        at = _counted(group, at)
        for one in inner:
            if isinstance(one, Reduction) and one.carried is not None:
                at = _update(group, states[one.funcs[0]], at, into)
            elif isinstance(one, Reduction) and one.funcs[0] in group.started:
                assert one.dot is not None
                accumulators = group.started.pop(one.funcs[0])
                clear_guarded(one, one.dot, accumulators, kernel, at, into)
                at = with_product(one, accumulators, kernel, at, into)
            else:
                at = lower([one], kernel, at, into)
        return at

    def close(inner: Block) -> None:
        for target, value in group.rescaled:
            inner.add(Assign(target.name, value, note="rescaled"))
        for target, value in group.pending:
            inner.add(Assign(target.name, value))
        group.rescaled.clear()
        group.pending.clear()
        group.factors.clear()  # a loop that is split by its guard has several bodies
        group.lags = False

    def body(_: Scope, inner: Block) -> None:
        if not group.lags:
            close(inner)

    def compute(into: Block) -> None:
        overlap = _overlap(group, close) if node.lagging else None
        emit_loops(node.loops, node.body, body, kernel, scope, into, nodes, overlap=overlap)

    only_if_live(node.live, node.funcs[0].name, kernel, scope, block, compute)
    if kernel.plan.passes_on(node):
        _in_turn(group, scope, block)
    return _results(group, scope, block)


# ---- before the loops ------------------------------------------------------------------------------------------------


def _start(node: Group, kernel: Kernel, scope: Scope, block: Block) -> dict[Func, _State]:
    """The accumulators. Their layouts are those of the values that the members' summands read in the loop, which are
    worked out ahead of it."""
    inside = scope.with_axes({loop.axis: AxisValue(const(0), loop.size, loop.full) for loop in node.loops})
    states: dict[Func, _State] = {}
    for one in node.body:
        match one:
            case Reduction(carried=Member() as member):
                state = _start_member(one, member, node.body, kernel, inside, block)
                if one.funcs[0] in node.lagging:
                    state = dataclasses.replace(state, behind=_start_operands(state, kernel, inside, block))
                states[one.funcs[0]] = state
                if member.running:
                    inside = inside.with_value(member.func, state.accumulators[0])
            case Reduction(dot=dot) if dot is not None:
                sizes = {axis: inside.lanes(axis) for axis in (*dot.rows, *dot.cols)}
                space = kernel.accumulator(dot, sizes, one.funcs[0])
                inside = inside.with_value(one.funcs[0], TileVar("", one.funcs[0].dtype, space, (0, 1)))
            case Compute(memory=Memory.REGISTERS, func=func, expr=expr):
                sizes = {axis: inside.lanes(axis) for axis in axes_of(expr) if axis in inside.axes}
                found = space_for([expr], sizes, kernel, inside)
                dims = () if found is None else tuple(range(len(found.dims)))
                inside = inside.with_value(func, TileVar("", func.dtype, found, dims))
            case _:
                pass
    return states


def _start_member(
    node: Reduction, member: Member, body: Sequence[Node], kernel: Kernel, scope: Scope, block: Block
) -> _State:
    if node.dot is not None:
        matrix = start_accumulators(node, node.dot, kernel, scope, block)
        zero = tuple(tile.literal(start.value, start.dtype) for start in starts_of(member))
        return _State(node, member, matrix[0].space, matrix, zero, False)
    sizes = {axis: scope.lanes(axis) for axis in (*node.keep, *node.axes) if axis in scope.axes}
    exprs = [*node.exprs, *([node.where] if node.where is not None else [])]
    space = space_for(exprs, sizes, kernel, scope, whole=True)
    every_step = is_kept_by_rows(node, body, {axis: scope.lanes(axis) for axis in scope.axes})
    starts = tuple(tile.literal(start.value, start.dtype) for start in starts_of(member))
    wanted = [f"{func.name}_acc" for func in node.funcs]
    wanted += [f"{member.func.name}_d{n}" for n in range(1, 1 + len(starts) - len(wanted))]
    names = [kernel.name(name) for name in wanted]
    dims = _dims(space, node, every_step)
    accumulators: list[TileVar] = []
    for name, start in zip(names, starts, strict=True):
        initial: TileExpr = start if space is None or not dims else Full(start, start.dtype, space, dims)
        block.add(Assign(name, initial, origin=origin(member.func.name, node.schedule)))
        accumulators.append(TileVar(name, start.dtype, space if dims else None, dims))
    return _State(node, member, space, tuple(accumulators), starts, every_step)


def _start_operands(state: _State, kernel: Kernel, scope: Scope, block: Block) -> tuple[TileVar, ...]:
    """Zeros of the kind of the operands in registers that a lagging product will be given."""
    node, dot = state.node, state.node.dot
    assert dot is not None
    if dot.a_in is Memory.SHARED:
        return ()
    kinds: dict[TileExpr, TileVar] = {}
    operands = first_operands(node, dot, state.accumulators, kernel, scope)
    for value in dict.fromkeys(operands):
        assert value.space is not None
        name, zero = kernel.name(f"{node.funcs[0].name}_behind"), tile.literal(0.0, value.dtype)
        block.add(Assign(name, Full(zero, value.dtype, value.space, value.dims)))
        kinds[value] = TileVar(name, value.dtype, value.space, value.dims)
    return tuple(kinds[value] for value in operands)


def _dims(space: Space | None, node: Reduction, reduced: bool) -> tuple[int, ...]:
    """The dims of an accumulator: all of them, or those of kept axes."""
    if space is None:
        return ()
    names = {axis.name for axis in node.axes} if reduced else set()
    return tuple(d for d, dim in enumerate(space.dims) if not all(name in names for name, _ in dim.axes))


# ---- a step ----------------------------------------------------------------------------------------------------------


def _counted(group: _Lowering, scope: Scope) -> Scope:
    """The scope of a step: values from before it by their variables, and the number of points seen."""
    variables: dict[Var, TileExpr] = {}
    for func, var in group.node.old:
        variables[var] = group.states[func].accumulators[0]
    if group.node.seen is not None:
        func, var = group.node.seen
        loop = group.node.loops[0]
        at = scope.axes[loop.axis]
        rest = product(axis.extent for axis in group.node.axes if axis is not loop.axis)
        end = at.origin + at.size
        end = end if at.full else minimum(end, loop.axis.extent)
        variables[var] = tile.uniform(at.origin * rest)
        scope = scope.with_value(func, tile.uniform(end * rest))
    return scope.with_variables(variables)


def _update(group: _Lowering, state: _State, scope: Scope, block: Block) -> Scope:
    node, member, kernel = state.node, state.member, group.kernel
    carried = _carried(group, state, scope, block)
    if node.dot is not None and group.lags and node.funcs[0] in group.node.lagging:
        group.rescaled += [(old, new) for old, new in zip(state.accumulators, carried, strict=True) if old is not new]
        _leave_behind(group, state, node.dot, scope, block)
        return scope
    if node.dot is not None:
        (accumulator,) = state.accumulators
        if carried[0] is not accumulator:
            block.add(Assign(accumulator.name, carried[0], note="rescaled"))
        multiply_step(node, node.dot, (accumulator,), kernel, scope, block)
        return scope
    dtypes = tuple(start.dtype for start in state.starts)
    values = guarded_summands(node, dtypes, state.starts, state.space, kernel, scope)
    op = as_monoid(member.op, dtypes)
    if state.every_step and _is_tuple(member):
        values = across_lanes(op, values, state.space, node.axes)
    elif state.every_step:
        values = tuple(across_lanes(op, (value,), state.space, node.axes)[0] for value in values)
    new = _combined(op, member, carried, values)
    named = tuple(
        assign(f"{member.func.name}_new{n or ''}", value, kernel, block, node.schedule)
        for n, value in enumerate(new)
    )
    group.pending += zip(state.accumulators, named, strict=True)
    return scope.with_value(member.func, named[0]) if member.running else scope


def _leave_behind(group: _Lowering, state: _State, dot: Dot, scope: Scope, block: Block) -> None:
    """Work out what a lagging product will multiply in the next step."""
    if not state.behind:
        return
    operands = first_operands(state.node, dot, state.accumulators, group.kernel, scope)
    for target, value in dict(zip(state.behind, operands, strict=True)).items():
        name = f"{state.node.funcs[0].name}_a"
        group.pending.append((target, assign(name, value, group.kernel, block, state.node.schedule)))


def _overlap(group: _Lowering, close: Callable[[Block], None]) -> Overlap:
    """The parts of a step of a group in which products lag."""
    node, kernel = group.node, group.kernel
    leading = [one for one in node.body if isinstance(one, Reduction) and one.funcs[0] in node.leading]
    lagging = [group.states[func] for func in node.lagging]
    names = tuple(var.name for state in lagging for var in state.accumulators)

    def lead(at: Scope, block: Block) -> None:
        group.lags = True
        for one in leading:
            assert one.dot is not None
            accumulators = start_accumulators(one, one.dot, kernel, at, block)
            operands = first_operands(one, one.dot, accumulators, kernel, at)
            start_products(one, one.dot, accumulators, operands, kernel, at, block)
            group.started[one.funcs[0]] = accumulators

    def lag(before: Scope, block: Block) -> None:
        for state in lagging:
            dot = state.node.dot
            assert dot is not None
            operands = state.behind or first_operands(state.node, dot, state.accumulators, kernel, before)
            start_products(state.node, dot, state.accumulators, operands, kernel, before, block)

    def await_leading(lagged: bool, block: Block) -> None:
        led = tuple(var.name for accumulators in group.started.values() for var in accumulators)
        block.add(DotWait(len(names) if lagged else 0, led))

    return Overlap(lead, lag, await_leading, names, close)


def _is_tuple(member: Member) -> bool:
    """Whether the components are those of a tuple reduction, and not a sum with its helpers."""
    return len(member.definition.funcs) > 1 or isinstance(member.op, Monoid)


def _combined(
    op: ReduceOp | Monoid, member: Member, left: tuple[TileExpr, ...], right: tuple[TileExpr, ...]
) -> tuple[TileExpr, ...]:
    if _is_tuple(member):
        return combine(op, left, right)
    return tuple(combine(op, (a,), (b,))[0] for a, b in zip(left, right, strict=True))


def _carried(group: _Lowering, state: _State, scope: Scope, block: Block) -> tuple[TileExpr, ...]:
    """The components of a member at the new running values of the members before it."""
    member, kernel = state.member, group.kernel
    if member.factor_of is None and member.shift_of is None:
        return state.accumulators
    space = state.accumulators[0].space
    variables: dict[Var, TileExpr] = dict(zip(member.parts, state.accumulators, strict=True))
    for var, expr, name in (
        (member.factor, member.factor_of, "factor"),
        (member.shift, member.shift_of, "shift"),
    ):
        if expr is not None:
            variables[var] = _moved(_row_value(group, f"{member.func.name}_{name}", expr, scope, block), space)
    inner = scope.with_variables(variables)
    parts = tuple(evaluate(expr, inner, space, kernel.needs) for expr in member.rescaled)
    if member.reset is None:
        return parts
    fresh = _moved(_row_value(group, f"{member.func.name}_fresh", member.reset, scope, block), space)
    return tuple(tile.choose(fresh, start, part) for start, part in zip(state.starts, parts, strict=True))


def _row_value(group: _Lowering, name: str, expr: Expr, scope: Scope, block: Block) -> TileExpr:
    """A value over running values, worked out where they live and named once for all members that need it."""
    spaces = [
        value.space
        for func, _ in group.node.old
        if (value := scope.values.get(func)) is not None and value.space is not None and value.dims
    ]
    value = evaluate(expr, scope, spaces[0] if spaces else None, group.kernel.needs)
    known = group.factors.get(value)
    if known is None:
        known = group.factors[value] = assign(name, value, group.kernel, block)
    return known


def _moved(value: TileExpr, space: Space | None) -> TileExpr:
    return value if space is None else tile.relayout(value, space)


# ---- after the loops -------------------------------------------------------------------------------------------------


def _in_turn(group: _Lowering, scope: Scope, block: Block) -> None:
    """Combine the members' values with those of the parts before, in turn. Both are states of the monoid that the group
    is (``plan.online.as_monoid``): each is carried over to the running values of the two together."""
    for func, state in group.states.items():
        if state.node.dot is None and not state.every_step:
            group.states[func] = _across(state, group.kernel, block)
    states = list(group.states.values())

    def merge(before: Sequence[TileVar], into: Block) -> None:
        rest = iter(before)
        taken = (tuple(next(rest) for _ in state.accumulators) for state in states)
        earlier = [dataclasses.replace(state, accumulators=own) for state, own in zip(states, taken, strict=True)]
        sides = [{state.member.func: state for state in side} for side in (earlier, states)]
        at = scope
        for state in states:
            member = state.member
            carried = []
            for side in sides:
                old = {var: side[func].accumulators[0] for func, var in group.node.old}
                carried.append(_carried(group, side[member.func], at.with_variables(old), into))
            dtypes = tuple(start.dtype for start in state.starts)
            new = _combined(as_monoid(member.op, dtypes), member, carried[0], carried[1])
            named = tuple(
                assign(f"{member.func.name}_new{n or ''}", value, group.kernel, into, state.node.schedule)
                for n, value in enumerate(new)
            )
            group.pending += zip(state.accumulators, named, strict=True)
            at = at.with_value(member.func, named[0]) if member.running else at
        for target, value in group.pending:
            into.add(Assign(target.name, value))
        group.pending.clear()
        group.factors.clear()

    hand_over([(var,) for state in states for var in state.accumulators], merge, group.kernel, scope, block)


def _across(state: _State, kernel: Kernel, block: Block) -> _State:
    """A state that is kept per element of the tile, reduced across lanes."""
    op = as_monoid(state.member.op, tuple(start.dtype for start in state.starts))
    values: tuple[TileExpr, ...] = state.accumulators
    if _is_tuple(state.member):
        values = across_lanes(op, values, state.space, state.node.axes)
    else:
        values = tuple(across_lanes(op, (value,), state.space, state.node.axes)[0] for value in values)
    named = tuple(assign(f"{state.member.func.name}_sum", value, kernel, block) for value in values)
    return dataclasses.replace(state, accumulators=named, every_step=True)


def _results(group: _Lowering, scope: Scope, block: Block) -> Scope:
    kernel = group.kernel
    for one in group.node.body:
        if not isinstance(one, Reduction) or one.carried is None:
            continue
        state, member = group.states[one.funcs[0]], one.carried
        values: tuple[TileExpr, ...] = state.accumulators
        many = len(member.definition.funcs)
        if one.dot is None and not state.every_step:
            dtypes = tuple(start.dtype for start in state.starts)
            values = across_lanes(as_monoid(member.op, dtypes), values[:many], state.space, one.axes)
        results = finished(member.op, values[:many], state.starts)
        if member.result is not None:
            local = scope.with_variables({member.parts[0]: results[0]})
            results = (evaluate(member.result, local, results[0].space, kernel.needs),)
        for func, value in zip(one.funcs, results, strict=True):
            plain = isinstance(value, TileVar) and value.dtype is func.dtype
            named = value if plain else assign(func.name, tile.cast(value, func.dtype), kernel, block, one.schedule)
            scope = scope.with_value(func, named)
    return scope
