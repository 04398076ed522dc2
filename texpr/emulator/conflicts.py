"""Detection of programs that write different values to the same global address.

Each granule of a buffer remembers which program of the launch wrote it last, and when.  A second program may
overwrite it if both have synchronised through memory since (atomics, fences, strong accesses): then the order may
be intended.  Equal values are only counted as a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.memory import Allocation
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

EQUAL_STORES = "several programs store equal values to one global address"
"""A warning: the result does not depend on their order."""

_PROGRAM_BITS = 31
_PROGRAM = (1 << _PROGRAM_BITS) - 1


class GlobalConflicts:
    """Who wrote what during one launch of `programs` programs; `granule` is the narrowest store of the kernel."""

    def __init__(self, programs: int, granule: int) -> None:
        self.granule = granule
        self._time = 1
        self._synchronised = np.zeros(programs, np.int64)
        self._writers: dict[int, NDArray[np.int64]] = {}

    def synchronise(self, batch: Batch, lanes: Array | None) -> None:
        """The programs of these lanes take part in synchronisation through global memory."""
        slots = np.unique(batch.slot if lanes is None else batch.slot[lanes])
        self._time += 1
        self._synchronised[batch.programs[slots]] = self._time

    def write(
        self, batch: Batch, lanes: Array, allocation: Allocation, index: Array, size: int, same: Callable[[], Array]
    ) -> tuple[int, int] | None:
        """Record a store of `size` bytes at `index`, about to happen.

        If one of the accesses conflicts, gives its position and the other program.  `same()` tells, per access,
        whether memory already holds the value.
        """
        if allocation.address not in self._writers:
            self._writers[allocation.address] = np.zeros(-(-len(allocation.data) // self.granule), np.int64)
        writers = self._writers[allocation.address]
        count = max(1, size // self.granule)
        granules = index // self.granule if count == 1 else (index // self.granule)[:, None] + np.arange(count)
        program = batch.programs[batch.slot[lanes]]
        stamp = (self._time << _PROGRAM_BITS) | program
        mine = stamp if count == 1 else stamp[:, None]
        before = writers[granules]
        writers[granules] = mine
        if (writers[granules] != mine).any():
            # Programs that store at the same moment; if the values differ, the caller sees it afterwards.
            batch.warn(EQUAL_STORES)
        foreign = (before != 0) & ((before & _PROGRAM) != (mine & _PROGRAM))
        if not foreign.any():
            return None
        other = before & _PROGRAM
        when = before >> _PROGRAM_BITS
        own = program if count == 1 else program[:, None]
        ordered = (self._synchronised[other] > when) & (self._synchronised[own] > when)
        conflict = foreign & ~ordered
        clash = conflict if count == 1 else conflict.any(axis=1)
        if not clash.any():
            return None
        differs = clash & ~same()
        if not differs.any():
            batch.warn(EQUAL_STORES)
            return None
        position = int(np.flatnonzero(differs)[0])
        who = int(other[position]) if count == 1 else int(other[position][conflict[position]][0])
        return position, who
