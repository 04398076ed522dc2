"""Checks of operations of the async proxy on shared memory: bulk copies and wgmma operands.

They are ordered by different means than ordinary accesses:

- What a bulk copy wrote may be used by those who know that the phase of its mbarrier is complete.  So every mbarrier
  is an *actor* with a clock of its own, in whose name copies write; a waiter learns the epochs of finished phases.
- What threads wrote may be read or overwritten by an asynchronous operation only behind a `fence.proxy.async` that
  lies on the way from the write to the operation.  So each warp also knows up to which epoch of every other warp
  there has been such a fence; a fence by one warp covers the writes that the warp knows of, not those of others.
  Fences of shared and of global memory are told apart (for the latter see `async_global.py`).
- What an asynchronous operation reads must not be overwritten before its issuer has waited for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.checks import ASYNC, ASYNC_SHIFT, IN_FLIGHT, WARP, SharedShadow
from texpr.emulator.faults import FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, Mask

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

ACTORS = 64
"""Mbarriers of one program that are told apart; further ones share actors, which can only hide a mistake."""


class AsyncShadow(SharedShadow):
    """The shadow memory of kernels that use the async proxy."""

    def __init__(self, batch: Batch, window: int, base: int, granule: int) -> None:
        actors = ACTORS * batch.shape.cluster_size
        super().__init__(batch, window, base, granule, actors)
        self._fenced_globally_from = self._fenced_from + self._warps
        self._readers = np.zeros(window * batch.shape.programs // granule, np.int16)
        self._epochs = np.zeros((batch.shape.programs, actors), np.int64)

    def clear(self) -> None:
        super().clear()
        if self._readers is not None:  # not yet there when the base class clears for the first time
            self._epochs.fill(0)

    # Synchronisation ----------------------------------------------------------------------------------------

    def fence(self, participants: Mask, *, shared: bool, globally: bool) -> None:
        """fence.proxy.async: what these warps know of in shared or global memory is visible to the async proxy."""
        joining = self._participating(participants)
        self._advance(joining)
        for start, covered in ((self._fenced_from, shared), (self._fenced_globally_from, globally)):
            if covered:
                fenced = self._clock[:, :, start : start + self._warps]
                known = np.maximum(fenced, self._clock[:, :, : self._warps])
                fenced[:] = np.where(joining[:, :, None], known, fenced)
        self._clocks_changed()

    def epochs(self, lanes: Array) -> Array:
        """The epochs of the lanes' warps."""
        return np.asarray(self._stamp[lanes] >> self.form.shift)

    def known(self, lanes: Array, warps: Array) -> Array:
        """Per lane: up to which epoch of a warp of its program everything is ordered before what it does now."""
        columns = self.batch.rank[self.batch.slot[lanes]] * self._rows + warps
        return np.asarray(self._clock[self.batch.slot[lanes], self._lane_warp[lanes], columns])

    def fenced_globally(self, lane: int, warps: Array) -> Array:
        """Up to which epochs of warps of its program a lane knows global memory to be fenced."""
        slot, own = int(self.batch.slot[lane]), int(self._lane_warp[lane])
        first = self._fenced_globally_from + int(self.batch.rank[slot]) * self._rows
        return np.asarray(self._clock[slot, own, first + warps])

    def position(self, lane: int) -> tuple[int, int]:
        """A lane's warp, by its number in the cluster, and that warp's epoch: when something happens now."""
        return int(self._lane_column[lane]), int(self._stamp[lane]) >> self.form.shift

    def is_fenced(self, lane: int, warp: int, epoch: int) -> bool:
        """Whether a proxy fence lies between what a warp did in an epoch and what the lane does now."""
        slot, own = int(self.batch.slot[lane]), int(self._lane_warp[lane])
        return epoch < int(self._clock[slot, own, self._fenced_from + warp])

    def knows(self, lane: int, warp: int, epoch: int) -> bool:
        """Whether what a warp did in an epoch is ordered before what the lane does now."""
        known = int(self._clock[int(self.batch.slot[lane]), int(self._lane_warp[lane]), warp])
        return warp == int(self._lane_column[lane]) or epoch < known

    def finish_phase(self, slot: int, actor: int, published: NDArray[np.int32]) -> None:
        """A phase of an mbarrier is complete: those who wait know its copies (noted in `published`)."""
        self._epochs[slot, actor] += 1
        published[self._warps + actor] = self._epochs[slot, actor]

    def columns(self) -> int:
        """The length of a published clock."""
        return int(self._clock.shape[2])

    def acquire_row(self, participants: Array, slot: int, published: NDArray[np.int32]) -> None:
        """Lanes of one program learn a published clock."""
        rows = np.zeros((len(self._clock), len(published)), np.int32)
        rows[slot] = published
        self.acquire(participants, rows)

    # Regions ------------------------------------------------------------------------------------------------

    def granules_of(self, index: Array, size: int) -> Array:
        """The granules that pieces of `size` bytes at `index` cover; more than once if pieces share them."""
        first = (index // self.granule).reshape(-1)
        if size <= self.granule:
            return np.asarray(first)
        return np.asarray((first[:, None] + np.arange(size // self.granule)).reshape(-1))

    def begin_async_read(self, site: Instruction, lane: int, granules: Array, warps: int = 1) -> None:
        """An operation issued by `lane` (and its like in `warps` warps) begins to read."""
        written = self._written[granules]
        lanes = np.full(len(granules), lane)
        late = np.flatnonzero(written >= self._floor)
        if len(late):
            self._judge_read(site, granules, lanes, written, late)
        self._require_fence(site, lane, granules, written)
        assert self._readers is not None
        self._readers[granules] += np.int16(warps)  # once per granule, however often it is listed; so at the end

    def end_async_read(self, lane: int, granules: Array) -> None:
        """The lane has waited: from now on that was a read of its warp."""
        assert self._readers is not None
        self._readers[granules] -= 1
        self._read[granules, self._lane_column[lane]] = self._stamp[lane] | self.form.many

    def begin_async_write(self, site: Instruction, lane: int, granules: Array) -> None:
        """A bulk copy issued by `lane` will write."""
        lanes = np.full(len(granules), lane)
        self._before_write(site, granules, lanes, self.granule, None)
        self._require_fence(site, lane, granules, self._written[granules])
        self._written[granules] = IN_FLIGHT

    def land(self, slot: int, actor: int, granules: Array) -> None:
        """A bulk copy has written, in the name of its mbarrier."""
        self._written[granules] = np.int32(ASYNC + (int(self._epochs[slot, actor]) << ASYNC_SHIFT) + actor)

    def _require_fence(self, site: Instruction, lane: int, granules: Array, written: Array) -> None:
        """What threads wrote here is fenced for the async proxy."""
        plain = written < ASYNC
        slot, own = int(self.batch.slot[lane]), int(self._lane_warp[lane])
        writer = np.where(plain, (written & self.form.thread) // WARP, 0)
        fenced = self._clock[slot, own, self._fenced_from + writer]
        missing = np.flatnonzero(plain & (written >> self.form.shift >= fenced))
        if len(missing):
            first = int(missing[0])
            place, who = self._place(int(granules[first])), self._writer(int(written[first]), lane)
            message = (
                f"{place}: an asynchronous operation follows a write by {who} with no fence.proxy.async between"
            )
            raise self._fault(FaultKind.MISSING_FENCE, message, site, lane, int(granules[first]), "wrote")
