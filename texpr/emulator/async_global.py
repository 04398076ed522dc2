"""Checks of operations of the async proxy on global memory: what bulk copies read and write, and when.

Within one program,

- what a thread has written may be read or overwritten by a bulk copy only behind a `fence.proxy.async` that covers
  global memory and lies on the way from the write to the copy;
- what a bulk copy writes may be read or overwritten only once its issuer has waited for its group (not merely for its
  reading), by threads that are ordered behind that wait;
- what a bulk copy reads may not be overwritten before the copy has arrived.

Each granule of an allocation remembers its last write of the launch as a stamp: epoch << 24 | lane, as in
`checks.py`, with a bit for writes of bulk copies.  One that has not been waited for is a number with the bit
`_PENDING`.  How programs are ordered among each other is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.async_checks import AsyncShadow
from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.memory import Allocation, Part
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

_LANE_BITS = 24
_LANE = (1 << _LANE_BITS) - 1
_BULK = 1 << 61
_PENDING = 1 << 62
_EPOCH = (1 << (61 - _LANE_BITS)) - 1


@dataclass(frozen=True, slots=True)
class GlobalRead:
    """What a bulk copy that has not arrived reads: pieces of `size` bytes."""

    site: Instruction
    lane: int
    parts: list[Part]
    size: int


@dataclass(frozen=True, slots=True)
class GlobalWrite:
    """What a bulk copy writes whose issuer has not waited for it."""

    tracker: AsyncGlobal
    site: Instruction
    lane: int
    number: int
    reduces: bool
    granules: dict[int, Array] = field(default_factory=dict)

    def end(self) -> None:
        """The issuer has waited: from now on this was a write of its thread."""
        self.tracker.end_write(self)


class AsyncGlobal:
    """What is known about global memory during one batch of a kernel that has bulk copies."""

    def __init__(self, batch: Batch, shadow: AsyncShadow, granule: int) -> None:
        self.batch = batch
        self._shadow = shadow
        self._granule = granule
        self._stamps: dict[int, NDArray[np.int64]] = {}
        self._reads: list[GlobalRead] = []
        self._writes: dict[int, GlobalWrite] = {}
        self._number = 0
        shadow.followers.append(self._forget_epochs)

    def clear(self) -> None:
        self._stamps.clear()
        self._reads.clear()
        self._writes.clear()
        self._number = 0

    # What threads do ----------------------------------------------------------------------------------------

    def thread_reads(
        self, site: Instruction, lanes: Array | None, parts: list[Part], size: int, *, strong: bool
    ) -> None:
        """`strong` accesses, like atomics, may meet reductions that are under way."""
        for part in parts:
            stamps = self._stamps.get(part.allocation.address)
            if stamps is not None:
                granules, lane = self._cover(lanes, part, size)
                self._judge_thread(site, part.allocation, granules, lane, stamps[granules], "read", strong)

    def thread_writes(self, site: Instruction, lanes: Array | None, part: Part, size: int, *, strong: bool) -> None:
        allocation = part.allocation
        granules, lane = self._cover(lanes, part, size)
        stamps = self._marks(allocation)
        self._judge_thread(site, allocation, granules, lane, stamps[granules], "overwritten", strong)
        for read in self._reads:
            mine = [self._cover(None, other, read.size)[0] for other in read.parts if other.allocation is allocation]
            if not mine:
                continue
            own = self.batch.slot[lane] == self.batch.slot[read.lane]
            hit = np.flatnonzero(own & np.isin(granules, np.concatenate(mine)))
            if len(hit):
                message = f"{self._place(allocation, int(granules[hit[0]]))} is overwritten while a bulk copy reads it"
                raise self._fault(
                    FaultKind.ASYNC_NOT_WAITED, message, site, int(lane[hit[0]]), allocation, _issued(read.site)
                )
        stamps[granules] = self._now(lane)

    def _judge_thread(
        self,
        site: Instruction,
        allocation: Allocation,
        granules: Array,
        lane: Array,
        stamps: Array,
        verb: str,
        strong: bool,
    ) -> None:
        suspects = np.flatnonzero(stamps >= _BULK)
        for position in suspects[stamps[suspects] >= _PENDING].tolist():
            write = self._writes[int(stamps[position]) & ~_PENDING]
            if strong and write.reduces:
                continue
            place = self._place(allocation, int(granules[position]))
            message = f"{place} is {verb} before the bulk copy to it was waited for (wait_group without .read)"
            raise self._fault(
                FaultKind.ASYNC_NOT_WAITED, message, site, int(lane[position]), allocation, _issued(write.site)
            )
        done = suspects[stamps[suspects] < _PENDING]
        racing = done[~self._ordered(lane[done], stamps[done])]
        if len(racing):
            position = int(racing[0])
            place = self._place(allocation, int(granules[position]))
            message = f"{place} is {verb}, and nothing orders this behind the bulk copy that wrote it"
            raise self._fault(FaultKind.ASYNC_NOT_WAITED, message, site, int(lane[position]), allocation, ())

    # What bulk copies do ------------------------------------------------------------------------------------

    def begin_read(self, site: Instruction, lane: int, parts: list[Part], size: int) -> GlobalRead:
        """A bulk copy issued by the lane will read."""
        for part in parts:
            stamps = self._stamps.get(part.allocation.address)
            if stamps is not None:
                granules, _ = self._cover(None, part, size)
                self._judge_copy(site, lane, part.allocation, granules, stamps[granules], reduces=False)
        read = GlobalRead(site, lane, parts, size)
        self._reads.append(read)
        return read

    def end_read(self, read: GlobalRead) -> None:
        """The copy has read."""
        self._reads = [other for other in self._reads if other is not read]

    def begin_write(self, site: Instruction, lane: int, parts: list[Part], size: int, *, reduces: bool) -> GlobalWrite:
        """A bulk copy issued by the lane will write, or update atomically."""
        write = GlobalWrite(self, site, lane, self._number, reduces)
        self._number += 1
        self._writes[write.number] = write
        for part in parts:
            granules, _ = self._cover(None, part, size)
            stamps = self._marks(part.allocation)
            self._judge_copy(site, lane, part.allocation, granules, stamps[granules], reduces=reduces)
            stamps[granules] = _PENDING | write.number
            write.granules[part.allocation.address] = granules
        return write

    def end_write(self, write: GlobalWrite) -> None:
        """The issuer has waited for the whole copy."""
        for address, granules in write.granules.items():
            stamps = self._stamps[address]
            mine = granules[stamps[granules] == _PENDING | write.number]
            stamps[mine] = int(self._now(np.array([write.lane]))[0]) | _BULK

    def _judge_copy(
        self, site: Instruction, lane: int, allocation: Allocation, granules: Array, stamps: Array, *, reduces: bool
    ) -> None:
        """Everything written here before is ordered before the copy, and threads' writes are fenced."""
        if not stamps.any():
            return
        slot = int(self.batch.slot[lane])
        for number in np.unique(stamps[stamps >= _PENDING] & ~_PENDING).tolist():
            write = self._writes[number]
            if int(self.batch.slot[write.lane]) != slot or (reduces and write.reduces):
                continue
            place = self._place(allocation, int(granules[stamps == _PENDING | number][0]))
            message = f"{place}: a bulk copy follows another one that writes there and has not been waited for"
            raise self._fault(FaultKind.ASYNC_NOT_WAITED, message, site, lane, allocation, _issued(write.site))
        written = np.flatnonzero((stamps > 0) & (stamps < _PENDING))
        writer = stamps[written] & _LANE
        mine = self.batch.slot[writer] == slot
        written, writer = written[mine], writer[mine]
        bulk = stamps[written] >= _BULK
        lanes = np.full(len(written), lane)
        racing = written[bulk & ~self._ordered(lanes, stamps[written])]
        if len(racing):
            place = self._place(allocation, int(granules[racing[0]]))
            message = f"{place}: nothing orders this bulk copy behind the one that wrote there"
            raise self._fault(FaultKind.ASYNC_NOT_WAITED, message, site, lane, allocation, ())
        epoch = stamps[written] >> _LANE_BITS
        known = self._shadow.fenced_globally(lane, self.batch.thread[writer] // 32)
        missing = np.flatnonzero(~bulk & (epoch >= known))
        if len(missing):
            place = self._place(allocation, int(granules[written[missing[0]]]))
            thread = int(self.batch.thread[writer[missing[0]]])
            message = (
                f"{place}: a bulk copy follows a write by thread {thread} with no fence.proxy.async for global memory "
                "between"
            )
            raise self._fault(FaultKind.MISSING_FENCE, message, site, lane, allocation, ())

    # Details ------------------------------------------------------------------------------------------------

    def _marks(self, allocation: Allocation) -> NDArray[np.int64]:
        if allocation.address not in self._stamps:
            self._stamps[allocation.address] = np.zeros(-(-len(allocation.data) // self._granule), np.int64)
        return self._stamps[allocation.address]

    def _cover(self, lanes: Array | None, part: Part, size: int) -> tuple[Array, Array]:
        """The granules that accesses of `size` bytes cover, and the lane of each."""
        if lanes is None:
            lane = np.arange(len(part.index)) if part.chosen is None else part.chosen
        else:
            lane = lanes if part.chosen is None else lanes[part.chosen]
        count = max(1, size // self._granule)
        first = part.index // self._granule
        if count == 1:
            return first, lane
        return (first[:, None] + np.arange(count)).reshape(-1), np.repeat(lane, count)

    def _now(self, lane: Array) -> Array:
        """The stamps of writes that lanes do now."""
        return np.asarray(self._shadow.epochs(lane).astype(np.int64) << _LANE_BITS | lane)

    def _ordered(self, lane: Array, stamps: Array) -> Array:
        """Which of these writes that bulk copies did are ordered before what the lanes do now (those of other programs
        count as ordered)."""
        issuer = stamps & _LANE
        epoch = stamps >> _LANE_BITS & _EPOCH
        foreign = self.batch.slot[issuer] != self.batch.slot[lane]
        return np.asarray(
            foreign | (issuer == lane) | (epoch < self._shadow.known(lane, self.batch.thread[issuer] // 32))
        )

    def _forget_epochs(self, past: int) -> None:
        for stamps in self._stamps.values():
            done = (stamps > 0) & (stamps < _PENDING)
            epoch = np.maximum((stamps >> _LANE_BITS & _EPOCH) - past, 0)
            np.copyto(stamps, (stamps & (_BULK | _LANE)) | epoch << _LANE_BITS, where=done)

    def _place(self, allocation: Allocation, granule: int) -> str:
        return f"byte {granule * self._granule} of buffer {allocation.name!r}"

    def _fault(
        self,
        kind: FaultKind,
        message: str,
        site: Instruction,
        lane: int,
        allocation: Allocation,
        notes: tuple[str, ...],
    ) -> Fault:
        return self.batch.fault(kind, message, site, lane, buffer=allocation.name, notes=notes)


def _issued(site: Instruction) -> tuple[str, ...]:
    return (f"the copy was issued at line {site.line}: {site.text}",)
