"""The verifier of tile programs: run after every pass, it refuses a program that could not mean what it says.

A violation is a bug of the compiler, never of the user. Checked are types, spaces and layouts of every expression, that
names and buffers exist where they are used, that a name keeps its type, that asynchronous copies are committed and
waited for, and that roles share no tiles.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from texpr.dtypes import DType
from texpr.lang.ir import Monoid
from texpr.math.expr import BoolExpr, Const, IntExpr, const, free_symbols
from texpr.tile.check_protocol import check_barriers, check_protocol, check_tensor_map
from texpr.tile.check_types import (
    Context,
    TypeProblem,
    check_access,
    check_buffer_tile,
    check_load,
    check_node,
    check_parts,
    check_space,
    check_stage,
    check_word,
    require,
)
from texpr.tile.communicate import AwaitTurn, LookBack, PassTurn, Publish, Receive, Ticket
from texpr.tile.declarations import Dims, IntParam, PointerParam, PresentParam, ScalarParam, Space, TensorMapParam
from texpr.tile.ir import (
    Assign,
    Atomic,
    AtomicShared,
    Barrier,
    Commit,
    CopyAsync,
    Expr,
    For,
    If,
    Load,
    ScalarOf,
    SharedGather,
    SharedTile,
    Specialise,
    Statement,
    Store,
    StoreShared,
    TileProgram,
    Var,
    Wait,
    children,
    statement_exprs,
)
from texpr.tile.layouts import Nvmma
from texpr.tile.protocol import (
    Advance,
    Arrive,
    ArriveCopies,
    CopyTensor,
    DotWait,
    Expect,
    FenceAsync,
    MeetCluster,
    Protocol,
    StoreTensor,
    WaitBarrier,
    WaitStores,
    integers_of,
)
from texpr.tile.show import expr_text, statement_text, type_text
from texpr.tile.uniform import FindGroup, ProgramId, Scalar
from texpr.tile.uses import own_names

_Type = tuple[DType, Space | None, Dims]


class TileError(AssertionError):
    """A tile program is malformed: a bug of the compiler. ``statement`` is the text of the statement at fault."""

    def __init__(self, program: str, problem: str, statement: str = "") -> None:
        self.problem = problem
        self.statement = statement
        super().__init__(f"tile program {program}: {problem}" + (f"\n  in: {statement}" if statement else ""))


def verify(program: TileProgram) -> None:
    """Raise TileError unless ``program`` is well formed."""
    try:
        state = _start(program)
    except TypeProblem as problem:
        raise TileError(program.name, str(problem)) from problem
    for item in program.body:
        _verified(item, state, program)
    if state.copies.uncommitted:
        raise TileError(program.name, "asynchronous copies are never committed")
    if state.copies.in_flight != 0:
        raise TileError(program.name, "asynchronous copies are still in flight at the end")


@dataclass(slots=True)
class _Copies:
    """``in_flight``: committed groups that nobody waited for, None when their number depends on a loop's length.
    ``waited``: some wait came after the first copy."""

    uncommitted: bool = False
    in_flight: int | None = 0
    waited: bool = False


@dataclass(slots=True)
class _State:
    """What is defined where the verifier stands. ``fixed`` names have one meaning for ever, ``scalars`` and ``types``
    are those of statements, ``static`` are the counters of unrolled loops; ``checked`` holds expressions that passed,
    by identity; ``has_turn``: the program has waited for its turn."""

    context: Context
    fixed: frozenset[str]
    scalars: frozenset[str]
    types: dict[str, _Type]
    static: frozenset[str] = frozenset()
    stored: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    shared_words: set[str] = field(default_factory=set)
    has_turn: bool = False
    async_buffers: set[str] = field(default_factory=set)
    copies: _Copies = field(default_factory=_Copies)
    checked: dict[int, Expr] = field(default_factory=dict)


def _start(program: TileProgram) -> _State:
    require(program.warps in (1, 2, 4, 8, 16, 32), f"{program.warps} warps")
    pointers, scalars, maps, names = {}, {}, {}, []
    for parameter in program.parameters:
        names.append(parameter.name)
        match parameter:
            case PointerParam(name=name):
                pointers[name] = parameter
            case ScalarParam(name=name, dtype=dtype):
                scalars[name] = dtype
            case IntParam(name=name, divisor=divisor):
                require(divisor >= 1, f"parameter {name} is a multiple of {divisor}")
                scalars[name] = DType.I32
            case PresentParam(name=name):
                scalars[name] = DType.I32
            case TensorMapParam(name=name):
                check_tensor_map(parameter)
                maps[name] = parameter
    require(len(set(names)) == len(names), "two parameters share a name")
    buffers = {buffer.name: buffer for buffer in program.buffers}
    require(len(buffers) == len(program.buffers), "two buffers share a name")
    for buffer in program.buffers:
        shape = buffer.shape
        powers = all(n > 0 and n & (n - 1) == 0 for n in shape)
        require(powers, f"buffer {buffer.name} has shape {shape}, which are no powers of two")
        layout = buffer.layout
        rank = layout.rank if isinstance(layout, Nvmma) else len(layout.order)
        require(rank == len(shape), f"the layout of buffer {buffer.name} is for another rank")
        check_parts(f"buffer {buffer.name}", shape, layout.ctas, program.programs)
        if not isinstance(layout, Nvmma):
            permutes = sorted(layout.order) == list(range(rank))
            require(permutes, f"the layout of buffer {buffer.name} is no order of its dims")
    for conflict in program.conflicts:
        require(conflict.buffer in buffers, f"no buffer {conflict.buffer}")
        check_space(conflict.space, program.warps, program.programs)
        shape = tuple(buffers[conflict.buffer].shape[dim] for dim in conflict.order)
        require(shape == conflict.space.shape, f"buffer {conflict.buffer} is not accessed as {conflict.space.name}")
    barriers = {each.name: each for each in program.barriers}
    require(len(barriers) == len(program.barriers), "two arrays of barriers share a name")
    for each in program.barriers:
        check_barriers(each, program.programs)
    context = Context(program.warps, pointers, scalars, buffers, maps, barriers, program.programs)
    return _State(context, frozenset(scalars), frozenset(), {})


def _verified(item: Statement, state: _State, program: TileProgram) -> None:
    try:
        _statement(item, state, program)
    except TypeProblem as problem:
        raise TileError(program.name, str(problem), statement_text(item)) from problem


def _statement(item: Statement, state: _State, program: TileProgram) -> None:
    if isinstance(item, CopyAsync):
        check_load(item.load, state.context)
    for expr in statement_exprs(item):
        _expression(expr, state)
    match item:
        case Scalar(name=name, value=value):
            _symbols(value, state)
            _define_scalar(name, state)
        case ScalarOf(name=name, value=value):
            require(value.dtype is DType.I32 and not value.dims, f"{name} is {type_text(value)}, no 32-bit integer")
            _define_scalar(name, state)
        case FindGroup(name=name, offsets=offsets, groups=groups, slot=slot, size=size):
            require(offsets in state.context.pointers, f"no pointer parameter {offsets}")
            require(state.context.pointers[offsets].dtype.is_int, f"{offsets} has no integers")
            require(size > 0, f"tiles of {size}")
            _symbols(groups, state)
            _symbols(slot, state)
            state.loaded.add(offsets)
            _define_scalar(name, state)
        case ProgramId(name=name):
            _define_scalar(name, state)
        case Ticket(name=name, words=words):
            _words(words, state)
            _define_scalar(name, state)
        case Publish(words=words, at=at, stride=stride, values=values, widths=widths):
            _words(words, state)
            _symbols(at, state)
            _symbols(stride, state)
            require(not any(value.dims for value in values), "a tile is published in place of a number")
            check_word([value.dtype for value in values], widths)
        case LookBack(words=words, first=first, stride=stride, count=count, window=window):
            _words(words, state)
            for integer in (first, stride, count):
                _symbols(integer, state)
            require(window > 0 and window & (window - 1) == 0, f"{window} words are looked at together")
            check_word(item.dtypes, item.widths)
            components = len(item.op.left) if isinstance(item.op, Monoid) else 1
            require(len(item.names) == len(item.dtypes) == components, f"{len(item.names)} names, {components} values")
            for name, dtype in zip(item.names, item.dtypes, strict=True):
                require(name not in state.fixed | state.scalars | state.types.keys(), f"{name} has a value already")
                state.types[name] = (dtype, None, ())
        case AwaitTurn(words=words, at=at, turn=turn):
            _words(words, state)
            _symbols(at, state)
            _symbols(turn, state)
            state.has_turn = True
        case PassTurn(words=words, at=at, turn=turn):
            _words(words, state)
            _symbols(at, state)
            _symbols(turn, state)
        case Receive(name=name, tensor=tensor, base=base, offset=offset, dtype=dtype):
            require(tensor in state.context.pointers, f"no pointer parameter {tensor}")
            require(tensor not in state.loaded, f"{tensor} is received from and loaded from: its loads may move")
            require(state.has_turn, f"{tensor} is received from before the program's turn")
            require(state.context.pointers[tensor].dtype is dtype, f"{tensor} has no {dtype} elements")
            _symbols(base, state)
            check_access(offset, None)
            require(name not in state.fixed | state.scalars | state.types.keys(), f"{name} has a value already")
            state.types[name] = (dtype, item.space if item.dims else None, item.dims)
            state.stored.add(tensor)
        case Assign(name=name, value=value):
            require(name not in state.fixed | state.scalars, f"{name} is already an integer")
            own = (value.dtype, value.space if value.dims else None, value.dims)
            before = state.types.get(name, own)
            require(before == own, f"{name} was {_type_text(before)} and becomes {type_text(value)}")
            state.types[name] = own
        case For():
            _loop(item, state, program)
        case If():
            _branch(item, state, program)
        case CopyAsync(buffer=buffer_name, stage=stage, load=load):
            _stage_symbols(stage, state)
            buffer = check_stage(buffer_name, stage, state.context)
            require(load.other.value == 0, "masked elements of an asynchronous copy are zero, not something else")
            check_buffer_tile(buffer, _full_shape(load), load.dtype)
            state.copies.uncommitted = True
            state.async_buffers.add(buffer_name)
        case Barrier():
            pass
        case Commit():
            state.copies.uncommitted = False
            state.copies.in_flight = None if state.copies.in_flight is None else state.copies.in_flight + 1
        case Wait(pending=pending):
            require(pending >= 0, f"a wait for {pending} groups")
            flying = state.copies.in_flight
            state.copies.in_flight = pending if flying is None else min(flying, pending)
            state.copies.waited = True
        case StoreShared():
            _store_shared(item, state)
        case Store(tensor=tensor, base=base, offset=offset, mask=mask, value=value):
            _written(tensor, base, offset, mask, value, state)
        case Atomic(tensor=tensor, base=base, offset=offset, mask=mask, value=value):
            _written(tensor, base, offset, mask, value, state)
        case AtomicShared(buffer=name, index=index, mask=mask, value=value):
            buffer = check_stage(name, None, state.context)
            require(len(buffer.shape) == 1, f"buffer {name} is updated by position but is not flat")
            require(value.dtype is buffer.dtype, f"buffer {name} holds {buffer.dtype}, not {value.dtype}")
            require(index.dtype is DType.I32, f"positions in buffer {name} are {index.dtype}")
            check_access(index, mask)
        case Specialise():
            _roles(item, state, program)
        case (
            Expect() | CopyTensor() | WaitBarrier() | Arrive() | ArriveCopies() | StoreTensor() | WaitStores()
            | FenceAsync() | DotWait() | Advance() | MeetCluster()
        ):  # fmt: skip
            check_protocol(item, state.context)
            for part in integers_of(item):
                _symbols(part, state)
            _protocol(item, state)


def _protocol(item: Protocol, state: _State) -> None:
    """What a synchronisation statement demands of what came before, and leaves behind."""
    match item:
        case CopyTensor(buffer=buffer, descriptor=descriptor):
            tensor = state.context.maps[descriptor].tensor
            require(tensor not in state.stored, f"{tensor} is loaded from and stored to")
            state.loaded.add(tensor)
            state.async_buffers.add(buffer)
        case StoreTensor(descriptor=descriptor):
            tensor = state.context.maps[descriptor].tensor
            require(tensor not in state.loaded, f"{tensor} is loaded from and stored to")
            state.stored.add(tensor)
        case WaitBarrier():
            state.copies.waited = True
        case ArriveCopies():
            state.copies.uncommitted = False
        case DotWait(names=names):
            for name in names:
                require(name in state.types, f"{name} is waited for before it has a value")
        case Advance(name=name):
            require(name in state.scalars, f"{name} is advanced before it has a value")
        case _:
            pass


def _roles(item: Specialise, state: _State, program: TileProgram) -> None:
    """Every role by itself: it sees the integers of the program, but no tiles."""
    require(sum(role.default for role in item.roles) == 1, "one role has the program's warps")
    require(item.roles[0].default, "the role that has the program's warps comes first")
    require(item.roles[0].warps == program.warps, f"the default role has not the program's {program.warps} warps")
    require(len({role.name for role in item.roles}) == len(item.roles), "two roles share a name")
    require(not state.copies.uncommitted and state.copies.in_flight == 0, "copies are in flight where roles begin")
    outer = state.context, state.scalars, state.types, state.checked
    for role in item.roles:
        require(role.warps in (1, 2, 4, 8, 16), f"role {role.name} has {role.warps} warps")
        state.context = dataclasses.replace(state.context, warps=role.warps)
        state.types, state.checked = {}, {}
        for statement in role.body:
            _verified(statement, state, program)
        require(not state.copies.uncommitted, f"role {role.name} never commits its copies")
        require(state.copies.in_flight == 0, f"copies of role {role.name} are in flight at its end")
        state.context, state.scalars, state.types, state.checked = outer


def _written(
    tensor: str, base: IntExpr, offset: Expr | None, mask: Expr | None, value: Expr, state: _State
) -> None:
    require(tensor in state.context.pointers, f"no pointer parameter {tensor}")
    require(tensor not in state.loaded, f"{tensor} is loaded from and stored to: its loads may not move")
    require(tensor not in state.shared_words, f"{tensor} is also accessed without care for other programs")
    pointer = state.context.pointers[tensor]
    require(value.dtype is pointer.dtype, f"{tensor} has {pointer.dtype} elements, not {value.dtype}")
    _symbols(base, state)
    check_access(offset, mask)
    frame = offset if offset is not None else value
    for part in (mask, value):
        inside = part is None or _varying(part) <= set(frame.dims)
        require(inside, f"a store to {tensor} varies where its addresses do not")
        same = part is None or part.space is None or frame.space is None or part.space == frame.space
        require(same, f"a store to {tensor} mixes two spaces")
    state.stored.add(tensor)


def _words(words: str, state: _State) -> None:
    """Words through which programs meet are accessed by nothing else."""
    require(words in state.context.pointers, f"no pointer parameter {words}")
    require(state.context.pointers[words].dtype is DType.U64, f"{words} has no 64-bit words")
    require(words not in state.loaded | state.stored, f"{words} is also accessed without care for other programs")
    state.shared_words.add(words)


def _varying(value: Expr) -> set[int]:
    """The dims along which a value can differ: those with more than one point."""
    return {dim for dim in value.dims if value.space is not None and value.space.shape[dim] > 1}


def _loop(loop: For, state: _State, program: TileProgram) -> None:
    for bound in (loop.start, loop.stop, loop.step):
        _symbols(bound, state)
        require(not loop.static or isinstance(bound, Const), "an unrolled loop has bounds that are not literal")
    require(not isinstance(loop.step, Const) or loop.step.value > 0, f"a loop in steps of {loop.step}")
    taken = state.fixed | state.scalars | state.types.keys()
    require(loop.counter not in taken, f"loop counter {loop.counter} is a name in use")
    outer_scalars, outer_types, outer_static = state.scalars, dict(state.types), state.static
    started = state.copies.in_flight
    state.scalars = state.scalars | {loop.counter}
    if loop.static:
        state.static = state.static | {loop.counter}
    for item in loop.body:
        _verified(item, state, program)
    require(not state.copies.uncommitted, "copies started in a loop are committed outside of it")
    if state.copies.in_flight != started:
        _repeat_copies(loop, started, state)
    # What the body defined ends with it; what it assigned again keeps its type.
    state.scalars, state.static = outer_scalars, outer_static
    state.types = {name: state.types[name] for name in outer_types}


def _branch(branch: If, state: _State, program: TileProgram) -> None:
    condition = branch.condition
    require(condition.dtype is DType.BOOL and not condition.dims, f"a condition is {type_text(condition)}")
    outer_scalars, outer_types, had_turn = state.scalars, dict(state.types), state.has_turn
    started = state.copies.in_flight
    for item in branch.body:
        _verified(item, state, program)
    state.has_turn = had_turn
    require(not state.copies.uncommitted, "copies started under a condition are committed outside of it")
    require(state.copies.in_flight == started, "copies started under a condition are waited for outside of it")
    state.scalars = outer_scalars
    state.types = {name: state.types[name] for name in outer_types}


def _repeat_copies(loop: For, started: int | None, state: _State) -> None:
    """How many groups are in flight after a loop that changes their number in each turn."""
    turns = None
    if all(isinstance(bound, Const) for bound in (loop.start, loop.stop, loop.step)):
        turns = _turns(loop)
    after = state.copies.in_flight
    waits = any(isinstance(item, Wait) for item in loop.body)
    if turns is not None and not waits and started is not None and after is not None:
        state.copies.in_flight = started + turns * (after - started)
    else:
        state.copies.in_flight = None


def _turns(loop: For) -> int:
    assert isinstance(loop.start, Const) and isinstance(loop.stop, Const) and isinstance(loop.step, Const)
    return len(range(loop.start.value, loop.stop.value, loop.step.value))


def _store_shared(item: StoreShared, state: _State) -> None:
    _stage_symbols(item.stage, state)
    buffer = check_stage(item.buffer, item.stage, state.context)
    value = item.value
    require(value.space is not None, f"a uniform value is stored to buffer {buffer.name}: it has no layout")
    shape = _full_shape(value)
    if item.dims is not None:
        require(set(value.dims) <= set(item.dims), f"a value over dims {value.dims} is stored over {item.dims}")
        shape = tuple(shape[d] for d in item.dims)
    if item.slice is None:
        check_buffer_tile(buffer, shape, value.dtype)
        return
    start, length = item.slice
    require(len(buffer.shape) == 1, f"buffer {buffer.name} is sliced but is not flat")
    computed = free_symbols(start) - state.static
    require(not computed, f"a slice of buffer {buffer.name} starts at {start}, which is not known while compiling")
    require(start % length == const(0), f"a slice of buffer {buffer.name} starts at {start}, no multiple of {length}")
    if isinstance(start, Const):
        require(0 <= start.value <= buffer.shape[0] - length, f"a slice leaves buffer {buffer.name}")
    require(shape == (length,), f"a tile of shape {shape} for a slice of {length}")
    require(value.dtype is buffer.dtype, f"buffer {buffer.name} holds {buffer.dtype}, not {value.dtype}")


def _expression(expr: Expr, state: _State) -> None:
    """Types, once per node; names and memory, wherever the node stands."""
    pending, visited = [expr], set()
    while pending:
        node = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        pending += children(node)
        _names(node, state)
        _memory(node, state)
    _types(expr, state)


def _types(expr: Expr, state: _State) -> None:
    if id(expr) in state.checked:
        return
    for child in children(expr):
        _types(child, state)
    try:
        check_node(expr, state.context)
    except TypeProblem as problem:
        raise TypeProblem(f"{problem}\n  at: {_short(expr_text(expr))}") from problem
    state.checked[id(expr)] = expr


def _names(node: Expr, state: _State) -> None:
    if isinstance(node, Var):
        require(node.name in state.types, f"{node.name} is used before it has a value, or outside of its loop")
        own = (node.dtype, node.space if node.dims else None, node.dims)
        known = state.types[node.name]
        require(known == own, f"{node.name} is read as {type_text(node)} but is {_type_text(known)}")
        return
    unknown = own_names(node) - state.fixed - state.scalars
    require(not unknown, f"{', '.join(sorted(unknown))} is used before it has a value, or outside of its loop")


def _memory(node: Expr, state: _State) -> None:
    match node:
        case Load(tensor=tensor):
            require(tensor not in state.stored, f"{tensor} is loaded from and stored to: its loads may not move")
            require(tensor not in state.shared_words, f"{tensor} is also accessed without care for other programs")
            state.loaded.add(tensor)
        case SharedTile(buffer=buffer) | SharedGather(buffer=buffer) if buffer in state.async_buffers:
            require(state.copies.waited, f"buffer {buffer} is read before any wait for its copies")
        case _:
            pass


def _define_scalar(name: str, state: _State) -> None:
    require(name not in state.fixed, f"parameter {name} is assigned")
    require(name not in state.types, f"{name} is already a tile")
    state.scalars = state.scalars | {name}


def _symbols(e: IntExpr | BoolExpr, state: _State) -> None:
    unknown = free_symbols(e) - state.fixed - state.scalars
    require(not unknown, f"{', '.join(sorted(unknown))} is used before it has a value, or outside of its loop")


def _stage_symbols(stage: IntExpr | None, state: _State) -> None:
    if stage is not None:
        _symbols(stage, state)


def _full_shape(value: Expr) -> tuple[int, ...]:
    """The shape of the tile that is stored: a value is repeated along the dims it does not vary along."""
    return () if value.space is None else value.space.shape


def _type_text(known: _Type) -> str:
    dtype, space, dims = known
    return str(dtype) if space is None else f"{dtype} {space.name}{dims}"


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + " ..."
