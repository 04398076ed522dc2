"""Bulk copies under way: what has been issued and when it takes effect.

A copy into shared memory is complete when it reports to its mbarrier; nobody may rely on it before.  A copy out of
shared memory belongs to a bulk group of the issuing thread, which may wait until its groups have been read, or
written.  Without a seed everything happens at once; with one, copies are delivered in random order and as late as
the rules allow: when somebody waits for them, or when nobody could run on otherwise.
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

_LATEST = 20_000
"""Steps after which even a delayed copy arrives: somebody may be polling."""


@dataclass(frozen=True, slots=True)
class BulkLoad:
    """A copy into shared memory; `deliver` carries it out and reports to its mbarrier."""

    site: Instruction
    lane: int
    due: int
    deliver: Callable[[], None]


@dataclass(slots=True)
class BulkStore:
    """A copy out of shared memory, in two stages: `read` gives the data that `write` takes.

    `granules` is what it reads (for the checks); `released` says that its issuer has waited for the reading.
    """

    site: Instruction
    lane: int
    group: int
    granules: Array | None
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
        """If given, copies are delayed."""
        self.loads: list[BulkLoad] = []
        self.stores: list[BulkStore] = []
        self._committed = np.zeros(batch.lanes, np.int64)
        self._step = 0

    def clear(self) -> None:
        self.loads.clear()
        self.stores.clear()
        self._committed.fill(0)
        self._step = 0

    def issue_load(self, site: Instruction, lane: int, deliver: Callable[[], None]) -> None:
        if self.random is None:
            deliver()
            return
        delay = min(int(4 ** self.random.uniform(0, 9)), _LATEST)
        self.loads.append(BulkLoad(site, lane, self._step + delay, deliver))

    def issue_store(
        self,
        site: Instruction,
        lane: int,
        granules: Array | None,
        read: Callable[[], Array],
        write: Callable[[Array], None],
    ) -> None:
        store = BulkStore(site, lane, int(self._committed[lane]), granules, read, write)
        if self.random is None:
            store.finish()
        self.stores.append(store)

    def commit(self, mask: Mask) -> None:
        """Close the current bulk group of each lane."""
        self._committed += 1 if mask is None else mask.astype(np.int64)

    def wait(self, mask: Mask, allowed: int, *, reading_only: bool) -> None:
        """The lanes wait for all their groups but the `allowed` most recent ones."""
        still: list[BulkStore] = []
        for store in self.stores:
            waits = mask is None or bool(mask[store.lane])
            if not waits or store.group >= self._committed[store.lane] - allowed:
                still.append(store)
                continue
            store.fetch()
            self._release(store)
            if not reading_only:
                store.finish()
            if not store.written:
                still.append(store)
        self.stores = still

    def _release(self, store: BulkStore) -> None:
        shadow = self.batch.shared_space.async_shadow
        if shadow is not None and store.granules is not None and not store.released:
            shadow.end_async_read(store.lane, store.granules)
        store.released = True

    def tick(self) -> None:
        """A step has been executed: deliver what is due."""
        self._step += 1
        due = [load for load in self.loads if load.due <= self._step]
        if due:
            self.loads = [load for load in self.loads if load.due > self._step]
            for load in due:
                load.deliver()

    def deliver_one(self) -> bool:
        """Nobody can run on: deliver one copy, if there is one."""
        if not self.loads:
            return False
        chosen = int(self.random.integers(len(self.loads))) if self.random is not None else 0
        self.loads.pop(chosen).deliver()
        return True

    def finish(self) -> None:
        """All programs have ended: nothing may still use their shared memory."""
        if self.loads:
            load = self.loads[0]
            message = "the program ends while this copy into its shared memory is in flight"
            raise self.batch.fault(FaultKind.ASYNC_NOT_WAITED, message, load.site, load.lane, buffer="shared memory")
        for store in self.stores:
            if not store.released and self.batch.shape.checks:
                message = "the program ends while this copy may still read its shared memory (wait for its bulk group)"
                raise self.batch.fault(
                    FaultKind.ASYNC_NOT_WAITED, message, store.site, store.lane, buffer="shared memory"
                )
            store.finish()
        self.stores.clear()
