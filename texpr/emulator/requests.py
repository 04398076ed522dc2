"""What one memory instruction asks of the memory system: 32-byte sectors of global memory, wavefronts of shared memory.

A *request* is one access instruction of one warp.  All functions take the addresses of the lanes that access, the
warps that these lanes belong to (ascending), and the bytes per lane, a power of two of which every address is a
multiple.  They give totals over all requests.

Sources: CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory"; CUDA C++ Programming Guide, "Shared
Memory" of the compute capabilities 5.x and later (32 banks of 4 bytes; lanes that read the same word share it).
Accesses of 8 and 16 bytes are served by half and quarter warps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from texpr.emulator.rows import Array

SECTOR = 32
"""Bytes of global memory that are moved together."""
_SECTOR_BITS = 5

WARP = 32
_WORD = 4
_ROW = 128
"""Bytes that the banks of shared memory deliver in one wavefront."""

_ABSENT = np.iinfo(np.int64).max
"""Stands for a lane that takes no part; larger than any address."""


class GlobalRequests(NamedTuple):
    """`unique`: bytes, each counted once per request; `ideal`: the fewest sectors that hold as many."""

    requests: int
    unique: int
    sectors: int
    ideal: int


class SharedRequests(NamedTuple):
    """`ideal`: the wavefronts that the same accesses would take without bank conflicts."""

    requests: int
    wavefronts: int
    ideal: int


def count_sectors(warps: Array, address: Array, size: int) -> GlobalRequests:
    """Sectors that accesses of `size` bytes (at most 32) touch, request by request."""
    table, active = _by_warp(warps, address)
    ordered = _ascending(table)
    unique = _distinct(ordered, active) * size
    sectors = int(_distinct(ordered >> _SECTOR_BITS, active).sum())
    return GlobalRequests(len(table), int(unique.sum()), sectors, int((-(-unique // SECTOR)).sum()))


def count_partial_sectors(warps: Array, address: Array, reads: Array) -> GlobalRequests:
    """Like `count_sectors` for accesses of which each reads its own number of bytes, possibly none, in one sector."""
    some = np.flatnonzero(reads)
    pairs = np.stack([warps[some], np.asarray(address, np.int64)[some]])
    places, which = np.unique(pairs, axis=1, return_inverse=True)
    read = np.zeros(places.shape[1], np.int64)
    np.maximum.at(read, which.reshape(-1), reads[some].astype(np.int64))
    found, request = np.unique(places[0], return_inverse=True)
    unique = np.zeros(len(found), np.int64)
    np.add.at(unique, request, read)
    places[1] //= SECTOR
    sectors = np.unique(places, axis=1).shape[1]
    return GlobalRequests(len(found), int(unique.sum()), sectors, int((-(-unique // SECTOR)).sum()))


def count_wavefronts(lanes: Array, address: Array, size: int, *, one_by_one: bool) -> SharedRequests:
    """Wavefronts of accesses of `size` bytes (at most 16) by these lanes (ascending).

    `one_by_one`: lanes that hit the same word do not share it, as atomics do not.
    """
    served = WARP if size <= _WORD else _ROW // size  # lanes that are served together, and places side by side
    place = np.asarray(address, np.int64) // max(size, _WORD)
    group = lanes // served
    groups, group = np.unique(group, return_inverse=True)
    key = group * served + place % served
    if not one_by_one:
        key, place = _distinct_pairs(key, place)
    loads = np.bincount(key, minlength=len(groups) * served).reshape(-1, served)
    requests = len(np.unique(groups * served // WARP))
    return SharedRequests(requests, int(loads.max(axis=1).sum()), len(groups))


def _distinct_pairs(key: Array, place: Array) -> tuple[Array, Array]:
    order = np.lexsort((place, key))
    key, place = key[order], place[order]
    first = np.concatenate(([True], (key[1:] != key[:-1]) | (place[1:] != place[:-1])))
    return key[first], place[first]


def _by_warp(warps: Array, address: Array) -> tuple[Array, Array]:
    """Addresses as one row of 32 per warp, and how many lanes of each take part."""
    wanted = np.asarray(address, np.int64)
    if len(warps) % WARP == 0 and (warps[::WARP] == warps[WARP - 1 :: WARP]).all():
        return wanted.reshape(-1, WARP), np.full(len(warps) // WARP, WARP)
    changes = warps[1:] != warps[:-1]
    first = np.concatenate(([0], np.flatnonzero(changes) + 1))
    row = np.concatenate(([0], np.cumsum(changes)))
    active = np.diff(first, append=len(warps))
    table = np.full((len(first), WARP), _ABSENT)
    table[row, np.arange(len(warps)) - first[row]] = wanted
    return table, active


def _ascending(table: Array) -> Array:
    """Each row sorted; usually it is already."""
    return table if bool((table[:, 1:] >= table[:, :-1]).all()) else np.sort(table, axis=1)


def _distinct(ordered: Array, active: Array) -> Array:
    """Different values per row of a table with sorted rows, not counting those of absent lanes."""
    changes = (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
    return np.asarray(changes + (active == WARP))
