"""What warps know of other programs: the happens-before relation that global memory makes.

Inside of a program, barriers and mbarriers pass knowledge on; `checks.py` keeps it in a clock per warp.  This module
has columns of that clock: up to which time of every warp of the program everything is ordered before what the warp
does next, and two numbers that stand for more than fits into a column: what is known of other programs, and what has
been fenced.  Both are logs per program, each entry of which includes the ones before it, so that the larger number
knows more.  The programs of a cluster have columns for each other's warps, and share these logs.

Between programs, knowledge travels through global memory as the memory model of PTX says:

- A *release pattern* publishes at a place what the warp knows: a release operation, or a fence with a strong write
  behind it.  Atomics that follow at the place carry it on, whoever executes them.
- An *acquire pattern* learns what is published at a place: an acquire operation, or a strong read with a fence behind
  it.
- Sequentially consistent fences also work if a barrier lies between the fence and the strong write.
- Scopes narrower than the GPU reach the own program only.

Warps, not threads, have clocks: the threads of a warp are taken to be in order among each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.checks import SharedShadow
from texpr.emulator.ordering import Ordering, Scope
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

Times = NDArray[np.int32]
"""Per warp of the launch: the time before which everything it did is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """What a strong write passes on: to warps of any program (None: nothing), and to warps of the writer's own.

    `writer` is the warp whose plain strong write this was, -1 behind an atomic.
    """

    times: Times | None
    program: int
    row: NDArray[np.int32] | None
    writer: int = -1


@dataclass(frozen=True, slots=True)
class _Fenced:
    """What a warp knew at its last fence."""

    row: NDArray[np.int32]
    known: Times | None


class GlobalClocks:
    """Knowledge between the warps of a launch. `begin` is called for each batch."""

    def __init__(self, programs: int, warps: int) -> None:
        self.warps = warps
        self.fences = False
        """Whether the kernel has fences, for which strong reads must be remembered."""
        self._total = programs * warps
        self.released = np.zeros(self._total, np.int32)
        self.released_inside = np.zeros(self._total, np.int32)
        """Up to which time each warp has published what it did, to everybody and to its own program."""
        self._known: list[list[Times | None]] = []
        self._sequential: list[list[Times | None]] = []
        self._fenced: dict[tuple[int, int, Scope], _Fenced] = {}
        self._read: dict[tuple[int, int], dict[int, tuple[Published, Scope]]] = {}

    def begin(self, batch: Batch, shadow: SharedShadow) -> None:
        """The programs of a batch start: they know nothing."""
        self._shadow = shadow
        self._programs = batch.programs
        self._rank = batch.rank
        self._cluster = batch.shape.cluster_size
        self._own = shadow.global_from
        self._foreign = self._own + self.warps * self._cluster
        self._sequence = self._foreign + 1
        clusters = batch.shape.programs // self._cluster
        self._known = [[None] for _ in range(clusters)]
        self._sequential = [[None] for _ in range(clusters)]
        self._fenced.clear()
        self._read.clear()

    # Questions ----------------------------------------------------------------------------------------------

    def known_inside(self, slots: Array, warps: Array, others: Array) -> Array:
        """Up to which time warps know other warps of their program."""
        return self.known_in_cluster(slots, warps, self._rank[slots], others)

    def known_in_cluster(self, slots: Array, warps: Array, ranks: Array, others: Array) -> Array:
        """Up to which time warps know other warps of the programs with these ranks in their cluster."""
        return np.asarray(self._shadow.clock[slots, warps, self._own + ranks * self.warps + others])

    def known_of_others(self, slot: int, warp: int) -> Times | None:
        """Up to which time a warp knows the warps of other programs; None: nothing."""
        return self._known[slot // self._cluster][int(self._shadow.clock[slot, warp, self._foreign])]

    # Operations ---------------------------------------------------------------------------------------------

    def fence(self, slot: int, warp: int, ordering: Ordering) -> None:
        """A warp executes a fence."""
        if ordering.acquires:
            for published, scope in self._read.pop((slot, warp), {}).values():
                self._learn(slot, warp, published, min(scope, ordering.scope))
        if not ordering.releases:
            return
        row = self._close_epoch(slot, warp)
        fenced = _Fenced(row, self._known[slot // self._cluster][int(row[self._foreign])])
        self._fenced[slot, warp, Scope.PROGRAM] = fenced
        if ordering.scope is Scope.GPU:
            self._fenced[slot, warp, Scope.GPU] = fenced
            if ordering.sequential:
                log = self._sequential[slot // self._cluster]
                log.append(_later(log[-1], self._times(slot, fenced)))
                self._shadow.clock[slot, warp, self._sequence] = len(log) - 1

    def read(self, slot: int, warp: int, places: list[Published], ordering: Ordering) -> None:
        """A warp reads places (strongly) at which something was published."""
        for published in places:
            if ordering.acquires:
                self._learn(slot, warp, published, ordering.scope)
            elif self.fences:
                self._read.setdefault((slot, warp), {})[id(published)] = (published, ordering.scope)

    def written(self, slot: int, warp: int, ordering: Ordering) -> Published | None:
        """What a warp's strong write publishes by itself."""
        if ordering.releases:
            now = _Fenced(self._close_epoch(slot, warp), self.known_of_others(slot, warp))
            return self._publish(slot, warp, now, now if ordering.scope is Scope.GPU else None)
        inside = self._fenced.get((slot, warp, Scope.PROGRAM))
        outside = self._fenced.get((slot, warp, Scope.GPU)) if ordering.scope is Scope.GPU else None
        published = None if inside is None else self._publish(slot, warp, inside, outside)
        log = self._sequential[slot // self._cluster]
        sequential = log[int(self._shadow.clock[slot, warp, self._sequence])]
        if sequential is None or ordering.scope is not Scope.GPU:
            return published
        program = int(self._programs[slot])
        self._note(self.released, program, sequential[program * self.warps : (program + 1) * self.warps])
        if published is None:
            return Published(sequential, program, None, warp)
        return Published(_later(published.times, sequential), program, published.row, warp)

    def carried_on(self, before: Published | None, new: Published | None, *, atomic: bool) -> Published | None:
        """What a place passes on behind a write: atomics, and plain writes by the same warp, keep what was there."""
        if before is None:
            return new if new is None or not atomic else Published(new.times, new.program, new.row)
        if new is None:
            return Published(before.times, before.program, before.row) if atomic else None
        if not atomic and (before.program != new.program or before.writer != new.writer):
            return new
        row = new.row
        if before.program == new.program and before.row is not None:
            row = before.row if row is None else np.maximum(row, before.row)
        return Published(_later(before.times, new.times), new.program, row, -1 if atomic else new.writer)

    # Details ------------------------------------------------------------------------------------------------

    def _close_epoch(self, slot: int, warp: int) -> NDArray[np.int32]:
        """What the warp knows and did until now."""
        self._shadow.advance(slot, np.array([warp]))
        row: NDArray[np.int32] = self._shadow.clock[slot, warp].copy()
        return row

    def _times(self, slot: int, what: _Fenced) -> Times:
        times = np.zeros(self._total, np.int32) if what.known is None else what.known.copy()
        for program, columns in self._neighbours(slot):
            part = times[program * self.warps : (program + 1) * self.warps]
            np.maximum(part, what.row[columns], out=part)
        return times

    def _neighbours(self, slot: int) -> list[tuple[int, slice]]:
        """The programs of a cluster (one, if there are no clusters), each with the columns of its warps' times."""
        first = slot - int(self._rank[slot])
        starts = [self._own + rank * self.warps for rank in range(self._cluster)]
        return [
            (int(self._programs[first + rank]), slice(start, start + self.warps)) for rank, start in enumerate(starts)
        ]

    def _publish(self, slot: int, warp: int, inside: _Fenced, outside: _Fenced | None) -> Published:
        program = int(self._programs[slot])
        first = self._own + int(self._rank[slot]) * self.warps
        own = slice(first, first + self.warps)
        self._note(self.released_inside, program, inside.row[own])
        if outside is None:
            return Published(None, program, inside.row, warp)
        self._note(self.released, program, outside.row[own])
        return Published(self._times(slot, outside), program, inside.row, warp)

    def _note(self, released: Times, program: int, times: Times) -> None:
        part = released[program * self.warps : (program + 1) * self.warps]
        np.maximum(part, times, out=part)

    def _learn(self, slot: int, warp: int, published: Published, scope: Scope) -> None:
        program = int(self._programs[slot])
        if published.program == program and published.row is not None:
            self._shadow.learn(slot, warp, published.row)
        if scope is not Scope.GPU or published.times is None:
            return
        log = self._known[slot // self._cluster]
        newest = log[-1]
        if newest is not published.times:
            later = _later(newest, published.times)
            if later is not newest:
                log.append(later)
        clock = self._shadow.clock[slot, warp]
        clock[self._foreign] = len(log) - 1
        for neighbour, columns in self._neighbours(slot):
            inside = clock[columns]
            np.maximum(inside, published.times[neighbour * self.warps : (neighbour + 1) * self.warps], out=inside)


def _later(a: Times | None, b: Times | None) -> Times | None:
    """The knowledge of both; the same array as one of them if that includes the other."""
    if a is None or b is None:
        return a if b is None else b
    both = np.maximum(a, b)
    if np.array_equal(both, a):
        return a
    return b if np.array_equal(both, b) else both
