"""Which warps run next.

A warp's *front* is the lowest-numbered block at which any of its running lanes stands; only lanes at the front
run, which makes diverged lanes meet again (see `cfg.py`).  A policy picks one front block and warps that are
at it; they execute the block together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.rows import Array

NOT_RUNNING = np.iinfo(np.int32).max
"""The front of a warp none of whose lanes can run."""


def schedule_seed(text: str) -> int:
    """The value of a command line's --schedule-seed; raises ValueError."""
    if (seed := int(text)) < 0:
        raise ValueError("the seed of a schedule is 0 or more")
    return seed


class Policy(Protocol):
    """Chooses among the warps that can run; at least one can."""

    def choose(self, front: NDArray[np.int32]) -> tuple[int, Array]:
        """The block to run and, per warp, whether it runs it."""
        ...


class Lockstep:
    """Lowest block first, so that warps stay together; but no warp waits for ever while others spin."""

    PATIENCE = 200
    FAIR_STEPS = 2000

    def __init__(self, warps: int) -> None:
        self._last_run = np.zeros(warps, np.int64)
        self._step = 0
        self._fair_until = 0

    def choose(self, front: NDArray[np.int32]) -> tuple[int, Array]:
        self._step += 1
        runnable = front != NOT_RUNNING
        waited = np.where(runnable, self._last_run, self._step)
        oldest = int(waited.argmin())
        if self._step - int(waited[oldest]) > self.PATIENCE:
            self._fair_until = self._step + self.FAIR_STEPS
        block = int(front[oldest]) if self._step < self._fair_until else int(front.min())
        chosen = front == block
        self._last_run[chosen] = self._step
        return block, chosen


class RandomBursts:
    """One program at a time for a random number of steps, its warps in random order.

    Exposes dependence on order: polling loops really wait, and warps really run ahead of each other.
    """

    def __init__(self, warps: int, warps_per_program: int, seed: int | Sequence[int]) -> None:
        self._random = np.random.default_rng(seed)
        self._program = np.arange(warps) // warps_per_program
        self._current = 0
        self._left = 0

    def choose(self, front: NDArray[np.int32]) -> tuple[int, Array]:
        runnable = front != NOT_RUNNING
        mine = runnable & (self._program == self._current)
        if self._left <= 0 or not mine.any():
            self._current = int(self._program[self._random.choice(np.flatnonzero(runnable))])
            self._left = int(self._random.integers(1, 1 + 4 ** int(self._random.integers(0, 5))))
            mine = runnable & (self._program == self._current)
        self._left -= 1
        leader = int(self._random.choice(np.flatnonzero(mine)))
        block = int(front[leader])
        chosen = mine & (front == block) & (self._random.random(len(front)) < self._random.random())
        chosen[leader] = True
        return block, chosen
