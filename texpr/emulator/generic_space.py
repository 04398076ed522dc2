"""Generic addresses: one 64-bit address space in which shared and local memory have windows.

`cvta` moves an address of a space into its window and back; global addresses are generic addresses as they are.
Loads and stores that name no space look at each address to find out where it leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.ordering import PLAIN, RELAXED, Ordering
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array
from texpr.emulator.spaces import Cells, Space

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

SHARED_WINDOW = 0x7E00_0000_0000
LOCAL_WINDOW = 0x7D00_0000_0000
WINDOW_BITS = 32

WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "global": 0, "const": 0, "param": 0}
"""What `cvta` adds to an address of each space."""


class GenericSpace:
    """Sends each access to the space that its address belongs to; see `spaces.py` for the interface."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def declare_access(self, size: int, *, stores: bool) -> None:
        self.batch.global_space.declare_access(size, stores=stores)
        self.batch.shared_space.declare_access(size, stores=stores)

    def declare_ordering(self, ordering: Ordering) -> None:
        self.batch.global_space.declare_ordering(ordering)

    def load(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        width: int,
        count: int,
        *,
        ordering: Ordering = PLAIN,
    ) -> Array:
        rows = np.empty((len(address), count), f"u{width}")
        for space, chosen, where, own in self._split(lanes, address):
            rows[chosen] = space.load(site, where, own, width, count, ordering=ordering)
        return rows

    def store(
        self, site: Instruction, lanes: Array | None, address: Array, rows: Array, *, ordering: Ordering = PLAIN
    ) -> None:
        for space, chosen, where, own in self._split(lanes, address):
            space.store(site, where, own, rows[chosen], ordering=ordering)

    def atomic_cells(
        self, site: Instruction, lanes: Array | None, address: Array, size: int, *, ordering: Ordering = RELAXED
    ) -> list[Cells]:
        cells: list[Cells] = []
        for space, chosen, where, own in self._split(lanes, address):
            for place in space.atomic_cells(site, where, own, size, ordering=ordering):
                cells.append(Cells(place.data, place.index, chosen if place.chosen is None else chosen[place.chosen]))
        return cells

    def _split(self, lanes: Array | None, address: Array) -> Iterator[tuple[Space, Array, Array, Array]]:
        """For each space: itself, the positions of its accesses, their lanes, their addresses in that space."""
        every = np.arange(self.batch.lanes) if lanes is None else lanes
        window = address >> np.uint64(WINDOW_BITS)
        in_shared = window == SHARED_WINDOW >> WINDOW_BITS
        in_local = window == LOCAL_WINDOW >> WINDOW_BITS
        spaces: tuple[tuple[Space, Array, int], ...] = (
            (self.batch.global_space, ~(in_shared | in_local), 0),
            (self.batch.cluster_space, in_shared, SHARED_WINDOW),
            (self.batch.local_space, in_local, LOCAL_WINDOW),
        )
        for space, belongs, base in spaces:
            chosen = np.flatnonzero(belongs)
            if len(chosen):
                yield space, chosen, every[chosen], address[chosen] - np.uint64(base)
