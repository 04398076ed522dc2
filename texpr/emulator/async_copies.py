"""The queue of outstanding cp.async copies of a batch.

A copy reads global memory when it is issued and writes shared memory as late as the program permits: when the
issuing thread waits for its group.  So a read that does not wait sees old data (and, with checks, is a fault).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, Mask

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies issued by one instruction: for each lane, `data` goes to byte `index` of the shared memories.

    `group` is the number of the commit group that the copy of each lane belongs to.
    """

    site: Instruction
    lanes: Array
    index: Array
    data: Array
    group: Array


class AsyncCopies:
    """Outstanding copies in the order of issue, and how many groups each lane has committed."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.committed = np.zeros(batch.lanes, np.int32)
        self.pending: list[Copy] = []
        self._all_lanes = np.arange(batch.lanes)

    def clear(self) -> None:
        self.committed.fill(0)
        self.pending.clear()

    def issue(
        self, site: Instruction, lanes: Array | None, to: Array, given: Array, size: int, reads: Array | None
    ) -> None:
        """Start copying `size` bytes per lane, of which the first `reads` (None: all) come from global memory."""
        batch = self.batch
        where = self._all_lanes if lanes is None else lanes
        index = batch.shared_space.begin_copy(site, lanes, to, size)
        data = self._read(site, where, given, size, reads)
        self.pending.append(Copy(site, where, index, data, self.committed[where]))

    def _read(self, site: Instruction, lanes: Array, given: Array, size: int, reads: Array | None) -> Array:
        space = self.batch.global_space
        if reads is None:
            return space.load(site, lanes, given, 4, size // 4)
        data = np.zeros((len(lanes), size // 4), np.uint32)
        whole = np.flatnonzero(reads == size)
        if len(whole):
            data[whole] = space.load(site, lanes[whole], given[whole], 4, size // 4)
        octets = data.view(np.uint8)
        for part in np.unique(reads):
            if 0 < part < size:
                some = np.flatnonzero(reads == part)
                for byte in range(int(part)):
                    address = given[some] + given.dtype.type(byte)
                    octets[some, byte] = space.load(site, lanes[some], address, 1, 1)[:, 0]
        return data

    def commit(self, mask: Mask) -> None:
        """Close the current group of each lane."""
        self.committed += 1 if mask is None else mask.astype(np.int32)

    def wait(self, mask: Mask, allowed: int) -> None:
        """Land all copies of the lanes except those of their `allowed` most recent groups."""
        still: list[Copy] = []
        for copy in self.pending:
            done = copy.group < self.committed[copy.lanes] - allowed
            if mask is not None:
                done &= mask[copy.lanes]
            if done.all():
                self._land(copy)
                continue
            if done.any():
                self._land(_part(copy, done))
                still.append(_part(copy, ~done))
            else:
                still.append(copy)
        self.pending = still

    def note_leftovers(self) -> None:
        """All programs have ended: copies that nobody waited for are harmless but probably a mistake."""
        if self.pending:
            self.batch.warn("asynchronous copies are still in flight when the programs end")

    def _land(self, copy: Copy) -> None:
        self.batch.shared_space.end_copy(copy.lanes, copy.index, copy.data)


def _part(copy: Copy, chosen: Array) -> Copy:
    return Copy(copy.site, copy.lanes[chosen], copy.index[chosen], copy.data[chosen], copy.group[chosen])
