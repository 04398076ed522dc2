"""Global memory as the programs of a batch see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.async_global import AsyncGlobal
from texpr.emulator.conflicts import GlobalConflicts, Race
from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.memory import WIDEST_ACCESS, BadAddress, GlobalMemory, Part
from texpr.emulator.ordering import PLAIN, RELAXED, Ordering
from texpr.emulator.ptx import Instruction
from texpr.emulator.race_report import report
from texpr.emulator.rows import Array
from texpr.emulator.spaces import Cells, check_alignment, unequal

if TYPE_CHECKING:
    from texpr.emulator.async_checks import AsyncShadow
    from texpr.emulator.batch import Batch


class GlobalSpace:
    """Loads, stores and atomics on allocations; see `spaces.py` for the interface."""

    def __init__(self, batch: Batch, memory: GlobalMemory) -> None:
        self.batch = batch
        self.memory = memory
        self.synchronises = False
        self.fences = False
        """Whether the kernel has instructions that acquire or release in global memory, and fences among them."""
        self.conflicts: GlobalConflicts | None = None
        """What this launch knows about who accessed what; None without checks."""
        self.narrowest_access = WIDEST_ACCESS
        self.bulk: AsyncGlobal | None = None
        """The checks of bulk copies, for kernels that have some."""
        self._touched: dict[tuple[int, int], tuple[Instruction, str]] = {}
        """By instruction and buffer: what the instruction has done to the buffer."""

    def declare_access(self, size: int, *, stores: bool) -> None:
        self.narrowest_access = min(self.narrowest_access, size)

    def check_bulk_copies(self, shadow: AsyncShadow) -> None:
        """All accesses are declared: bulk copies are checked from now on."""
        self.bulk = AsyncGlobal(self.batch, shadow, self.narrowest_access)

    def declare_ordering(self, ordering: Ordering) -> None:
        self.synchronises |= ordering.acquires or ordering.releases

    def declare_fence(self, ordering: Ordering) -> None:
        """A fence is in the kernel."""
        self.declare_ordering(ordering)
        self.fences = True

    def begin(self, conflicts: GlobalConflicts | None) -> None:
        """A batch of programs starts to run, as part of a launch."""
        self.conflicts = conflicts
        self._touched.clear()
        shadow = self.batch.shared_space.shadow
        if conflicts is not None and shadow is not None:
            conflicts.begin(self.batch, shadow)
            conflicts.clocks.fences = self.fences

    def fence(self, lanes: Array | None, ordering: Ordering) -> None:
        """Lanes execute a fence."""
        if self.conflicts is not None:
            self.conflicts.fence(lanes, ordering)

    def load(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        width: int,
        count: int,
        *,
        ordering: Ordering = PLAIN,
        by_copy: bool = False,
    ) -> Array:
        """`by_copy`: a bulk copy reads, in the name of the lanes."""
        size = width * count
        parts = self.locate(site, lanes, address, size, stores=False)
        if self.bulk is not None and not by_copy:
            self.bulk.thread_reads(site, lanes, parts, size, strong=ordering.strong)
        if self.batch.shape.checks:
            self._require_written(site, lanes, parts, width, count)
        if self.conflicts is not None:
            for part in parts:
                self._check_read(site, lanes, part, size, ordering, by_copy)
        if self.batch.observer is not None:
            self._note_poll(site, lanes, parts, ordering)
        if len(parts) == 1:
            part = parts[0]
            return part.allocation.rows(width, count).take(part.index // size, axis=0)
        rows = np.empty((len(address), count), f"u{width}")
        for part in parts:
            rows[part.chosen] = part.allocation.rows(width, count).take(part.index // size, axis=0)
        return rows

    def store(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        rows: Array,
        *,
        ordering: Ordering = PLAIN,
        by_copy: bool = False,
    ) -> None:
        """`by_copy`: a bulk copy writes, in the name of the lanes."""
        count = rows.shape[1]
        size = rows.itemsize * count
        checked = self.conflicts is not None
        for part in self.locate(site, lanes, address, size, stores=True):
            self._require_writable(site, lanes, part)
            if self.bulk is not None and not by_copy:
                self.bulk.thread_writes(site, lanes, part, size, strong=ordering.strong)
            values = rows if part.chosen is None else rows[part.chosen]
            row = part.index // size
            cells = part.allocation.rows(rows.itemsize, count)
            if checked:
                self._check_write(site, lanes, part, cells, row, values, ordering)
            if self.batch.observer is not None:
                self.batch.observer.store(cells[row], values)
            cells[row] = values
            if not part.allocation.complete:
                part.allocation.written_rows(rows.itemsize, count)[row] = (1 << (8 * rows.itemsize)) - 1
            if checked and not ordering.strong:
                self._require_one_value(site, lanes, part, cells, row, values)

    def atomic_cells(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        size: int,
        *,
        ordering: Ordering = RELAXED,
        by_copy: bool = False,
    ) -> list[Cells]:
        parts = self.locate(site, lanes, address, size, stores=True)
        for part in parts:
            self._require_writable(site, lanes, part)
            if self.bulk is not None and not by_copy:
                self.bulk.thread_writes(site, lanes, part, size, strong=True)
        if self.batch.shape.checks:
            self._require_written(site, lanes, parts, size, 1)
        if self.conflicts is not None:
            for part in parts:
                chosen = self._lanes(lanes, part)
                race = self.conflicts.write(chosen, part.allocation, part.index, size, ordering, None, atomic=True)
                if race is not None:
                    raise self._race(site, lanes, part, size, ordering, race, "update")
                self._touched[id(site), part.allocation.address] = (site, "update")
        if self.batch.observer is not None:
            self._note_poll(site, lanes, parts, ordering)
        return [Cells(part.allocation.data, part.index, part.chosen) for part in parts]

    def locate(
        self, site: Instruction, lanes: Array | None, address: Array, size: int, *, stores: bool | None = None
    ) -> list[Part]:
        """Where the accesses fall; faults if one is misaligned or outside of every live allocation.

        `stores`: whether they write or read now (None: neither yet).
        """
        batch = self.batch
        check_alignment(batch, site, lanes, address, size, "global")
        try:
            parts = self.memory.locate(address, size)
        except BadAddress as bad:
            lane = batch.lane_at(lanes, bad.position)
            message = f"global access to {bad.message}"
            raise batch.fault(FaultKind.OUT_OF_BOUNDS, message, site, lane, buffer=bad.buffer) from None
        if self.memory.footprint is not None and stores is not None:
            for part in parts:
                self.memory.footprint.note(part.allocation, part.index, size, stores=stores)
        return parts

    def _note_poll(self, site: Instruction, lanes: Array | None, parts: list[Part], ordering: Ordering) -> None:
        assert self.batch.observer is not None
        for part in parts:
            chosen = self._lanes(lanes, part)
            every = np.arange(self.batch.lanes) if chosen is None else chosen
            name, first = part.allocation.name, int(part.index[0])
            self.batch.observer.load(site, 2 + ordering.strong, f"byte {first} of buffer {name!r}", name, every)

    def _require_written(
        self, site: Instruction, lanes: Array | None, parts: list[Part], width: int, count: int
    ) -> None:
        """Nothing is read that neither host nor device has written."""
        for part in parts:
            if part.allocation.complete:
                continue
            written = part.allocation.written_rows(width, count).take(part.index // (width * count), axis=0)
            unwritten = written != (1 << (8 * width)) - 1
            if unwritten.any():
                position = int(np.flatnonzero(unwritten.any(axis=1))[0])
                name = part.allocation.name
                unwritten_byte = int(part.index[position]) + width * int(np.flatnonzero(unwritten[position])[0])
                where = part.allocation.place(unwritten_byte)
                message = f"{where} is read before anything was written there"
                lane = self._lane(lanes, part, position)
                raise self.batch.fault(FaultKind.UNINITIALISED, message, site, lane, buffer=name)

    def _require_writable(self, site: Instruction, lanes: Array | None, part: Part) -> None:
        if part.allocation.read_only:
            name = part.allocation.name
            lane = self._lane(lanes, part, 0)
            raise self.batch.fault(FaultKind.READ_ONLY, f"buffer {name!r} is constant", site, lane, buffer=name)

    # Order --------------------------------------------------------------------------------------------------

    def _check_read(
        self, site: Instruction, lanes: Array | None, part: Part, size: int, ordering: Ordering, by_copy: bool
    ) -> None:
        assert self.conflicts is not None
        race = self.conflicts.read(
            self._lanes(lanes, part), part.allocation, part.index, size, ordering, by_copy=by_copy
        )
        if race is not None:
            raise self._race(site, lanes, part, size, ordering, race, "read")
        self._touched[id(site), part.allocation.address] = (site, "read")

    def _check_write(
        self,
        site: Instruction,
        lanes: Array | None,
        part: Part,
        cells: Array,
        row: Array,
        values: Array,
        ordering: Ordering,
    ) -> None:
        assert self.conflicts is not None

        def same() -> Array:
            return np.asarray(~unequal(cells[row], values).any(axis=1))

        size = values.itemsize * values.shape[1]
        race = self.conflicts.write(self._lanes(lanes, part), part.allocation, part.index, size, ordering, same)
        if race is not None:
            raise self._race(site, lanes, part, size, ordering, race, "write")
        self._touched[id(site), part.allocation.address] = (site, "write")

    def _lanes(self, lanes: Array | None, part: Part) -> Array | None:
        """The lanes of the accesses of a part."""
        if part.chosen is None:
            return lanes
        return part.chosen if lanes is None else np.asarray(lanes[part.chosen])

    def _race(
        self,
        site: Instruction,
        lanes: Array | None,
        part: Part,
        size: int,
        ordering: Ordering,
        race: Race,
        action: str,
    ) -> Fault:
        assert self.conflicts is not None
        touched = [(other, what) for (_, address), (other, what) in self._touched.items()
                   if address == part.allocation.address]
        lane = self._lane(lanes, part, race.position)
        return report(self.batch, self.conflicts, site, lane, part, size, ordering, race, action, touched)

    def _require_one_value(
        self, site: Instruction, lanes: Array | None, part: Part, cells: Array, row: Array, values: Array
    ) -> None:
        """Lanes of one instruction that store to the same place store the same value."""
        if (row[1:] > row[:-1]).all():
            return
        lost = unequal(cells[row], values)
        if lost.any():
            position = int(np.flatnonzero(lost.any(axis=1))[0])
            name = part.allocation.name
            lane = self._lane(lanes, part, position)
            others = [self._lane(lanes, part, int(other)) for other in np.flatnonzero(row == row[position])]
            programs = {self.batch.program_index(other) for other in others} - {self.batch.program_index(lane)}
            who = f"program {min(programs)} stores another value" if programs else "another thread stores another value"
            message = f"{part.allocation.place(int(part.index[position]))}: {who} at the same time"
            raise self.batch.fault(FaultKind.GLOBAL_CONFLICT, message, site, lane, buffer=name)

    def _lane(self, lanes: Array | None, part: Part, position: int) -> int:
        return self.batch.lane_at(lanes, position if part.chosen is None else int(part.chosen[position]))
