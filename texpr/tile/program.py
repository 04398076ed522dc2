"""A kernel plan as a whole tile program: the grid, the order of programs, persistence, parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence
from functools import partial

from texpr.dtypes import DType
from texpr.errors import located
from texpr.lang.ir import Axis, OpName
from texpr.math.bounds import Facts, divisor
from texpr.math.expr import TRUE, BoolExpr, IntExpr, Sym, const, free_symbols, ge, minimum, substitute, sym
from texpr.math.integer import product
from texpr.plan.access import memory_of
from texpr.plan.ir import Cover, KernelPlan, Node, Scratch, TileAxis
from texpr.plan.resolve import constant
from texpr.tile import build as tile
from texpr.tile.clusters import cluster_of, spanning
from texpr.tile.communicate import AwaitTurn, LookBack, PassTurn, Publish, Receive, Ticket
from texpr.tile.declarations import IntParam, Parameter, PointerParam, PresentParam, ScalarParam
from texpr.tile.evaluate import Needs
from texpr.tile.extern import extern_program
from texpr.tile.flatten import lower_share
from texpr.tile.ir import (
    Atomic,
    CopyAsync,
    Expr,
    For,
    If,
    Literal,
    Load,
    Role,
    ScalarOf,
    SharedGather,
    SharedTile,
    Specialise,
    Statement,
    Store,
    StoreShared,
    TileProgram,
    Uniform,
    children,
    statement_exprs,
    walk,
)
from texpr.tile.kernel import Block, Kernel, LowerNodes
from texpr.tile.lower import lower_nodes
from texpr.tile.order import tile_numbers
from texpr.tile.protocol import (
    Advance,
    Arrive,
    ArriveCopies,
    CopyTensor,
    DotWait,
    Expect,
    FenceAsync,
    MeetCluster,
    StoreTensor,
    WaitBarrier,
    WaitStores,
    integers_of,
)
from texpr.tile.ragged import TileInGroup, tile_in_group
from texpr.tile.roles import fetch_nodes, specialised
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.spaces import all_sizes, grouping
from texpr.tile.tensor_stores import drain_stores
from texpr.tile.through import finish_through, start_through
from texpr.tile.turns import TileLoop, in_turn
from texpr.tile.uniform import FindGroup, ProgramId, Scalar
from texpr.tile.updates import finish_copies, start_copies

_SMALL = 1 << 24  # offsets whose literal bound is below this need no check at launch
_DIVISOR = 16  # Triton's analysis gains nothing from more


def lower_kernel(plan: KernelPlan, name: str, facts: Facts, guard: BoolExpr, arguments: Sequence[str]) -> TileProgram:
    """The tile program of one kernel; ``name`` becomes the Gluon function's. ``arguments`` are the names of the
    algorithm's arguments and dims, which nothing in the kernel may take: pointers come in their order (then the
    workspace's)."""
    with located(plan.record.location):
        if plan.extern is not None:
            return extern_program(plan, plan.extern, name, facts, guard)
        return _lowered(spanning(plan), name, facts, guard, arguments)


def _lowered(plan: KernelPlan, name: str, facts: Facts, guard: BoolExpr, arguments: Sequence[str]) -> TileProgram:
    needs = Needs(warps=plan.warps)
    kernel = Kernel(plan, grouping(plan, facts, guard), all_sizes(plan), needs)
    kernel.names.update(arguments, ("sms",), (f"has_{argument}" for argument in arguments))
    block = Block()
    pid = kernel.name("pid")
    grid_axes = [t for t in plan.tile if t.cover is Cover.GRID]
    tiles = product(t.count for t in grid_axes)
    block.add(ProgramId(pid) if plan.tickets is None else _ticket(pid, plan.tickets, kernel, guard))
    origins = {t.axis: sym(kernel.name(f"{t.axis.name}0")) for t in grid_axes}
    within = next((tile_in_group(t, t.grouped, kernel) for t in grid_axes if t.grouped is not None), None)
    axes = {t.axis: AxisValue(origins.get(t.axis, const(0)), t.size, t.full) for t in plan.tile}
    axes |= {t.axis: AxisValue(sym(pid), 1, True) for t in plan.tile if t.cover is Cover.PROGRAM}
    if within is not None:
        axes |= within.axes(origins)
    scope = Scope(axes, facts, guard)
    for t in grid_axes:  # there is a program
        scope = scope.with_fact(ge(t.axis.extent, 1))

    def lower_tile(nodes: Sequence[Node], own: Kernel, lower: LowerNodes, at: Scope, index: IntExpr, to: Block) -> None:
        to.add(*_positions(plan, grid_axes, origins, index, own, within))
        body = to if within is None else Block()
        start_copies(own, body, each_tile=True)
        lower(nodes, own, at, body)
        own.release(0, body)
        finish_copies(own, at, body, each_tile=True)
        if within is not None:
            to.add(within.around(origins, body))

    rooms = {count.dim.name: count.dim.room for count in plan.counts}
    shared = None if plan.turnstile is None else plan.turnstile.shared
    programs = tiles if plan.persistence is None else minimum(tiles, plan.persistence.programs)
    grid = substitute(programs if plan.persistence is None or shared is None else plan.persistence.programs, rooms)

    def all_tiles(own: Kernel, lower: LowerNodes) -> list[Statement]:
        to, inner = Block(), Block()
        around = scope if own.instance is None else own.instance.part(scope)
        if plan.persistence is None and grid is tiles:
            lower_tile(plan.nodes, own, lower, around, sym(pid), to)
            drain_stores(own, to)
            return to.statements
        if plan.persistence is None:
            turn = own.name("tile")
            lower_tile(plan.nodes, own, lower, around, sym(turn), inner)
            note = "a tile, unless the device counts too few"
            to.add(For(turn, sym(pid), tiles, grid, tuple(inner.statements), note))
            drain_stores(own, to)
            return to.statements
        start_copies(own, to, each_tile=False)
        at = lower(plan.prologue, own, around, to).repeating()
        count = own.name("programs")
        if shared is not None:
            to.add(Scalar(count, grid, "programs launched"))
            lower_share(shared, tiles, sym(count), sym(pid), own, to, partial(lower_tile, plan.body, own, lower, at))
            lower(plan.epilogue, own, at, to)
            drain_stores(own, to)
            return to.statements
        turn = own.name("tile")

        def one(index: IntExpr, kernel: Kernel, into: Block) -> None:
            lower_tile(plan.body, kernel, fetch_nodes if kernel.passing else lower, at, index, into)

        loop = TileLoop(sym(pid), sym(count), one, "persistent: one tile after the other")
        before = Block()
        if own.instance is not None and own.instance.in_turn:
            loop = in_turn(loop, own.instance, own, before)
        loop.lower(sym(turn), own, inner)
        for through in own.through:
            start_through(through, to)
        to.add(Scalar(count, grid, "programs launched"), *before.statements)
        to.add(For(turn, loop.first, tiles, loop.by, tuple(inner.statements), loop.note))
        finish_copies(own, at, to, each_tile=False)
        for through in own.through:
            at = finish_through(through, own, at, to)
        lower(plan.epilogue, own, at, to)
        drain_stores(own, to)
        return to.statements

    if plan.roles:
        roles = specialised(plan, kernel, all_tiles)
        block.add(Specialise(tuple(_started(role, kernel.carried) for role in roles.roles)))
        if any(barriers.across for barriers in kernel.barriers):
            block.add(MeetCluster("other programs use the barriers of the first one until here"))
        body = tuple(block.statements)
    else:
        block.add(*all_tiles(kernel, lower_nodes))
        body = _counting(kernel.carried, tuple(block.statements))
    most = dict.fromkeys(substitute(limit, rooms) for limit in needs.limits)
    limits = tuple(limit for limit in most if not _small(limit))
    body = _counted(plan, kernel, without_unused_scalars(body))
    parameters = _parameters(kernel, body, facts, guard, arguments)
    return TileProgram(
        name, plan.warps, parameters, tuple(kernel.buffers), body, grid, limits, tuple(kernel.conflicts),
        barriers=tuple(kernel.barriers), cluster=cluster_of(plan).axes,
    )  # fmt: skip


def _counting(names: Sequence[str], body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """A body with the counts of steps that it carries on, at zero."""
    advanced: set[str] = set()

    def visit(item: Statement) -> None:
        if isinstance(item, Advance):
            advanced.add(item.name)

    walk(body, visit)
    started = [Scalar(name, const(0), "steps of the ring that are done") for name in names if name in advanced]
    return (*started, *body)


def _started(role: Role, names: Sequence[str]) -> Role:
    return dataclasses.replace(role, body=_counting(names, role.body))


def _ticket(name: str, words: Scratch, kernel: Kernel, guard: BoolExpr) -> Ticket:
    memory = memory_of(words, guard)
    kernel.needs.tensors[memory.name] = words
    return Ticket(name, memory.name)


def _counted(plan: KernelPlan, kernel: Kernel, body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The body after reading the dims of the device that it mentions."""
    used: dict[str, None] = {}
    _symbols(body, set(), used)
    read: list[Statement] = []
    for count in plan.counts:
        if count.dim.name not in used:
            continue
        memory = memory_of(count.source, TRUE)
        kernel.needs.tensors[memory.name] = count.source
        value: Expr = Load(memory.name, const(0), None, None, Literal(0, memory.dtype), memory.dtype, None, ())
        if memory.dtype is not DType.I32:
            value = tile.cast(value, DType.I64)
        value = tile.op(OpName.MAX, value, tile.literal(0, value.dtype))
        value = tile.op(OpName.MIN, value, tile.uniform(count.dim.room, value.dtype))
        read.append(ScalarOf(count.dim.name, tile.cast(value, DType.I32), f"{memory.name}[], at most {count.dim.room}"))
    return (*read, *body)


def _small(limit: IntExpr) -> bool:
    value = constant(limit)
    return value is not None and value < _SMALL


def _positions(
    plan: KernelPlan, axes: Sequence[TileAxis], origins: Mapping[Axis, Sym], index: IntExpr, kernel: Kernel,
    within: TileInGroup | None,
) -> list[Statement]:
    """``i0 = ..`` for every grid axis from the linear tile index, in the plan's order."""
    statements: list[Statement] = []
    counts: dict[str, IntExpr] = {}
    for t in axes[1:] if plan.order is None else axes:
        count = t.count
        if constant(count) is None and not isinstance(count, Sym):
            name = kernel.name(f"{t.axis.name}_tiles")
            statements.append(Scalar(name, count))
            count = sym(name)
        counts[t.axis.name] = count

    def named(name: str, value: IntExpr) -> IntExpr:
        unique = kernel.name(name)
        statements.append(Scalar(unique, value))
        return sym(unique)

    numbers = tile_numbers(plan.order, [t.axis.name for t in axes], counts, index, named)
    for t in axes:
        if within is not None and t is within.tile:
            statements += within.located(numbers[t.axis.name])
            continue
        note = f"tile of {t.size} along {t.axis.name}"
        statements.append(Scalar(origins[t.axis].name, numbers[t.axis.name] * t.size, note))
    return statements


# ---- parameters -----------------------------------------------------------------------------------------------------


def _parameters(
    kernel: Kernel, body: tuple[Statement, ...], facts: Facts, guard: BoolExpr, arguments: Sequence[str]
) -> tuple[Parameter, ...]:
    """Pointers, scalars and flags that were used, and every free integer symbol of the body."""
    defined: set[str] = set()
    used: dict[str, None] = {}
    _symbols(body, defined, used)
    pointers: list[Parameter] = []
    rank = {name: n for n, name in enumerate(arguments)}
    for name, source in sorted(kernel.needs.tensors.items(), key=lambda item: rank.get(item[0], len(rank))):
        memory = memory_of(source, guard)
        pointers.append(PointerParam(name, memory.dtype, memory.alignment))
    flags = [PresentParam(name, tensor) for name, tensor in kernel.needs.present.items()]
    scalars = [ScalarParam(name, dtype) for name, dtype in kernel.needs.scalars.items()]
    known = {flag.name for flag in flags} | {scalar.name for scalar in scalars}
    integers = [
        IntParam(name, sym(name), max(1, min(_DIVISOR, _power_of_two(divisor(sym(name), facts)))))
        for name in sorted(used)
        if name not in defined and name not in known
    ]
    return (*pointers, *kernel.maps.values(), *scalars, *flags, *integers)


def _power_of_two(value: int) -> int:
    return _DIVISOR if value == 0 else value & -value


def without_unused_scalars(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Drop named integers that nothing uses, until none is left."""
    while True:
        used: dict[str, None] = {}
        _symbols(body, set(), used)
        kept = _filtered(body, used)
        if kept == body:
            return body
        body = kept


def _filtered(body: tuple[Statement, ...], used: Container[str]) -> tuple[Statement, ...]:
    kept: list[Statement] = []
    for statement in body:
        if isinstance(statement, Scalar) and statement.name not in used:
            continue
        match statement:
            case For(body=body) | If(body=body):
                statement = dataclasses.replace(statement, body=_filtered(body, used))
            case Specialise(roles=roles):
                kept_roles = (dataclasses.replace(role, body=_filtered(role.body, used)) for role in roles)
                statement = Specialise(tuple(kept_roles))
            case _:
                pass
        kept.append(statement)
    return tuple(kept)


def _symbols(statements: Sequence[Statement], defined: set[str], used: dict[str, None]) -> None:
    seen: set[int] = set()

    def integers(value: IntExpr | BoolExpr | None) -> None:
        if value is not None:
            used.update(dict.fromkeys(sorted(free_symbols(value))))

    def visit(expr: Expr) -> None:
        if id(expr) in seen:
            return
        seen.add(id(expr))
        match expr:
            case Uniform(value=value):
                integers(value)
            case Load(base=base):
                integers(base)
            case SharedTile(stage=stage) | SharedGather(stage=stage):
                integers(stage)
            case _:
                pass
        for child in children(expr):
            visit(child)

    for statement in statements:
        for expr in statement_exprs(statement):
            visit(expr)
        match statement:
            case FindGroup(name=name, groups=groups, slot=slot):
                defined.add(name)
                integers(groups)
                integers(slot)
            case ProgramId(name=name) | Ticket(name=name) | ScalarOf(name=name):
                defined.add(name)
            case Publish(at=at, stride=stride):
                integers(at)
                integers(stride)
            case LookBack(first=first, stride=stride, count=count):
                for value in (first, stride, count):
                    integers(value)
            case Scalar(name=name, value=value):
                defined.add(name)
                integers(value)
            case For(counter=counter, start=start, stop=stop, step=step, body=body):
                defined.add(counter)
                for value in (start, stop, step):
                    integers(value)
                _symbols(body, defined, used)
            case If(body=body):
                _symbols(body, defined, used)
            case CopyAsync(stage=stage) | StoreShared(stage=stage):
                integers(stage)
            case AwaitTurn(at=at, turn=turn) | PassTurn(at=at, turn=turn):
                integers(at)
                integers(turn)
            case Store(base=base) | Atomic(base=base) | Receive(base=base):
                integers(base)
            case Specialise(roles=roles):
                for role in roles:
                    _symbols(role.body, defined, used)
            case (
                Expect() | CopyTensor() | WaitBarrier() | Arrive() | ArriveCopies() | StoreTensor() | WaitStores()
                | FenceAsync() | DotWait() | Advance() | MeetCluster()
            ):  # fmt: skip
                for part in integers_of(statement):
                    integers(part)
            case _:
                pass
