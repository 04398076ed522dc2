"""Whether the roles of a kernel may run side by side: a proof over all interleavings, from one execution.

Roles are sequences of events that wait only for phases of mbarriers. One execution is followed with vector clocks
(Fidge, Mattern), in which every barrier is a process too: its time is the number of phases that have completed. If

1. a wait for phase n comes after phase n-1 has completed, and phase n+1 completes after the wait, and
2. an arrival counted in phase n comes after phase n-1 has completed,

both by happens-before, then every wait passes on the same phase in every interleaving: the roles form a Kahn network,
whose happens-before relation does not depend on the order of execution. So it is enough to ask, in that one execution,
whether accesses to one stage of a buffer, one of them a write, are ordered: the end of the first before the start of
the second. The engines end late: a cp.async, a wgmma or a TMA store when its role has waited for the group, a TMA load
when the phase it reports to has completed.

The code that derives barriers (``pipeline.py``) is not used here: what is checked are the statements that are emitted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from texpr.tile.events import ASYNC_PROXY, Arrived, Ended, EndGroup, Engine, Event, Fenced, GroupsDone, PhaseDone, Use


class Rule(Enum):
    """What a protocol can do wrong."""

    UNORDERED = "uses of a stage that nothing orders"
    IN_FLIGHT = "a stage used before what was started on it has ended"
    UNFENCED = "the async proxy meets what threads wrote, without a proxy fence"
    STALE = "a wait that may pass on an older phase"
    OVERRUN = "a phase that may complete before a wait for the phase before it"
    MISCOUNTED = "an arrival that may count in an earlier phase, or is one too many"
    DEADLOCK = "a wait that never ends"
    UNFINISHED = "work in flight when the program ends"
    OUTLIVED = "shared memory used when its program may have ended"


class ProtocolError(AssertionError):
    """The synchronisation of a tile program is wrong: a bug of the compiler. ``rule`` says which rule is broken."""

    def __init__(self, rule: Rule, problem: str) -> None:
        self.rule = rule
        super().__init__(f"{rule.value}: {problem}")


_Process = int | tuple[str, int]  # a role by its number, what it did to memory by the complement, or a barrier slot
_Clock = dict[_Process, int]


@dataclass(slots=True, eq=False)
class _Record:
    """A use that was started. ``end`` is known when it is known which event ends it."""

    use: Use
    role: str
    end: tuple[_Process, int] | None = None

    def __str__(self) -> str:
        what = "write" if self.use.writes else "read"
        note = f" ({self.use.note})" if self.use.note else ""
        return f"{what} of {self.use.buffer}[{self.use.slot}] by {self.use.engine.value} of role {self.role}{note}"


@dataclass(slots=True)
class _Role:
    name: str
    number: int
    events: Sequence[Event]
    at: int = 0
    clock: _Clock = field(default_factory=dict)
    started: dict[Engine, list[_Record]] = field(default_factory=dict)
    groups: dict[Engine, list[list[_Record]]] = field(default_factory=dict)

    def tick(self) -> int:
        time = self.clock.get(self.number, 0) + 1
        self.clock[self.number] = time
        return time

    def act(self) -> tuple[_Process, int]:
        """A moment at which what the role has done to memory ends."""
        process = ~self.number
        self.clock[process] = self.clock.get(process, 0) + 1
        return process, self.clock[process]

    def knows(self, moment: tuple[_Process, int]) -> bool:
        process, time = moment
        return self.clock.get(process, 0) >= time


@dataclass(slots=True)
class _Slot:
    """One mbarrier. ``phase`` of its phases have completed; ``done`` is what happened before that, ``joined`` what
    happened before the arrivals of the current phase. ``waits`` (role, time) passed on the phase completed last.
    ``last`` is when each role used it last."""

    name: tuple[str, int]
    arrivals: int
    phase: int = 0
    arrived: int = 0
    pending_bytes: int = 0
    joined: _Clock = field(default_factory=dict)
    done: _Clock = field(default_factory=dict)
    waits: list[tuple[_Role, int]] = field(default_factory=list)
    last: _Clock = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name[0]}[{self.name[1]}]"

    def state(self) -> str:
        missing = f", {self.pending_bytes} bytes missing" if self.pending_bytes > 0 else ""
        extra = f", {-self.pending_bytes} bytes too many" if self.pending_bytes < 0 else ""
        return f"{self} is in phase {self.phase} with {self.arrived} of {self.arrivals} arrivals{missing}{extra}"


@dataclass(slots=True)
class _Fence:
    end: tuple[_Process, int]
    clock: _Clock


@dataclass(slots=True)
class _Machine:
    roles: list[_Role]
    arrivals: Mapping[str, int]
    slots: dict[tuple[str, int], _Slot] = field(default_factory=dict)
    stages: dict[tuple[str, int], list[_Record]] = field(default_factory=dict)
    loads: list[_Record] = field(default_factory=list)
    fences: list[_Fence] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)

    def slot(self, name: tuple[str, int]) -> _Slot:
        if name[0] in self.ended:
            raise ProtocolError(Rule.OUTLIVED, f"{name[0]}[{name[1]}]")
        return self.slots.setdefault(name, _Slot(name, self.arrivals[name[0]]))


def check_protocol(roles: Mapping[str, Sequence[Event]], arrivals: Mapping[str, int]) -> None:
    """Raise ProtocolError unless ``roles`` (name: events) may run side by side in every interleaving. ``arrivals``: how
    many arrivals complete a phase of each array of barriers. Takes time linear in the number of events."""
    machine = _Machine([_Role(name, n, events) for n, (name, events) in enumerate(roles.items())], arrivals)
    running = True
    while running:
        running = False
        for role in machine.roles:
            while role.at < len(role.events) and _step(role, role.events[role.at], machine):
                role.at += 1
                running = True
    blocked = [role for role in machine.roles if role.at < len(role.events)]
    if blocked:
        raise ProtocolError(Rule.DEADLOCK, "; ".join(_waiting(role, machine) for role in blocked))
    _finished(machine)


def _waiting(role: _Role, machine: _Machine) -> str:
    event = role.events[role.at]
    assert isinstance(event, PhaseDone)
    note = f" ({event.note})" if event.note else ""
    return f"role {role.name} waits for parity {event.parity}{note}, {machine.slot(event.barrier).state()}"


def _step(role: _Role, event: Event, machine: _Machine) -> bool:
    """Execute an event; False if it has to wait."""
    match event:
        case Use():
            _use(role, event, machine)
        case EndGroup(engine=engine):
            role.groups.setdefault(engine, []).append(role.started.pop(engine, []))
        case GroupsDone(engine=engine, pending=pending):
            groups = role.groups.get(engine, [])
            moment = role.act()
            while len(groups) > pending:
                for record in groups.pop(0):
                    record.end = moment
        case Arrived():
            _arrive(role, event, machine)
        case PhaseDone(barrier=barrier, parity=parity):
            slot = machine.slot(barrier)
            if (slot.phase - 1) % 2 != parity:
                return False
            _pass(role, slot, event)
        case Fenced():
            machine.fences.append(_Fence(role.act(), dict(role.clock)))
        case Ended(names=names):
            _end(role, names, machine)
        case _:
            assert_never(event)
    return True


# ---- memory ---------------------------------------------------------------------------------------------------------


def _use(role: _Role, use: Use, machine: _Machine) -> None:
    record = _Record(use, role.name)
    if use.buffer in machine.ended:
        raise ProtocolError(Rule.OUTLIVED, str(record))
    stage = machine.stages.setdefault((use.buffer, use.slot), [])
    for earlier in stage:
        if use.writes or earlier.use.writes:
            _ordered(earlier, record, role, machine)
    if use.writes:
        stage.clear()  # whoever is ordered after this write is ordered after those before it
    stage.append(record)
    match use.engine:
        case Engine.THREADS:
            record.end = role.act()
        case Engine.TMA_LOAD:
            assert use.barrier is not None, "a TMA load reports to a barrier"
            slot = machine.slot(use.barrier)
            _counts_here(role, slot, f"the bytes of the {record}")
            record.end = (slot.name, slot.phase + 1)
            slot.pending_bytes -= use.bytes
            _join(slot.joined, _phases_in(role.clock))
            machine.loads.append(record)
            _complete(slot)
        case Engine.CP_ASYNC | Engine.WGMMA | Engine.TMA_STORE:
            role.started.setdefault(use.engine, []).append(record)
        case _:
            assert_never(use.engine)


def _ordered(earlier: _Record, later: _Record, role: _Role, machine: _Machine) -> None:
    if earlier.use.registers and earlier.use.engine is later.use.engine:
        return
    if earlier.end is None:
        raise ProtocolError(Rule.IN_FLIGHT, f"{earlier}, then {later}")
    if not role.knows(earlier.end):
        rule = Rule.UNORDERED if earlier.use.engine is Engine.THREADS else Rule.IN_FLIGHT
        raise ProtocolError(rule, f"{earlier}, and {later}")
    by_threads = earlier.use.writes and earlier.use.engine not in ASYNC_PROXY
    crosses = by_threads and later.use.engine in ASYNC_PROXY and not later.use.registers
    if crosses and not _is_fenced(earlier.end, role, machine):
        raise ProtocolError(Rule.UNFENCED, f"{earlier}, then {later}")


def _is_fenced(end: tuple[_Process, int], role: _Role, machine: _Machine) -> bool:
    """Whether some role that knew of the write fenced it, and this role knows of the fence."""
    process, time = end
    return any(
        fence.clock.get(process, 0) >= time and role.knows(fence.end)
        for fence in reversed(machine.fences)
    )


# ---- barriers -------------------------------------------------------------------------------------------------------


def _arrive(role: _Role, event: Arrived, machine: _Machine) -> None:
    slot = machine.slot(event.barrier)
    note = f" ({event.note})" if event.note else ""
    _counts_here(role, slot, f"an arrival of role {role.name}{note}")
    if slot.arrived + event.count > slot.arrivals:
        often = "once more" if event.count == 1 else f"{event.count} times more"
        raise ProtocolError(Rule.MISCOUNTED, f"role {role.name}{note} arrives {often}: {slot.state()}")
    if event.copies:
        groups = [*role.groups.pop(Engine.CP_ASYNC, []), role.started.pop(Engine.CP_ASYNC, [])]
        for record in itertools.chain.from_iterable(groups):
            record.end = (slot.name, slot.phase + 1)
            machine.loads.append(record)
    slot.last[role.number] = role.tick()
    _join(slot.joined, _times_in(role.clock) if event.copies else role.clock)
    slot.arrived += event.count
    slot.pending_bytes += event.bytes
    _complete(slot)


def _counts_here(role: _Role, slot: _Slot, what: str) -> None:
    if not role.knows((slot.name, slot.phase)):
        raise ProtocolError(Rule.MISCOUNTED, f"{what} may count before phase {slot.phase} of {slot} has begun")


def _complete(slot: _Slot) -> None:
    if slot.arrived < slot.arrivals or slot.pending_bytes != 0:
        return
    _join(slot.done, slot.joined)
    for role, time in slot.waits:
        if slot.done.get(role.number, 0) < time:
            raise ProtocolError(
                Rule.OVERRUN,
                f"phase {slot.phase} of {slot} may complete before role {role.name} has waited for the one before it",
            )
    slot.phase += 1
    slot.done[slot.name] = slot.phase
    slot.joined = {}
    slot.arrived = 0
    slot.waits = []


def _pass(role: _Role, slot: _Slot, event: PhaseDone) -> None:
    passed = slot.phase - 1
    if passed > 0 and not role.knows((slot.name, passed)):
        note = f" ({event.note})" if event.note else ""
        raise ProtocolError(
            Rule.STALE, f"role {role.name}{note} waits for phase {passed} of {slot} and may see phase {passed - 2}"
        )
    if passed >= 0:
        _join(role.clock, slot.done)
    slot.last[role.number] = role.tick()
    slot.waits.append((role, slot.last[role.number]))


def _phases_in(clock: _Clock) -> _Clock:
    """The phases that had completed when a load began: bytes land after that, so their phase completes after those.
    What threads did before is not made visible by bytes, only by arrivals."""
    return {process: time for process, time in clock.items() if isinstance(process, tuple)}


def _times_in(clock: _Clock) -> _Clock:
    """What an arrival that waits for copies comes after. It makes their writes visible; whether it releases what else
    its threads did to memory, no program should have to know."""
    return {process: time for process, time in clock.items() if isinstance(process, tuple) or process >= 0}


def _join(clock: _Clock, other: _Clock) -> None:
    for process, time in other.items():
        if clock.get(process, 0) < time:
            clock[process] = time


# ---- the end --------------------------------------------------------------------------------------------------------


def _end(role: _Role, names: frozenset[str], machine: _Machine) -> None:
    """All that anyone does to this memory happens before."""
    for (buffer, _), records in machine.stages.items():
        for record in records:
            if buffer in names and (record.end is None or not role.knows(record.end)):
                raise ProtocolError(Rule.OUTLIVED, str(record))
    for slot in machine.slots.values():
        late = [who for who, time in slot.last.items() if not role.knows((who, time))]
        if slot.name[0] in names and late:
            using = next(one.name for one in machine.roles if one.number == late[0])
            raise ProtocolError(Rule.OUTLIVED, f"{slot}, by role {using}")
    machine.ended |= names


def _finished(machine: _Machine) -> None:
    for record in _in_flight(machine):
        raise ProtocolError(Rule.UNFINISHED, str(record))
    for slot in machine.slots.values():
        if slot.pending_bytes:
            raise ProtocolError(Rule.UNFINISHED, slot.state())


def _in_flight(machine: _Machine) -> Iterator[_Record]:
    for role in machine.roles:
        for records in role.started.values():
            yield from records
        for groups in role.groups.values():
            for group in groups:
                yield from group
    for record in machine.loads:
        assert record.end is not None
        if not any(role.knows(record.end) for role in machine.roles):
            yield record
