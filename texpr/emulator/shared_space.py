"""Shared memory of the programs of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.async_checks import AsyncShadow
from texpr.emulator.checks import EQUAL_STORES, Explain, SharedShadow
from texpr.emulator.cluster_space import RANK_SHIFT
from texpr.emulator.cluster_visits import Visits
from texpr.emulator.faults import FaultKind
from texpr.emulator.memory import WIDEST_ACCESS
from texpr.emulator.ordering import PLAIN, RELAXED, Ordering
from texpr.emulator.ptx import Instruction, Variable
from texpr.emulator.rows import Array, Mask
from texpr.emulator.spaces import Cells, check_alignment, difference, lay_out, unequal
from texpr.emulator.watch import Conflict, Watch

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

SHARED_BASE = 1024
"""Shared addresses start here, so that small wild addresses are out of bounds."""

_WINDOW_MULTIPLE = 1024


class SharedSpace:
    """The shared memories of all programs, one window of `size` bytes after the other in `data`.

    See `spaces.py` for the interface.  Once all instructions have declared their accesses, `begin_checks` adds
    the shadow memory that finds races.
    """

    def __init__(self, batch: Batch, dynamic_bytes: int, variables: list[Variable]) -> None:
        self.batch = batch
        # Dynamic shared memory (declared without a size) comes behind the static variables.
        ordered = sorted(variables, key=lambda variable: variable.size == 0)
        self.symbols, end = lay_out(ordered, SHARED_BASE)
        self.limit = end + dynamic_bytes
        self.size = -(-self.limit // _WINDOW_MULTIPLE) * _WINDOW_MULTIPLE
        self.data = np.zeros(self.size * batch.shape.programs, np.uint8)
        self.window = batch.slot * self.size
        self._own_rank = batch.rank[batch.slot]
        self._first_address = self._own_rank << RANK_SHIFT
        self.visits = Visits(batch)
        """Who has used shared memory of other programs of the cluster."""
        self.shadow: SharedShadow | None = None
        self.async_shadow: AsyncShadow | None = None
        """The same as `shadow`, for kernels that use the async proxy."""
        self._uses_async_proxy = False
        self._narrowest = WIDEST_ACCESS
        self._touched: dict[tuple[str, int], tuple[Instruction, int, int]] = {}
        """By verb and identity: an instruction and the range of window offsets that it has accessed."""
        self.conflict: Conflict | None = None
        """The place that the last fault was about, if another access to it is to blame as well."""
        self.watch: Watch | None = None
        """Set while a batch runs again to find that other access."""

    def symbols_by_lane(self) -> dict[str, Array]:
        """The addresses of the variables as the lanes see them: those of a cluster differ from program to program."""
        return {name: (address + self._first_address).astype(np.uint64) for name, address in self.symbols.items()}

    def declare_access(self, size: int, *, stores: bool) -> None:
        self._narrowest = min(self._narrowest, size)

    def declare_ordering(self, ordering: Ordering) -> None:
        """Nothing to do: strong accesses to shared memory do not race, and order nothing."""

    def declare_async(self) -> None:
        """The kernel uses the async proxy, in pieces of 8 bytes (mbarriers) or more."""
        self._uses_async_proxy = True
        self.declare_access(8, stores=True)

    def begin_checks(self) -> None:
        """All accesses are declared: lay out the shadow memory and the clocks, if checks are on."""
        if self.batch.shape.checks:
            if self._uses_async_proxy:
                self.async_shadow = AsyncShadow(self.batch, self.size, SHARED_BASE, self._narrowest)
                self.batch.bulk.begin_checks(self.async_shadow)
            self.shadow = self.async_shadow or SharedShadow(self.batch, self.size, SHARED_BASE, self._narrowest)
            batch = self.batch
            for keeper in (self.visits, batch.mbarriers, batch.cluster_barriers):
                self.shadow.followers.append(keeper.forget_epochs)

    def clear(self) -> None:
        self.data.fill(0xCD)
        self._touched.clear()
        self.conflict = None
        self.visits.clear()
        if self.shadow is not None:
            self.shadow.clear()

    # Accesses -----------------------------------------------------------------------------------------------

    def load(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        width: int,
        count: int,
        *,
        ordering: Ordering = PLAIN,
        collective: bool = False,
        cluster: bool = False,
    ) -> Array:
        """`collective`: all lanes of the warp read together, whichever of them give the addresses. `cluster`: addresses
        may belong to other programs of the cluster."""
        size = width * count
        index = self._locate(site, lanes, address, size, "read", cluster=cluster)
        if self.batch.observer is not None:
            first, every = int(address[0]) - SHARED_BASE, np.arange(self.batch.lanes) if lanes is None else lanes
            self.batch.observer.load(site, 1, f"shared offset {first}", "shared memory", every)
        if self.shadow is not None and ordering.strong:
            self.shadow.strong_access(site, lanes, index, size)
        elif self.shadow is not None:
            self.shadow.read(site, lanes, index, size, collective=collective)
        return self._rows(width, count).take(index // size, axis=0)

    def store(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        rows: Array,
        *,
        ordering: Ordering = PLAIN,
        cluster: bool = False,
    ) -> None:
        count = rows.shape[1]
        size = rows.itemsize * count
        index = self._locate(site, lanes, address, size, "wrote", cluster=cluster)
        cells = self._rows(rows.itemsize, count)
        row = index // size
        together: Array | None = None

        def explain(access: int) -> tuple[str, ...]:
            return difference(cells[row[access]], rows[access])

        if self.shadow is not None:

            def same(some: Array) -> Array:
                return np.asarray(~unequal(cells[row[some]], rows[some]).any(axis=1)) | ordering.strong

            together = self.shadow.write(site, lanes, index, size, same, explain)
        if self.batch.observer is not None:
            self.batch.observer.store(cells[row], rows)
        cells[row] = rows
        if together is not None:
            lost = together & np.asarray(unequal(cells[row], rows).any(axis=1))
            self._require_one_value(site, lanes, lost, index, explain)

    def atomic_cells(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        size: int,
        *,
        ordering: Ordering = RELAXED,
        cluster: bool = False,
    ) -> list[Cells]:
        index = self._locate(site, lanes, address, size, "wrote", cluster=cluster)
        if self.shadow is not None:
            self.shadow.atomic(site, lanes, index, size)
        if self.batch.observer is not None:
            first, every = int(address[0]) - SHARED_BASE, np.arange(self.batch.lanes) if lanes is None else lanes
            self.batch.observer.load(site, 2, f"shared offset {first}", "shared memory", every)
        return [Cells(self.data, index, None)]

    def begin_copy(self, site: Instruction, lanes: Array | None, address: Array, size: int) -> Array:
        """An asynchronous copy will write here; gives the byte indices into `data`."""
        index = self._locate(site, lanes, address, size, "wrote")
        if self.shadow is not None:
            self.shadow.begin_copy(site, lanes, index, size)
        return index

    def end_copy(self, lanes: Array, index: Array, rows: Array, promised: Array | None) -> None:
        """The data of an asynchronous copy lands; `promised` says when it counts as written (None, or 0: now)."""
        size = rows.itemsize * rows.shape[1]
        self._rows(rows.itemsize, rows.shape[1])[index // size] = rows
        if self.batch.observer is not None:
            self.batch.observer.changed = True
        if self.shadow is not None:
            self.shadow.end_copy(lanes, index, size, promised)

    def begin_report(self, site: Instruction, lanes: Array, address: Array, size: int) -> Array:
        """Stores that report to mbarriers will write here, perhaps in other programs of the cluster; gives the byte
        indices into `data`."""
        index = self._locate(site, lanes, address, size, "wrote", cluster=True, reports=True)
        if self.shadow is not None:
            self.shadow.begin_copy(site, lanes, index, size)
        return index

    def land_report(self, index: Array, rows: Array, slot: int, actor: int) -> None:
        """Stores that report to an mbarrier, an actor of a program, take effect."""
        size = rows.itemsize * rows.shape[1]
        if self.batch.observer is not None:
            self.batch.observer.changed = True
        self._rows(rows.itemsize, rows.shape[1])[index // size] = rows
        if self.async_shadow is not None:
            self.async_shadow.land(slot, actor, self.async_shadow.granules_of(index, size))

    def stamps(self) -> Array | None:
        """What marks writes that lanes do now, for `end_copy`."""
        return None if self.shadow is None else self.shadow.stamps()

    def forget(self, lanes: Array, address: Array, size: int) -> None:
        """What these (good) addresses hold means nothing any more."""
        if self.shadow is not None:
            self.shadow.forget(self.places(lanes, address), size)

    # The async proxy ----------------------------------------------------------------------------------------

    def places(self, lanes: Array, address: Array) -> Array:
        """Indices into `data` of addresses in the lanes' own programs that are known to be good."""
        return np.asarray(address.astype(np.int64) - self._first_address[lanes] + self.window[lanes])

    def offset_of(self, place: int) -> int:
        """The offset in a program's shared memory of an index into `data`."""
        return place % self.size - SHARED_BASE

    def name_of(self, place: int) -> str:
        """An index into `data` in words."""
        if self.batch.shape.cluster_size == 1:
            return f"shared offset {self.offset_of(place)}"
        return f"shared offset {self.offset_of(place)} of program {self.batch.rank[place // self.size]} of the cluster"

    def mbarrier_places(
        self, site: Instruction, lanes: Array, address: Array, *, cluster: bool, reports: bool
    ) -> Array:
        """Indices into `data` of what lanes take for mbarriers. `reports`: a copy will use them, not the lanes."""
        return self._locate(site, lanes, address, 8, "wrote", cluster=cluster, reports=reports)

    def touch_mbarriers(self, site: Instruction, lanes: Array, places: Array) -> None:
        """Lanes use mbarriers, as if by atomics. Nobody may do so who is not behind the initialisation."""
        if self.shadow is not None:
            self.shadow.atomic(site, lanes, places, 8, hides=False)

    def region(
        self, site: Instruction, lane: int, shared: Array, size: int, verb: str, *, cluster: bool = False
    ) -> tuple[Array, Array | None]:
        """Where pieces of `size` bytes at a lane's shared addresses lie, and what granules they cover. `cluster`: they
        may belong to another program, to an mbarrier of which the copy reports."""
        index = self._locate(site, np.full(len(shared), lane), shared, size, verb, cluster=cluster, reports=cluster)
        return index, None if self.async_shadow is None else self.async_shadow.granules_of(index, size)

    def peek(self, index: Array, size: int) -> Array:
        """The bytes of pieces, without any check: one row each."""
        width = min(size, 8)
        return self._rows(width, size // width).take(index // size, axis=0).view(np.uint8)

    def poke(self, index: Array, size: int, octets: Array) -> None:
        """Write pieces, without any check."""
        if self.batch.observer is not None:
            self.batch.observer.changed = True
        width = min(size, 8)
        self._rows(width, size // width)[index // size] = np.ascontiguousarray(octets).view(f"u{width}")

    # Synchronisation ----------------------------------------------------------------------------------------

    def release(self, participants: Mask) -> NDArray[np.int32] | None:
        """These lanes arrive at a barrier: what they publish."""
        return None if self.shadow is None else self.shadow.release(participants)

    def acquire(self, participants: Mask, published: NDArray[np.int32] | None) -> None:
        """These lanes go on behind a barrier."""
        if self.shadow is not None and published is not None:
            self.shadow.acquire(participants, published)

    def barrier(self) -> None:
        """All lanes of all programs pass a barrier."""
        if self.shadow is not None:
            self.shadow.barrier(None)

    def warp_barrier(self, participants: Mask) -> None:
        """bar.warp.sync."""
        if self.shadow is not None:
            self.shadow.warp_barrier(participants)

    # Details ------------------------------------------------------------------------------------------------

    def _rows(self, width: int, count: int) -> Array:
        return self.data.view(f"u{width}").reshape(-1, count)

    def _locate(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        size: int,
        verb: str,
        *,
        cluster: bool = False,
        reports: bool = False,
    ) -> Array:
        """Byte indices into `data`; faults if an access is misaligned or outside the program's shared memory, or, in a
        cluster, that of the program which the address says.

        `verb` ("read" or "wrote") is remembered for the notes of later faults.
        """
        check_alignment(self.batch, site, lanes, address, size, "shared")
        where = address.astype(np.int64)
        window = self.window if lanes is None else self.window[lanes]
        if self.batch.shape.cluster_size > 1:
            where, window = self._own_or_other(site, lanes, where, window, cluster, reports)
        low, high = int(where.min()), int(where.max()) + size
        if low < SHARED_BASE or high > self.limit:
            position = int(np.flatnonzero((where < SHARED_BASE) | (where + size > self.limit))[0])
            offset = int(where[position]) - SHARED_BASE
            message = f"{size} bytes at shared offset {offset}; the program has {self.limit - SHARED_BASE} bytes"
            lane = self.batch.lane_at(lanes, position)
            raise self.batch.fault(FaultKind.OUT_OF_BOUNDS, message, site, lane, buffer="shared memory")
        if self.shadow is not None:
            key = (verb, id(site))
            _, known_low, known_high = self._touched.get(key, (site, low, high))
            self._touched[key] = (site, min(low, known_low), max(high, known_high))
        where += window
        if self.watch is not None:
            self.watch.note(verb, site, lanes, where, size)
        return where

    def _own_or_other(
        self, site: Instruction, lanes: Array | None, address: Array, window: Array, cluster: bool, reports: bool
    ) -> tuple[Array, Array]:
        """Addresses as in a program without a cluster, and the windows in which they lie."""
        rank, where = address >> RANK_SHIFT, address & ((1 << RANK_SHIFT) - 1)
        own = self._own_rank if lanes is None else self._own_rank[lanes]
        away = rank != own
        if not away.any():
            return where, window
        size = self.batch.shape.cluster_size
        bad = away & ((rank < 0) | (rank >= size)) if cluster else away
        if bad.any():
            position = int(np.flatnonzero(bad)[0])
            message = f"the shared address 0x{int(address[position]):x} "
            if 0 <= rank[position] < size:
                message += f"is one of program {rank[position]} of the cluster; the instruction needs shared::cluster"
            else:
                message += f"is in no program of the cluster (it has {size})"
            lane = self.batch.lane_at(lanes, position)
            raise self.batch.fault(FaultKind.OUT_OF_BOUNDS, message, site, lane, buffer="shared memory")
        every = np.arange(self.batch.lanes) if lanes is None else lanes
        owners = self.batch.slot[every[away]] + (rank - own)[away]
        self.visits.note(site, every[away], owners, reports=reports)
        return where, window + (rank - own) * self.size

    def _require_one_value(
        self, site: Instruction, lanes: Array | None, lost: Array, index: Array, explain: Explain
    ) -> None:
        """Lanes of one instruction that store to the same place store the same value."""
        if not lost.any():
            self.batch.warn(EQUAL_STORES)
            return
        position = int(np.flatnonzero(lost)[0])
        message = f"{self.name_of(int(index[position]))}: two threads store different values at once"
        lane = self.batch.lane_at(lanes, position)
        notes = explain(position)
        raise self.batch.fault(FaultKind.RACE, message, site, lane, buffer="shared memory", notes=notes)

    def earlier_accesses(self, place: int, verb: str, site: Instruction) -> tuple[str, ...]:
        """Notes on the instructions that accessed a range around `place` of any program's window."""
        return tuple(
            f"{other.where} {verb} in this region: {other.text}"
            for (how, _), (other, low, high) in self._touched.items()
            if how == verb and low <= place < high and other is not site
        )[:4]
