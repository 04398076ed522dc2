"""Named barriers (bar, barrier): who has arrived, who waits, when they complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.faults import FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

BARRIERS = 16
"""Each program has this many, numbered from 0."""


@dataclass(slots=True)
class _Barrier:
    """One barrier number in all programs of a batch.

    `arrived` are the lanes that have arrived in the current phase, `waiting` those of them that block;
    `expected` is the arrival count per program (0: all living threads, -1: nobody has arrived); `published` is
    what those who arrived had done by then (see `checks.py`).
    """

    site: Instruction
    arrived: NDArray[np.bool_]
    waiting: NDArray[np.bool_]
    expected: NDArray[np.int64]
    published: NDArray[np.int32] | None = None


class Barriers:
    """The sixteen barriers of each program of a batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._barriers: dict[int, _Barrier] = {}

    def clear(self) -> None:
        self._barriers.clear()

    def arrive(self, site: Instruction, mask: Array, number: int, count: int, blocks: bool) -> None:
        """The lanes of the mask arrive at barrier `number`; `count` 0 means all threads of the program."""
        batch = self.batch
        lane = int(np.flatnonzero(mask)[0])
        if not 0 <= number < BARRIERS:
            raise batch.fault(FaultKind.BARRIER_MISUSE, f"there is no barrier {number} (0 to 15)", site, lane)
        if count % 32 or count < 0:
            message = f"the thread count {count} is not a multiple of the warp size"
            raise batch.fault(FaultKind.BARRIER_MISUSE, message, site, lane)
        programs = batch.shape.programs
        if number not in self._barriers:
            nobody = np.zeros(batch.lanes, np.bool_)
            self._barriers[number] = _Barrier(site, nobody, nobody.copy(), np.full(programs, -1))
        barrier = self._barriers[number]
        barrier.site = site
        involved = mask.reshape(programs, -1).any(axis=1)
        other = involved & (barrier.expected != -1) & (barrier.expected != count)
        if other.any():
            first = int(barrier.expected[np.flatnonzero(other)[0]])
            message = f"barrier {number} is used with {count or 'all'} threads here and with {first or 'all'} elsewhere"
            raise batch.fault(FaultKind.BARRIER_MISUSE, message, site, lane)
        twice = mask & barrier.arrived
        if twice.any():
            message = f"a thread arrives again at barrier {number} before it has completed"
            raise batch.fault(FaultKind.BARRIER_MISUSE, message, site, int(np.flatnonzero(twice)[0]))
        barrier.expected[involved] = count
        barrier.arrived |= mask
        published = batch.shared_space.release(mask)
        if barrier.published is None:
            barrier.published = published
        elif published is not None:
            barrier.published = np.maximum(barrier.published, published)
        if blocks:
            barrier.waiting |= mask

    def complete(self) -> Array | None:
        """Lanes released by barriers that are complete now (None: there are none)."""
        released: Array | None = None
        batch = self.batch
        programs = batch.shape.programs
        living = batch.alive.reshape(programs, -1).sum(axis=1)
        for number, barrier in self._barriers.items():
            arrivals = barrier.arrived.reshape(programs, -1).sum(axis=1)
            needed = np.where(barrier.expected > 0, barrier.expected, living)
            done = (arrivals > 0) & (arrivals >= needed)
            if not done.any():
                continue
            over = np.flatnonzero(done & (arrivals > needed))
            if len(over):
                came, due = int(arrivals[over[0]]), int(needed[over[0]])
                message = f"{came} threads arrive at barrier {number}, {due} are expected"
                lane = int(np.flatnonzero(barrier.arrived & (batch.slot == over[0]))[0])
                raise batch.fault(FaultKind.BARRIER_MISUSE, message, barrier.site, lane)
            finished = np.repeat(done, batch.shape.padded_threads)
            free = barrier.waiting & finished
            batch.shared_space.acquire(free, barrier.published)
            if barrier.published is not None:
                barrier.published[done] = 0
            released = free if released is None else released | free
            barrier.arrived &= ~finished
            barrier.waiting &= ~finished
            barrier.expected[done] = -1
        return released

    def forget_epochs(self, past: int) -> None:
        """Epochs are counted anew; the first `past` of them are over for everybody."""
        shadow = self.batch.shared_space.shadow
        assert shadow is not None
        for barrier in self._barriers.values():
            shadow.forget_published(barrier.published, past)

    def waiting_site(self) -> Instruction | None:
        """A barrier instruction at which somebody waits."""
        return next((barrier.site for barrier in self._barriers.values() if barrier.arrived.any()), None)

    def describe(self) -> list[str]:
        """One line per barrier that somebody waits at."""
        lines: list[str] = []
        programs = self.batch.shape.programs
        living = self.batch.alive.reshape(programs, -1).sum(axis=1)
        for number, barrier in sorted(self._barriers.items()):
            arrivals = barrier.arrived.reshape(programs, -1).sum(axis=1)
            for slot in np.flatnonzero(arrivals)[:4]:
                needed = int(barrier.expected[slot]) or int(living[slot])
                program = self.batch.program_index(int(slot) * self.batch.shape.padded_threads)
                lines.append(
                    f"program {program}: barrier {number}: {int(arrivals[slot])} of {needed} threads have arrived "
                    f"({barrier.site.where}: {barrier.site.text})"
                )
        return lines
