"""Addresses in a cluster, and shared memory reached by them.

A shared address has the number (*rank*) of its program in the cluster above bit 24; so has the address of a program's
own variable.  Hardware does the same, and compilers make use of it: they turn an address into that of another program
by changing these bits instead of asking `mapa`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.ordering import PLAIN, RELAXED, Ordering
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array
from texpr.emulator.spaces import Cells

if TYPE_CHECKING:
    from texpr.emulator.shared_space import SharedSpace

RANK_SHIFT = 24
_OFFSET = (1 << RANK_SHIFT) - 1
_RANKS = 0xFF


def rank_of(address: Array) -> Array:
    """The program in the cluster to which shared addresses (generic ones too) belong."""
    return np.asarray((address >> address.dtype.type(RANK_SHIFT)) & address.dtype.type(_RANKS))


def moved_to(address: Array, rank: Array) -> Array:
    """The same places in the shared memory of the programs with these ranks."""
    kind = address.dtype.type
    others = address & ~kind(_RANKS << RANK_SHIFT)
    return np.asarray(others | (rank.astype(address.dtype) & kind(_RANKS)) << kind(RANK_SHIFT))


class ClusterSpace:
    """Shared memory of all programs of a cluster; see `spaces.py` for the interface."""

    def __init__(self, space: SharedSpace) -> None:
        self.space = space

    def declare_access(self, size: int, *, stores: bool) -> None:
        self.space.declare_access(size, stores=stores)

    def declare_ordering(self, ordering: Ordering) -> None:
        self.space.declare_ordering(ordering)

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
        return self.space.load(site, lanes, address, width, count, ordering=ordering, cluster=True)

    def store(
        self, site: Instruction, lanes: Array | None, address: Array, rows: Array, *, ordering: Ordering = PLAIN
    ) -> None:
        self.space.store(site, lanes, address, rows, ordering=ordering, cluster=True)

    def atomic_cells(
        self, site: Instruction, lanes: Array | None, address: Array, size: int, *, ordering: Ordering = RELAXED
    ) -> list[Cells]:
        return self.space.atomic_cells(site, lanes, address, size, ordering=ordering, cluster=True)
