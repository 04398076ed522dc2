"""Finds out that a batch runs for ever: threads poll memory that nobody will change any more.

Between two moments at which memory is the same, each warp depends on nothing but its own registers and position.  So
if every warp that runs comes back to a state it had before, and no memory has changed on the way, nothing ever will.
Loops that make progress never look like that, however long they take.  Looking costs time; it is done for a while
after a few thousand steps, and then ever more rarely.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, Mask

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

WARP = 32
_FIRST_LOOK = 3_000
_SECOND_LOOK = 20
_LONGEST_LOOK = 30_000
_PATIENCE = 20
"""How often a warp may come back to its place in another state until it counts as busy."""


@dataclass(slots=True)
class _Poll:
    """An instruction that reads memory: where, and lanes that have executed it."""

    site: Instruction
    space: int
    place: str
    lanes: Array


@dataclass(slots=True)
class Observer:
    """What instructions tell about memory while somebody looks."""

    changed: bool = False
    polls: dict[tuple[int, str], _Poll] = field(default_factory=dict)

    def store(self, before: Array, after: Array) -> None:
        """Memory that held `before` is about to hold `after`."""
        if not self.changed:
            self.changed = bool((before != after).any())

    def load(self, site: Instruction, space: int, place: str, name: str, lanes: Array) -> None:
        """Lanes read `place`, in the buffer `name`; in reports a higher `space` comes first."""
        poll = self.polls.get((id(site), name))
        if poll is None:
            self.polls[id(site), name] = _Poll(site, space, place, lanes)
        else:
            poll.lanes = np.union1d(poll.lanes, lanes)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    position: Array
    running: Array
    registers: list[Array]


class Watch:
    """Looks at a machine from time to time. `due` is the step at which `look` wants to be called."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.due = 0
        self._interval = 0
        self._snapshot: _Snapshot | None = None

    def begin(self, step: int) -> None:
        """A batch starts."""
        self._interval = _FIRST_LOOK
        self._end(step)

    def ran(self, mask: Mask) -> None:
        """Lanes have executed a block."""
        if self._snapshot is not None:
            self._ran |= True if mask is None else mask

    def look(self, step: int, position: Array, running: Array) -> bool:
        """Whether every warp repeats itself; called after each step while `due` says so."""
        observer = self.batch.observer
        if self._snapshot is None:
            self._snapshot = _Snapshot(position.copy(), running.copy(), self.batch.registers.copies())
            self.batch.observer = Observer()
            self._ran = np.zeros(self.batch.lanes, np.bool_)
            self._back = np.zeros(self.batch.warps, np.bool_)
            self._other = np.zeros(self.batch.warps, np.int64)
            self._last = step + _LONGEST_LOOK
            self.due = step + 1
            return False
        assert observer is not None
        self.due = step + 1
        bulk = self.batch.bulk
        if observer.changed or bulk.loads or any(not store.written for store in bulk.stores) or step > self._last:
            self._end(step)
            return False
        ran = self._ran.reshape(-1, WARP).any(axis=1)
        snapshot = self._snapshot
        there = (position == snapshot.position) & (running == snapshot.running) | ~self.batch.alive
        candidates = np.flatnonzero(ran & ~self._back & there.reshape(-1, WARP).all(axis=1))
        if not len(candidates):
            return False
        lanes = (candidates[:, None] * WARP + np.arange(WARP)).reshape(-1)
        same = self.batch.registers.equal(snapshot.registers, lanes).reshape(-1, WARP).all(axis=1)
        self._back[candidates[same]] = True
        self._other[candidates[~same]] += 1
        if (self._other > _PATIENCE).any():
            self._end(step)
            return False
        idle = ~ran & ~running.reshape(-1, WARP).any(axis=1)
        return bool((self._back | idle).all())

    def starving(self, able: Array) -> bool:
        """Behind a look that found repetition: whether lanes that are able to run have never been chosen."""
        return bool((able & ~self._ran).any())

    def stop(self, step: int) -> None:
        """Look again soon: something else is tried first."""
        self._interval = _SECOND_LOOK
        self._end(step)

    def _end(self, step: int) -> None:
        self._snapshot = None
        self.batch.observer = None
        self.due = step + self._interval
        self._interval *= 2

    def observe_end(self) -> None:
        """The step limit is near: take note of who reads what."""
        if self.batch.observer is None:
            self.batch.observer = Observer()

    def describe(self) -> tuple[list[str], _Poll | None]:
        """Who polls what, and how many programs there are; the first poll, if any."""
        notes: list[str] = []
        observer = self.batch.observer
        polls = [] if observer is None else list(observer.polls.values())
        best = max((poll.space for poll in polls), default=0)
        chosen = [poll for poll in polls if poll.space == best]
        for poll in chosen[:4]:
            programs = np.unique(self.batch.slot[poll.lanes])
            first = self.batch.program_index(int(poll.lanes.min()))
            others = f" and {len(programs) - 1} more programs" if len(programs) > 1 else ""
            verb = "poll" if others else "polls"
            notes.append(
                f"program {first}{others} {verb} {poll.place} at line {poll.site.line}: {poll.site.text}"
            )
        total = int(np.prod(self.batch.grid))
        resident = self.batch.shape.programs
        if chosen and resident < total:
            notes.append(
                f"{resident} of the launch's {total} programs are resident; nobody can wait for a program that starts "
                "only when these have ended"
            )
        elif chosen and total > 1:
            notes.append(f"all {total} programs of the launch are resident")
        return notes, chosen[0] if chosen else None
