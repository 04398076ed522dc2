"""What a tile program does to shared memory and barriers when its loops make given numbers of turns.

The numbers are chosen, not found: whatever a loop's bound depends on, it has to make the same number of turns in every
role. A bound is therefore known by its canonical form over parameters and data, in which named integers are replaced
by what they stand for; equal bounds get equal numbers. Loops with computed steps (over the tiles of a persistent
program) make two turns, in every role that takes tiles in turn with others. Everything else that is unknown is some
large number.

The programs of a cluster do the same, but for what only the first of several does (``protocol.py``). They begin where
the barriers of all are ready, which Triton sees to, and end by giving their shared memory back.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from texpr.lang.ir import OpName
from texpr.math.expr import (
    Add,
    BoolExpr,
    Const,
    FloorDiv,
    IntExpr,
    Max,
    Min,
    Mod,
    Mul,
    Sym,
    ceildiv,
    const,
    evaluate,
    free_symbols,
    lt,
    substitute,
    sym,
)
from texpr.tile.communicate import AwaitTurn, LookBack, PassTurn, Publish, Receive, Ticket
from texpr.tile.declarations import Space, TensorMapParam
from texpr.tile.events import Arrived, Ended, EndGroup, Engine, Event, Fenced, GroupsDone, PhaseDone, Use
from texpr.tile.ir import (
    Assign,
    Atomic,
    AtomicShared,
    Barrier,
    Commit,
    CopyAsync,
    DotStep,
    Elementwise,
    Expr,
    For,
    If,
    ScalarOf,
    SharedGather,
    SharedTile,
    Specialise,
    Statement,
    Store,
    StoreShared,
    TileProgram,
    Uniform,
    Var,
    Wait,
    children,
    statement_exprs,
)
from texpr.tile.layouts import Bases, MmaV3
from texpr.tile.protocol import (
    WARP_THREADS,
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
)
from texpr.tile.show import expr_text
from texpr.tile.sync import ProtocolError, check_protocol
from texpr.tile.uniform import FindGroup, ProgramId, Scalar
from texpr.tile.uses import NamesOf

_TILES = 2  # consecutive tiles of a persistent program
_LARGE = 1 << 20
_LONG = 1000  # characters of a text that grows where loops carry what it stands for
_BEGIN, _END = "begin", "end"  # of the roles: barriers that no program has
_MEET = "meet"  # of the cluster


def check_synchronisation(program: TileProgram) -> None:
    """Raise ProtocolError if some order of execution of ``program``'s roles and engines loses data or hangs, for any of
    the trip counts 0, 1, depth - 1, depth, depth + 1 and 2 * depth + 1 of its loops."""
    tracer = _Tracer(program)
    if not tracer.is_asynchronous:
        return
    depth = max((buffer.depth for buffer in program.buffers), default=1)
    counts = sorted({0, 1, depth - 1, depth, depth + 1, 2 * depth + 1} - {-1})
    turns = Turns({})
    while True:  # a loop may hide another from those who do not enter it
        known = len(turns.of)
        tracer.trace(turns := turns.with_counts(dict.fromkeys(turns.of, 2)))
        if len(turns.of) == known:
            break
    for tiles, chosen in itertools.product(turns.numbers_of_tiles(), _choices(list(turns.of), counts)):
        roles = tracer.trace(turns.with_counts(chosen, tiles))
        try:
            check_protocol(roles, tracer.arrivals)
        except ProtocolError as error:
            text = ", ".join(f"{bound} = {count}" for bound, count in chosen.items())
            error.add_note(f"in tile program {program.name}" + (f", with {text}" if text else ""))
            raise


def _choices(bounds: Sequence[IntExpr], counts: Sequence[int]) -> Iterator[dict[IntExpr, int]]:
    """Turns for every bound: all combinations for up to two bounds, else every two neighbours in all combinations."""
    if len(bounds) <= 2:
        for combination in itertools.product(counts, repeat=len(bounds)):
            yield dict(zip(bounds, combination, strict=True))
        return
    for first, shift in itertools.product(range(len(counts)), repeat=2):
        yield {bound: counts[(first + n * shift) % len(counts)] for n, bound in enumerate(bounds)}


@dataclass(slots=True)
class Turns:
    """How many turns loops make, by their canonical bound; those that are met for the first time make one. ``ends``: by
    the same bound what the loop runs to, from where and in which steps; ``values`` are what the choice makes of it.
    What stands under a condition is a loop that makes one turn or none. ``walks``: loops over the ``tiles`` tiles of a
    program, as first tiles and steps by where they end: roles that take tiles in turn begin at tiles of their own, and
    make longer steps than the others."""

    of: dict[IntExpr, int]
    ends: dict[IntExpr, tuple[IntExpr, int, int]] = field(default_factory=dict)
    values: dict[IntExpr, int] = field(default_factory=dict)
    walks: dict[IntExpr, set[tuple[int, int]]] = field(default_factory=dict)
    tiles: int = _TILES

    def with_counts(self, counts: Mapping[IntExpr, int], tiles: int = _TILES) -> Turns:
        """The same loops with other numbers of turns."""
        ends = {bound: self.ends[bound] for bound in counts}
        values = {stop: first + counts[bound] * step for bound, (stop, first, step) in ends.items()}
        return Turns(dict(counts), ends, values, self.walks, tiles)

    def numbers_of_tiles(self) -> list[int]:
        """How many tiles a program has: two for each role that takes them in turn, one less, and only one."""
        steps = [[step for _, step in walk] for walk in self.walks.values()]
        times = max((max(several) // min(several) for several in steps), default=1)
        return [_TILES] if times == 1 else [_TILES * times, _TILES * times - 1, 1]

    def walk(self, first: int, stop: IntExpr, step: int) -> int:
        """How many of a program's tiles a loop visits."""
        known = self.walks.setdefault(stop, set())
        known.add((first, step))
        begin, unit = min(tile for tile, _ in known), min(one for _, one in known)
        return len(range(first, begin + self.tiles * unit, step))

    def choose(self, first: int, stop: IntExpr, bound: IntExpr, step: int) -> int:
        if bound not in self.of:
            self.of[bound] = 1
            self.ends[bound] = (stop, first, step)
            self.values[stop] = first + step
        return self.of[bound]

    def value(self, e: IntExpr) -> int:
        """A canonical integer. Large numbers stand for what is unknown."""
        if e in self.values:
            return self.values[e]
        match e:
            case Const(value):
                return value
            case Sym():
                return _LARGE
            case Add(args):
                return sum(self.value(arg) for arg in args)
            case Mul(args):
                return math.prod(self.value(arg) for arg in args)
            case FloorDiv(num, den):
                return self.value(num) // self.value(den)
            case Mod(num, den):
                return self.value(num) % self.value(den)
            case Min(args):
                return min(self.value(arg) for arg in args)
            case Max(args):
                return max(self.value(arg) for arg in args)
            case _:
                assert_never(e)


class _Values(dict[str, int]):
    """The value of every named integer of a role, computed when asked for."""

    def __init__(self, names: Mapping[str, IntExpr], turns: Turns) -> None:
        super().__init__()
        self.names = names
        self.turns = turns

    def __missing__(self, name: str) -> int:
        value = self[name] = self.turns.value(self.names.get(name, sym(name)))
        return value


class _Role:
    """A role of ``threads`` threads while it is followed. ``names``: what its integers stand for, over parameters and
    data only. ``program``: the number of its program in the cluster."""

    def __init__(self, turns: Turns, names: Mapping[str, IntExpr], threads: int, program: int) -> None:
        self.turns = turns
        self.threads = threads
        self.program = program
        self.meetings = 0
        self.names = dict(names)
        self.values = _Values(self.names, turns)
        self.events: list[Event] = []

    def canonical(self, e: IntExpr) -> IntExpr:
        return substitute(e, {name: self.names[name] for name in free_symbols(e) if name in self.names})

    def define(self, name: str, value: IntExpr) -> None:
        self.names[name] = value
        self.values.clear()

    def integer(self, e: IntExpr | None) -> int:
        return 0 if e is None else evaluate(e, self.values)

    def holds(self, condition: BoolExpr) -> bool:
        return evaluate(condition, self.values)


class _Tracer:
    """Makes the events of a program's roles for any choice of trip counts."""

    def __init__(self, program: TileProgram) -> None:
        self.program = program
        self.boxes = {
            p.name: math.prod(p.part) * p.dtype.bits // 8 for p in program.parameters if isinstance(p, TensorMapParam)
        }
        statements = list(_all(program.body))
        self.products = frozenset(name for s in statements for name in _products(s))
        started = (CopyAsync, CopyTensor, StoreTensor, Specialise)
        self.is_asynchronous = bool(self.products) or any(isinstance(s, started) for s in statements)
        roles = next((len(s.roles) for s in statements if isinstance(s, Specialise)), 0)
        self.across = {b.name: _mask(b.across) for b in program.barriers}
        self.alike = {b.name: _mask(_bits_of_no_part(b.layout.ctas)) for b in program.buffers}
        self.programs = range(program.programs)
        self.arrivals = {_MEET: program.programs}
        for number in self.programs:
            arrivals = {b.name: b.arrivals << len(b.across) for b in program.barriers} | {_BEGIN: 1, _END: roles}
            self.arrivals |= {self._of(number, name): count for name, count in arrivals.items()}
        # Tiles are known by number, so that each has one bound in all roles: those of a program lie this far apart.
        self.strides = frozenset().union(*(free_symbols(s.step) for s in statements if isinstance(s, For)))
        self.needed = _needed(statements)
        self.shared: dict[Expr, tuple[tuple[str, IntExpr | None, bool], ...]] = {}

    def trace(self, turns: Turns) -> Mapping[str, Sequence[Event]]:
        """Events by role."""
        found: dict[str, Sequence[Event]] = {}
        for number in self.programs:
            found |= self._trace_program(_Role(turns, {}, WARP_THREADS * self.program.warps, number))
        return found

    def _trace_program(self, program: _Role) -> dict[str, Sequence[Event]]:
        number = program.program
        begin, end = (self._of(number, _BEGIN), 0), (self._of(number, _END), 0)
        found: dict[str, Sequence[Event]] = {self._of(number, "program"): program.events}
        for statement in self.program.body:
            if not isinstance(statement, Specialise):
                self._follow(statement, program)
                continue
            program.events.append(Arrived(begin))
            for role in statement.roles:
                inside = _Role(program.turns, program.names, WARP_THREADS * role.warps, number)
                inside.events.append(PhaseDone(begin, 0))
                for inner in role.body:
                    self._follow(inner, inside)
                inside.events.append(Arrived(end))
                found[self._of(number, role.name)] = inside.events
            program.events.append(PhaseDone(end, 0))
        if len(self.programs) > 1:
            own = [buffer.name for buffer in self.program.buffers] + [each.name for each in self.program.barriers]
            program.events.append(Ended(frozenset(self._of(number, name) for name in own)))
        return found

    def _of(self, program: int, name: str) -> str:
        """What a program calls ``name``, told apart from those of others."""
        return name if len(self.programs) == 1 else f"{name} of program {program}"

    def _slot(self, barrier: str, slot: IntExpr, role: _Role) -> tuple[str, int]:
        """The slot at which a role arrives: its own, or that of the first program of those that share it."""
        return self._of(role.program & ~self.across[barrier], barrier), role.integer(slot)

    def _copy(self, item: CopyTensor, note: str, role: _Role) -> Iterator[Use]:
        """A box that lands in the role's program, or in all that have the same part of the buffer."""
        alike = self.alike[item.buffer] if item.multicast else 0
        if role.program & alike:
            return  # the first one of them fetches it
        size = self.boxes[item.descriptor]
        for program in self.programs:
            if program & ~alike == role.program:
                at = self._of(program, item.barrier), role.integer(item.slot)
                buffer, stage = self._of(program, item.buffer), role.integer(item.stage)
                yield Use(buffer, stage, True, Engine.TMA_LOAD, at, size, note=note)

    def _follow(self, statement: Statement, role: _Role) -> None:
        add, number = role.events.append, role.program
        note = getattr(statement, "origin", "") or getattr(statement, "note", "")
        if not self._starts_product(statement):
            for expr in statement_exprs(statement):
                self._reads(expr, note, role, Engine.THREADS)
        match statement:
            case Scalar(name=name, value=value) if name in self.strides:
                role.define(name, const(role.integer(value)))
            case ProgramId(name=name) if self.strides:
                role.define(name, const(_LARGE))
            case Scalar(name=name, value=value) if name in self.needed:
                role.define(name, role.canonical(value))
            case ScalarOf(name=name, value=value) if name in self.needed:
                role.define(name, sym(_text(value, role)))
            case FindGroup(name=name, offsets=offsets, slot=slot) if name in self.needed:
                role.define(name, sym(f"group of {role.canonical(slot)} in {offsets}"))
            case Advance(name=name, by=by):
                role.define(name, const(role.integer(sym(name)) + role.integer(by)))
            case For():
                self._loop(statement, role)
            case If(condition=condition, body=body):
                known = _compared(condition)
                found = sym(_text(condition, role))
                if role.turns.choose(0, found, found, 1) if known is None else role.holds(known):
                    for inner in body:
                        self._follow(inner, role)
            case Assign(name=name, value=DotStep(a=a, b=b)) if name in self.products:
                for operand in (a, b):
                    engine = Engine.WGMMA if isinstance(operand, SharedTile) else Engine.THREADS
                    self._reads(operand, note, role, engine)
                add(Use(self._of(number, name), 0, True, Engine.WGMMA, registers=True, note=note))
                add(EndGroup(Engine.WGMMA))
            case Assign(name=name) if name in self.products:
                add(Use(self._of(number, name), 0, True, registers=True, note=note))
            case Assign(name=name, value=value) if name in self.needed:
                role.define(name, sym(_text(value, role)))
            case CopyAsync(buffer=buffer, stage=stage):
                add(Use(self._of(number, buffer), role.integer(stage), True, Engine.CP_ASYNC, note=note))
            case Commit():
                add(EndGroup(Engine.CP_ASYNC))
            case Wait(pending=pending):
                add(GroupsDone(Engine.CP_ASYNC, pending))
            case StoreShared(buffer=buffer, stage=stage):
                add(Use(self._of(number, buffer), role.integer(stage), True, note=note))
            case AtomicShared(buffer=buffer):
                add(Use(self._of(number, buffer), 0, True, note=note))
            case Expect(barrier=barrier, slot=slot, bytes=expected, when=when) if role.holds(when):
                add(Arrived(self._slot(barrier, slot, role), expected))
            case CopyTensor(when=when) if role.holds(when):
                role.events.extend(self._copy(statement, note, role))
            case WaitBarrier(barrier=barrier, slot=slot, phase=phase):
                if not number & self.across[barrier]:
                    add(PhaseDone(self._slot(barrier, slot, role), role.integer(phase), note=note))
            case Arrive(barrier=barrier, slot=slot, when=when) if role.holds(when):
                add(Arrived(self._slot(barrier, slot, role)))
            case ArriveCopies(barrier=barrier, slot=slot):
                add(Arrived(self._slot(barrier, slot, role), copies=True, count=role.threads))
            case MeetCluster():
                meeting = (_MEET, role.meetings)
                role.meetings += 1
                add(Arrived(meeting))
                add(PhaseDone(meeting, 0))
            case StoreTensor(buffer=buffer, stage=stage):
                add(Use(self._of(number, buffer), role.integer(stage), False, Engine.TMA_STORE, note=note))
                add(EndGroup(Engine.TMA_STORE))
            case WaitStores(pending=pending):
                add(GroupsDone(Engine.TMA_STORE, pending))
            case FenceAsync():
                add(Fenced())
            case DotWait(pending=pending):
                add(GroupsDone(Engine.WGMMA, pending))
            case Specialise():
                raise AssertionError("roles inside of a loop or of a role")
            case Scalar() | ScalarOf() | FindGroup() | ProgramId() | Assign() | Barrier() | Store() | Atomic():
                pass
            case Ticket() | Publish() | LookBack() | AwaitTurn() | PassTurn() | Receive():
                pass  # what other programs see is no shared memory
            case Expect() | Arrive() | CopyTensor():
                pass  # not this time
            case _:
                assert_never(statement)

    def _starts_product(self, statement: Statement) -> bool:
        """Whether a statement starts a matrix product that goes on after it."""
        match statement:
            case Assign(name=name, value=DotStep()):
                return name in self.products
            case _:
                return False

    def _loop(self, loop: For, role: _Role) -> None:
        start, stop, step = (role.canonical(bound) for bound in (loop.start, loop.stop, loop.step))
        first, by = role.turns.value(start), role.turns.value(step)
        if not isinstance(loop.step, Const):
            turns = role.turns.walk(first, stop, by)
        elif isinstance(stop, Const) and isinstance(start, Const):
            turns = len(range(start.value, stop.value, by))
        elif isinstance(start, Const) and start.value > 0 and start.value % by == 0:
            whole = role.turns.choose(0, stop, ceildiv(stop, step), by)  # as of the loop that begins at the beginning
            turns = max(0, whole - start.value // by)
        else:
            turns = role.turns.choose(first, stop, ceildiv(stop - start, step), by)
        for turn in range(turns):
            role.define(loop.counter, const(first + turn * by))
            for statement in loop.body:
                self._follow(statement, role)

    def _reads(self, expr: Expr, note: str, role: _Role, engine: Engine) -> None:
        if expr not in self.shared:
            self.shared[expr] = tuple(self._read_by(expr))
        for name, stage, registers in self.shared[expr]:
            by = Engine.THREADS if registers else engine
            own = self._of(role.program, name)
            role.events.append(Use(own, role.integer(stage), False, by, registers=registers, note=note))

    def _read_by(self, expr: Expr) -> Iterator[tuple[str, IntExpr | None, bool]]:
        """The stages of buffers, and the accumulators in flight, that an expression reads."""
        pending, seen = [expr], set[Expr]()
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            pending += children(node)
            match node:
                case SharedTile(buffer=buffer, stage=stage) | SharedGather(buffer=buffer, stage=stage):
                    yield buffer, stage, False
                case Var(name=name) if name in self.products:
                    yield name, None, True
                case _:
                    pass


def _mask(bits: Sequence[int]) -> int:
    return sum(1 << bit for bit in bits)


def _bits_of_no_part(ctas: Bases) -> list[int]:
    """The bits of programs' numbers that make no difference to the part that a program has."""
    return [bit for bit, basis in enumerate(ctas) if not any(basis)]


def _all(statements: Sequence[Statement]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        match statement:
            case For(body=body) | If(body=body):
                yield from _all(body)
            case Specialise(roles=roles):
                for role in roles:
                    yield from _all(role.body)
            case _:
                pass


def _products(statement: Statement) -> tuple[str, ...]:
    """The accumulators that a statement shows to be those of products that go on after they were started."""
    match statement:
        case Assign(name=name, value=DotStep(space=Space(layout=MmaV3()))):
            return (name,)
        case DotWait(names=names):
            return names
        case _:
            return ()


def _needed(statements: Sequence[Statement]) -> frozenset[str]:
    """The integers on which loops, slots, phases and conditions depend."""
    found: set[str] = set()
    for statement in statements:
        match statement:
            case For(start=start, stop=stop, step=step):
                found |= free_symbols(start) | free_symbols(stop) | free_symbols(step)
            case Expect(slot=slot, when=when) | Arrive(slot=slot, when=when):
                found |= free_symbols(slot) | free_symbols(when)
            case CopyTensor(stage=stage, slot=slot, when=when):
                found |= free_symbols(slot) | free_symbols(when) | _symbols(stage)
            case ArriveCopies(slot=slot):
                found |= free_symbols(slot)
            case WaitBarrier(slot=slot, phase=phase):
                found |= free_symbols(slot) | free_symbols(phase)
            case CopyAsync(stage=stage) | StoreShared(stage=stage) | StoreTensor(stage=stage):
                found |= _symbols(stage)
            case Advance(by=by):
                found |= free_symbols(by)
            case _:
                pass
        for expr in statement_exprs(statement):
            found |= _stages(expr)
    names_of, grown = NamesOf(), True
    while grown:
        before = len(found)
        for statement in statements:
            match statement:
                case Scalar(name=name, value=value) if name in found:
                    found |= free_symbols(value)
                case ScalarOf(name=name, value=value) | Assign(name=name, value=value) if name in found:
                    found |= names_of(value)
                case If(condition=condition):
                    found |= names_of(condition)
                case FindGroup(name=name, slot=slot) if name in found:
                    found |= free_symbols(slot)
                case _:
                    pass
        grown = len(found) > before
    return frozenset(found)


def _compared(condition: Expr) -> BoolExpr | None:
    """A condition that says that one integer is less than another; None: it depends on data."""
    match condition:
        case Elementwise(op=OpName.LT, args=(Uniform(value=left), Uniform(value=right))):
            return lt(left, right)
        case _:
            return None


def _symbols(e: IntExpr | None) -> frozenset[str]:
    return frozenset() if e is None else free_symbols(e)


def _stages(expr: Expr) -> frozenset[str]:
    """The integers that say which stages an expression reads."""
    found: set[str] = set()
    pending, seen = [expr], set[int]()
    while pending:
        node = pending.pop()
        if id(node) not in seen:
            seen.add(id(node))
            pending += children(node)
            if isinstance(node, SharedTile | SharedGather):
                found |= _symbols(node.stage)
    return frozenset(found)


def _text(value: Expr, role: _Role) -> str:
    """A value found in data, as text in which the role's own names are replaced by what they stand for."""
    text = re.sub(r"[A-Za-z_]\w*", lambda word: str(role.names.get(word[0], word[0])), expr_text(value))
    return text if len(text) <= _LONG else f"value {hashlib.sha256(text.encode()).hexdigest()}"
