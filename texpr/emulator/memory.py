"""Global memory: named allocations with provenance.

Every allocation is its own array at its own address; addresses are never reused and neighbours lie at least
`GUARD` bytes apart.  So an access is legal exactly if it lies inside one live allocation, and what a wild or
stale pointer meant can be told from the address alone.  Each byte knows whether it was ever written.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.layouts import Layout
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.footprint import Footprint

FIRST_ADDRESS = 0x2000_0000_0000
"""Where no program has memory of its own, so that addresses of host and device cannot be mistaken for each other
(``libcuda/driver.h`` has it too)."""
GUARD = 1 << 16
POISON = 0xFF
WIDEST_ACCESS = 32
_WRITTEN = 0xFF


@dataclass(slots=True)
class Allocation:
    """`size` bytes at `address`; `data` and `written` are padded so that they can be viewed at any width.

    `written` holds 0xFF for every byte that host or device has written.  `complete` is a summary that may lag:
    true means that every byte is known to be written.  `layout` is the tensor in it, if that is known.
    """

    name: str
    address: int
    size: int
    read_only: bool = False
    complete: bool = False
    layout: Layout | None = None
    data: NDArray[np.uint8] = field(init=False, repr=False)
    written: NDArray[np.uint8] = field(init=False, repr=False)
    _views: dict[tuple[int, int], Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        padded = -(-max(self.size, 1) // WIDEST_ACCESS) * WIDEST_ACCESS
        self.data = np.full(padded, POISON, np.uint8)
        self.written = np.zeros(padded, np.uint8)

    @property
    def end(self) -> int:
        return self.address + self.size

    def rows(self, width: int, count: int) -> Array:
        """The content as rows of `count` unsigned integers of `width` bytes: one row per aligned vector access."""
        return self._view(self.data, width, count)

    def written_rows(self, width: int, count: int) -> Array:
        """The written flags in the shape of `rows`: all ones where every byte is written."""
        return self._view(self.written, -width, count)

    def _view(self, source: NDArray[np.uint8], width: int, count: int) -> Array:
        key = (width, count)
        if key not in self._views:
            self._views[key] = source.view(f"u{abs(width)}").reshape(-1, count)
        return self._views[key]

    def place(self, offset: int) -> str:
        """Byte `offset` in words: the buffer, and the element if the tensor in it is known."""
        element = self.layout.describe(offset, self.size) if self.layout is not None else ""
        return f"byte {offset} of buffer {self.name!r}" + (f" ({element})" if element else "")

    def summarise(self) -> None:
        """Bring `complete` up to date."""
        if not self.complete:
            self.complete = bool((self.written[: self.size] == _WRITTEN).all())

    def mark_written(self, start: int, size: int) -> None:
        self.written[start : start + size] = _WRITTEN
        if start == 0 and size == self.size:
            self.complete = True


@dataclass(frozen=True, slots=True)
class Part:
    """The accesses of one instruction that fall into one allocation.

    `index` are byte offsets into it; `chosen` are the positions of these accesses (None: all of them).
    """

    allocation: Allocation
    index: Array
    chosen: Array | None


@dataclass(frozen=True, slots=True)
class _Extent:
    """Where a buffer is or was: what messages about bad addresses refer to."""

    name: str
    address: int
    size: int
    freed: bool = False
    layout: Layout | None = None

    def distance(self, address: int) -> int:
        """Bytes between an address and this buffer."""
        return max(self.address - address, address - (self.address + self.size) + 1, 0)


class BadAddress(Exception):
    """The access at `position` is not inside any live allocation."""

    def __init__(self, position: int, address: int, message: str, buffer: str | None) -> None:
        super().__init__(message)
        self.position = position
        self.address = address
        self.message = message
        self.buffer = buffer


class GlobalMemory:
    """All allocations of a device, live and freed."""

    def __init__(self) -> None:
        self._next = FIRST_ADDRESS
        self._bases: list[int] = []
        self._live: list[Allocation] = []
        self._freed: list[_Extent] = []
        self.footprint: Footprint | None = None
        """Collects what kernels read and write, in a worker process."""

    def clear(self) -> None:
        """Forget every allocation, and give out the same addresses again: a new life, in which no old pointer is
        used."""
        self._next = FIRST_ADDRESS
        self._bases.clear()
        self._live.clear()
        self._freed.clear()

    def allocate(self, size: int, name: str, align: int = 256) -> Allocation:
        """Reserve `size` bytes; the address is a multiple of `align` (a power of two, at least 256 is used)."""
        if size < 0 or align <= 0 or align & (align - 1):
            raise ValueError(f"cannot allocate {size} bytes aligned to {align}")
        align = max(align, 256)
        address = -(-self._next // align) * align
        self._next = address + size + GUARD
        allocation = Allocation(name, address, size)
        self._bases.append(address)
        self._live.append(allocation)
        return allocation

    def free(self, address: int) -> None:
        """Release the allocation that starts at `address`; its content is dropped, its name remembered."""
        allocation = self.at(address)
        if allocation is None or allocation.address != address:
            raise ValueError(f"0x{address:x} is not the start of a live allocation")
        position = self._bases.index(address)
        del self._bases[position], self._live[position]
        self._freed.append(_Extent(allocation.name, address, allocation.size, freed=True))

    def live(self) -> tuple[Allocation, ...]:
        return tuple(self._live)

    def at(self, address: int) -> Allocation | None:
        """The live allocation whose bytes (or whose start, if it is empty) include `address`."""
        position = bisect_right(self._bases, address) - 1
        if position < 0:
            return None
        allocation = self._live[position]
        return allocation if address < max(allocation.end, allocation.address + 1) else None

    def span(self, address: int, size: int) -> tuple[Allocation, int]:
        """The allocation that holds all of `size` bytes at `address`, and the offset into it (for the host)."""
        allocation = self.at(address)
        if allocation is None or address + size > allocation.end:
            raise ValueError(self.describe(address, size)[0])
        return allocation, address - allocation.address

    def locate(self, address: Array, size: int) -> list[Part]:
        """Split accesses of `size` bytes by allocation; raises `BadAddress` for the first that is outside."""
        low = int(address.min())
        first = self.at(low)
        if first is not None and int(address.max()) + size <= first.end:
            return [Part(first, (address - np.uint64(first.address)).view(np.int64), None)]
        return self._split(address, size)

    def _split(self, address: Array, size: int) -> list[Part]:
        bases = np.array(self._bases, np.uint64)
        owner = np.searchsorted(bases, address, side="right") - 1
        ends = np.array([allocation.end for allocation in self._live], np.uint64)
        inside = owner >= 0
        inside[inside] = address[inside] + np.uint64(size) <= ends[owner[inside]]
        if not inside.all():
            position = int(np.flatnonzero(~inside)[0])
            message, buffer = self.describe(int(address[position]), size)
            raise BadAddress(position, int(address[position]), message, buffer)
        parts: list[Part] = []
        for number in np.unique(owner):
            chosen = np.flatnonzero(owner == number)
            allocation = self._live[int(number)]
            index = (address[chosen] - np.uint64(allocation.address)).view(np.int64)
            parts.append(Part(allocation, index, chosen))
        return parts

    def describe(self, address: int, size: int) -> tuple[str, str | None]:
        """What `size` bytes at a bad address are nearest to: a sentence, and the buffer's name."""
        extents = [_Extent(a.name, a.address, a.size, layout=a.layout) for a in self._live]
        extents += self._freed
        if not extents:
            return f"0x{address:x}: nothing is allocated", None
        nearest = min(extents, key=lambda extent: extent.distance(address))
        if nearest.distance(address) > GUARD:
            return f"0x{address:x} is not near any buffer", None
        what = f"buffer {nearest.name!r} ({nearest.size} bytes{', freed' if nearest.freed else ''})"
        offset = address - nearest.address
        if offset < 0:
            where = f"{-offset} bytes before the start of {what}"
        elif offset >= nearest.size:
            where = f"{offset - nearest.size} bytes past the end of {what}"
        elif nearest.freed:
            where = f"byte {offset} of {what}"
        else:
            where = f"the last {offset + size - nearest.size} of them past the end of {what}"
        inside = max(offset, nearest.size) if 0 <= offset < nearest.size and not nearest.freed else offset
        element = nearest.layout.describe(inside, nearest.size) if nearest.layout is not None else ""
        return f"{size} bytes at 0x{address:x}: {where}" + (f"; {element}" if element else ""), nearest.name
