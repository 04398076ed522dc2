"""The queue of outstanding cp.async copies of a batch.

A copy reads global memory when it is issued and writes shared memory as late as the program permits: when the
issuing thread waits for its group, or when nobody can run on without the mbarrier that counts its arrival.  So a read
that does not wait sees old data (and, with checks, is a fault).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.faults import FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, Mask

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies issued by one instruction: for each lane, `data` goes to byte `index` of the shared memories.

    `group` is the number of the commit group that the copy of each lane belongs to; `reads` how many bytes of global
    memory each lane moves (None: all).  `number` counts the copies of the batch.  `promised` holds, where an mbarrier
    counts the copy, the stamp (see `checks.py`) of the moment when that was said, and elsewhere 0.
    """

    number: int

    site: Instruction
    lanes: Array
    index: Array
    data: Array
    group: Array
    reads: Array | None
    promised: Array


class AsyncCopies:
    """Outstanding copies in the order of issue, and how many groups each lane has committed."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.committed = np.zeros(batch.lanes, np.int32)
        self.pending: list[Copy] = []
        self._issued = 0
        self._all_lanes = np.arange(batch.lanes)

    def clear(self) -> None:
        self.committed.fill(0)
        self.pending.clear()
        self._issued = 0

    def issue(
        self, site: Instruction, lanes: Array | None, to: Array, given: Array, size: int, reads: Array | None
    ) -> None:
        """Start copying `size` bytes per lane, of which the first `reads` (None: all) come from global memory."""
        batch = self.batch
        where = self._all_lanes if lanes is None else lanes
        index = batch.shared_space.begin_copy(site, lanes, to, size)
        data = self._read(site, where, given, size, reads)
        group, promised = self.committed[where], np.zeros(len(where), np.int32)
        self.pending.append(Copy(self._issued, site, where, index, data, group, reads, promised))
        self._issued += 1

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

        def done(copy: Copy) -> Array:
            finished = copy.group < self.committed[copy.lanes] - allowed
            return np.asarray(finished if mask is None else finished & mask[copy.lanes])

        self._land(done)

    def landing(self, lanes: Array, stamps: Array | None) -> Callable[[], None]:
        """A function that lands what these lanes have issued so far, as writes done when `stamps` were taken."""
        mine = np.zeros(self.batch.lanes, np.bool_)
        mine[lanes] = True
        issued = self._issued
        if stamps is not None:
            for copy in self.pending:
                # The first mbarrier that counts a copy says when it was written: those that wait for it know that.
                fresh = mine[copy.lanes] & (copy.promised == 0)
                copy.promised[fresh] = stamps[copy.lanes[fresh]]
        return lambda: self._land(lambda copy: mine[copy.lanes] & (copy.number < issued))

    def _land(self, done: Callable[[Copy], Array]) -> None:
        """Land those copies of lanes that are done."""
        still: list[Copy] = []
        for copy in self.pending:
            chosen = done(copy)
            if not chosen.any():
                still.append(copy)
                continue
            landed = copy if chosen.all() else _part(copy, chosen)
            promised = landed.promised if landed.promised.any() else None
            self.batch.shared_space.end_copy(landed.lanes, landed.index, landed.data, promised)
            if landed is not copy:
                still.append(_part(copy, ~chosen))
        self.pending = still

    def finish(self) -> None:
        """All programs have ended: nothing may be in flight but copies that move nothing."""
        for copy in self.pending if self.batch.shape.checks else ():
            moving = copy.lanes if copy.reads is None else copy.lanes[copy.reads > 0]
            if len(moving):
                message = "the program ends while this copy into its shared memory is in flight (wait for its group)"
                lane = int(moving[0])
                raise self.batch.fault(FaultKind.ASYNC_NOT_WAITED, message, copy.site, lane, buffer="shared memory")
        self.pending.clear()


def _part(copy: Copy, chosen: Array) -> Copy:
    return Copy(
        copy.number,
        copy.site,
        copy.lanes[chosen],
        copy.index[chosen],
        copy.data[chosen],
        copy.group[chosen],
        None if copy.reads is None else copy.reads[chosen],
        copy.promised[chosen],
    )
