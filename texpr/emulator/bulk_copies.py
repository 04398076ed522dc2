"""Bulk copies under way: what has been issued and when it takes effect.

A copy into shared memory is complete when it reports to its mbarrier; nobody may rely on it before.  A copy out of
shared memory belongs to a bulk group of the issuing thread, which may wait until its groups have been read, or
written.  Copies are as late as the rules allow: one into shared memory arrives when nobody can run on without it (or
when somebody has polled its mbarrier for long), one out of shared memory reads and writes when it is waited for, or
at the end.  With a seed, both happen at random moments before that.  Nothing is delayed for ever: somebody may be
looking at memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.faults import FaultKind
from texpr.emulator.map_fences import MapFences
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, Mask

if TYPE_CHECKING:
    from texpr.emulator.async_checks import AsyncShadow
    from texpr.emulator.async_global import GlobalWrite
    from texpr.emulator.batch import Batch
    from texpr.emulator.mbarriers import Mbarrier

_LATEST = 20_000
"""Steps after which even a delayed copy takes effect."""

_POLLS = 64
"""Times that a program may ask an mbarrier in vain, with instructions that do not block, before its copies arrive."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that will report to an mbarrier; `deliver` carries it out.  `leftover` is what is wrong if the program
    ends before that ('' if nothing is).
    """

    site: Instruction
    lane: int
    due: int
    barrier: Mbarrier
    deliver: Callable[[], None]
    leftover: str


@dataclass(slots=True)
class BulkStore:
    """A copy out of shared memory, in two stages: `read` gives the data that `write` takes.

    `granules` is what it reads and `target` what it writes (for the checks); `released` says that its issuer has
    waited for the reading.
    """

    site: Instruction
    lane: int
    due: int
    group: int
    granules: Array | None
    target: GlobalWrite | None
    read: Callable[[], Array]
    write: Callable[[Array], None]
    data: Array | None = None
    written: bool = False
    released: bool = False

    def fetch(self) -> None:
        if self.data is None:
            self.data = self.read()

    def finish(self) -> None:
        self.fetch()
        if not self.written:
            assert self.data is not None
            self.write(self.data)
            self.written = True


class BulkCopies:
    """The bulk copies of a batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.random: np.random.Generator | None = None
        """If given, copies take effect at random moments; otherwise as late as possible."""
        self.in_use = False
        """Whether the kernel has instructions that start bulk copies."""
        self.maps: MapFences | None = None
        """The checks of tensor maps that the kernel makes itself."""
        self.loads: list[Delivery] = []
        self.stores: list[BulkStore] = []
        self._committed = np.zeros(batch.lanes, np.int64)
        self._step = 0
        self._polls: dict[int, int] = {}

    def begin_checks(self, shadow: AsyncShadow) -> None:
        """All instructions are bound: copies are checked from now on."""
        if self.in_use:
            self.maps = MapFences(self.batch, shadow)
            self.batch.global_space.check_bulk_copies(shadow)

    def clear(self) -> None:
        self.loads.clear()
        self.stores.clear()
        self._committed.fill(0)
        self._step = 0
        self._polls.clear()
        if self.maps is not None:
            self.maps.clear()

    def tick(self) -> None:
        """A step has been executed: carry out what is due."""
        self._step += 1
        due = [load for load in self.loads if load.due <= self._step]
        if due:
            self.loads = [load for load in self.loads if load.due > self._step]
            for load in due:
                load.deliver()
        for store in self.stores:
            if store.due <= self._step:
                store.finish()

    # Into shared memory -------------------------------------------------------------------------------------

    def issue_load(
        self, site: Instruction, lane: int, barrier: Mbarrier, deliver: Callable[[], None], leftover: str = ""
    ) -> None:
        delay = _LATEST if self.random is None else min(int(4 ** self.random.uniform(0, 9)), _LATEST)
        self.loads.append(Delivery(site, lane, self._step + delay, barrier, deliver, leftover))

    def deliver_some(self) -> bool:
        """Nobody can run on: deliver what somebody waits for, or else anything; whether there was something."""
        if not self.loads:
            return False
        if self.random is not None:
            self.loads.pop(int(self.random.integers(len(self.loads)))).deliver()
            return True
        awaited = self.batch.mbarriers.awaited()
        self._deliver([load for load in self.loads if load.barrier.place in awaited] or self.loads)
        return True

    def polled(self, barrier: Mbarrier) -> None:
        """Somebody has asked an mbarrier in vain without blocking."""
        count = self._polls.get(barrier.place, 0) + 1
        self._polls[barrier.place] = count
        if count >= _POLLS:
            self._polls[barrier.place] = 0
            self._deliver([load for load in self.loads if load.barrier is barrier])

    def _deliver(self, chosen: list[Delivery]) -> None:
        """Deliver these, the last one first: nothing says that copies arrive in the order of issue."""
        picked = {id(load) for load in chosen}
        self.loads = [load for load in self.loads if id(load) not in picked]
        for load in reversed(chosen):
            load.deliver()

    # Out of shared memory -----------------------------------------------------------------------------------

    def issue_store(
        self,
        site: Instruction,
        lane: int,
        granules: Array | None,
        target: GlobalWrite | None,
        read: Callable[[], Array],
        write: Callable[[Array], None],
    ) -> None:
        due = self._step + _LATEST
        store = BulkStore(site, lane, due, int(self._committed[lane]), granules, target, read, write)
        if self.random is not None:
            progress = int(self.random.integers(3))
            if progress == 1:
                store.fetch()
            elif progress == 2:
                store.finish()
        self.stores.append(store)

    def commit(self, mask: Mask) -> None:
        """Close the current bulk group of each lane."""
        self._committed += 1 if mask is None else mask.astype(np.int64)

    def wait(self, mask: Mask, allowed: int, *, reading_only: bool) -> None:
        """The lanes wait for all their groups but the `allowed` most recent ones."""
        still: list[BulkStore] = []
        for store in reversed(self.stores):
            waits = mask is None or bool(mask[store.lane])
            if not waits or store.group >= self._committed[store.lane] - allowed:
                still.append(store)
                continue
            store.fetch()
            self._release(store)
            if reading_only:
                still.append(store)
                continue
            store.finish()
            if store.target is not None:
                store.target.end()
        self.stores = still[::-1]

    def _release(self, store: BulkStore) -> None:
        shadow = self.batch.shared_space.async_shadow
        if shadow is not None and store.granules is not None and not store.released:
            shadow.end_async_read(store.lane, store.granules)
        store.released = True

    def finish(self) -> None:
        """All programs have ended: nothing may still use their shared memory."""
        for load in self.loads:
            if load.leftover and self.batch.shape.checks:
                raise self._leftover(load.leftover, load.site, load.lane)
        self.loads.clear()
        for store in reversed(self.stores):
            if not store.released and self.batch.shape.checks:
                message = "the program ends while this copy may still read its shared memory (wait for its bulk group)"
                raise self._leftover(message, store.site, store.lane)
            store.finish()
        self.stores.clear()

    def _leftover(self, message: str, site: Instruction, lane: int) -> Exception:
        return self.batch.fault(FaultKind.ASYNC_NOT_WAITED, message, site, lane, buffer="shared memory")
