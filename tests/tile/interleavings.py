"""Every interleaving of small protocols, by brute force: what ``texpr.tile.sync`` proves from one execution.

A use is active from its start to its end; engines other than the threads end whenever they like, after which waits for
them pass. Arrivals that wait for copies are active until they count, which is at any time after the copies have ended.
A protocol is bad if two uses of a stage, one of them a write, can be active together, if a role can wait for ever, if
an arrival can be one too many, if shared memory can be used after it was given back, or if something is active when all
roles have ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from texpr.tile.events import Arrived, Ended, EndGroup, Engine, Event, GroupsDone, PhaseDone, Use

_Op = tuple[int, int]  # role, position of the use among its events
_Barrier = tuple[int, int, int]  # completed phases, arrivals, bytes still to come
_State = tuple[tuple[int, ...], frozenset[_Op], tuple[_Barrier, ...]]


class Model:
    def __init__(self, roles: Mapping[str, Sequence[Event]], arrivals: Mapping[str, int]) -> None:
        self.roles = [list(events) for events in roles.values()]
        self.arrivals = arrivals
        self.slots = sorted(
            {e.barrier for events in self.roles for e in events if isinstance(e, Use | Arrived | PhaseDone)
             and e.barrier is not None}
        )

    def is_bad(self, limit: int = 200_000) -> bool:
        """Whether some interleaving goes wrong. Raises OverflowError above ``limit`` states."""
        start: _State = (tuple(0 for _ in self.roles), frozenset(), tuple((0, 0, 0) for _ in self.slots))
        seen, pending = {start}, [start]
        while pending:
            state = pending.pop()
            following = list(self._steps(state))
            if any(new is None for new in following):
                return True
            if not following and (self._running(state) or state[1] or any(barrier[2] for barrier in state[2])):
                return True
            for new in following:
                assert new is not None
                if new not in seen:
                    seen.add(new)
                    pending.append(new)
            if len(seen) > limit:
                raise OverflowError(f"more than {limit} states")
        return False

    def _running(self, state: _State) -> bool:
        return any(at < len(events) for at, events in zip(state[0], self.roles, strict=True))

    def _steps(self, state: _State) -> Iterator[_State | None]:
        """The states that can follow; None stands for a mistake."""
        positions, active, barriers = state
        if not self._running(state) and active:
            yield None  # the program ends under what is still in flight
            return
        for op in active:
            if isinstance(self._event(op), Use) or not self._copies_before(op, active):
                yield self._ended(op, state)
        for number, events in enumerate(self.roles):
            at = positions[number]
            if at == len(events) or (number, at) in active:
                continue
            moved = (*positions[:number], at + 1, *positions[number + 1 :])
            if self._memory(events[at]) & self._given_back(positions):
                yield None
                return
            match events[at]:
                case Use() as use:
                    if any(self._conflict(use, other) for op in active if isinstance(other := self._event(op), Use)):
                        yield None
                        return
                    begun = moved if use.engine is not Engine.THREADS else positions
                    yield begun, active | {(number, at)}, barriers
                case GroupsDone(engine=engine, pending=pending):
                    if not active & self._before(number, at, engine, pending):
                        yield moved, active, barriers
                case Arrived(copies=True) if self._copies_before((number, at), active):
                    yield moved, active | {(number, at)}, barriers
                case Arrived(barrier=name, bytes=expected, count=count):
                    yield self._counted(moved, active, barriers, name, count, expected)
                case PhaseDone(barrier=name, parity=parity):
                    if (barriers[self.slots.index(name)][0] - 1) % 2 == parity:
                        yield moved, active, barriers
                case Ended(names=names):
                    still = any(self._memory(self._event(op)) & names for op in active)
                    yield None if still else (moved, active, barriers)
                case _:
                    yield moved, active, barriers

    @staticmethod
    def _memory(event: Event) -> set[str]:
        """The shared memory that an event meets."""
        match event:
            case Use(buffer=buffer, barrier=barrier):
                return {buffer} if barrier is None else {buffer, barrier[0]}
            case Arrived(barrier=barrier) | PhaseDone(barrier=barrier):
                return {barrier[0]}
            case _:
                return set()

    def _given_back(self, positions: tuple[int, ...]) -> set[str]:
        past = (event for events, at in zip(self.roles, positions, strict=True) for event in events[:at])
        return {name for event in past if isinstance(event, Ended) for name in event.names}

    def _ended(self, op: _Op, state: _State) -> _State | None:
        positions, active, barriers = state
        number, at = op
        use = self._event(op)
        if isinstance(use, Arrived):
            return self._counted(positions, active - {op}, barriers, use.barrier, use.count, use.bytes)
        if use.engine is Engine.THREADS:
            positions = (*positions[:number], at + 1, *positions[number + 1 :])
        if use.barrier is None:
            return positions, active - {op}, barriers
        return self._counted(positions, active - {op}, barriers, use.barrier, 0, -use.bytes)

    def _counted(
        self, positions: tuple[int, ...], active: frozenset[_Op], barriers: tuple[_Barrier, ...],
        name: tuple[str, int], arrivals: int, expected: int,
    ) -> _State | None:
        n = self.slots.index(name)
        phase, arrived, missing = barriers[n]
        arrived, missing = arrived + arrivals, missing + expected
        if arrived > self.arrivals[name[0]]:
            return None
        if arrived == self.arrivals[name[0]] and missing == 0:
            phase, arrived = phase + 1, 0
        return positions, active, (*barriers[:n], (phase, arrived, missing), *barriers[n + 1 :])

    def _event(self, op: _Op) -> Use | Arrived:
        event = self.roles[op[0]][op[1]]
        assert isinstance(event, Use | Arrived)
        return event

    def _copies_before(self, op: _Op, active: frozenset[_Op]) -> bool:
        """Whether copies by the threads of a role are active that an arrival after them waits for."""
        return any(
            number == op[0] and at < op[1] and isinstance(event := self._event((number, at)), Use)
            and event.engine is Engine.CP_ASYNC
            for number, at in active
        )

    @staticmethod
    def _conflict(one: Use, other: Use) -> bool:
        return (one.buffer, one.slot) == (other.buffer, other.slot) and (one.writes or other.writes)

    def _before(self, number: int, at: int, engine: Engine, pending: int) -> frozenset[_Op]:
        """What a wait for groups waits for."""
        groups: list[list[_Op]] = [[]]
        for n, event in enumerate(self.roles[number][:at]):
            if isinstance(event, Use) and event.engine is engine:
                groups[-1].append((number, n))
            elif isinstance(event, EndGroup) and event.engine is engine:
                groups.append([])
        closed = groups[:-1]
        return frozenset(op for group in closed[: max(0, len(closed) - pending)] for op in group)
