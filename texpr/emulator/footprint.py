"""What some programs of a launch did to global memory: which bytes they read and wrote, and what they left there.

Workers run different programs of one launch on copies of the memory (`workers.py`).  If no worker wrote what another
one read or wrote, each of them did exactly what it would have done in one process, one program after the other; then
`apply` makes their writes real.  If `collide` finds otherwise, nothing has happened yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.memory import Allocation, GlobalMemory

Array = NDArray[Any]
_TOUCHED = 0xFF


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes of an allocation from `start` on: values, and which of them were ever written (as packed bits)."""

    start: int
    data: NDArray[np.uint8]
    written: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Changes:
    """The footprint of one worker by the address of the allocation; `reads` and `writes` have one bit per byte."""

    reads: dict[int, NDArray[np.uint8]]
    writes: dict[int, NDArray[np.uint8]]
    contents: dict[int, Content]


@dataclass(slots=True)
class _Bytes:
    """A flag per byte of one allocation, seen in the widths of accesses."""

    flags: NDArray[np.uint8]
    views: dict[int, Array] = field(default_factory=dict)

    def touch(self, index: Array, size: int) -> None:
        """Set the flags of aligned accesses of `size` bytes at `index`."""
        if size not in self.views:
            width = min(size, 8)
            self.views[size] = self.flags.view(f"u{width}").reshape(-1, size // width)
        view = self.views[size]
        view[index // size] = np.iinfo(view.dtype).max


class Footprint:
    """Collects which bytes are read and written. Allocations that are read-only need not be watched for reads."""

    def __init__(self) -> None:
        self._reads: dict[int, _Bytes] = {}
        self._writes: dict[int, _Bytes] = {}

    def note(self, allocation: Allocation, index: Array, size: int, *, stores: bool) -> None:
        """Aligned accesses of `size` bytes at the offsets `index`; atomics are stores."""
        if allocation.read_only:
            return
        kept = self._writes if stores else self._reads
        if allocation.address not in kept:
            kept[allocation.address] = _Bytes(np.zeros(len(allocation.data), np.uint8))
        kept[allocation.address].touch(index, size)

    def changes(self, memory: GlobalMemory) -> Changes:
        """What is to be told to another process."""
        contents: dict[int, Content] = {}
        for address, touched in self._writes.items():
            allocation = memory.at(address)
            assert allocation is not None
            start = int(touched.flags.argmax())
            end = len(touched.flags) - int(touched.flags[::-1].argmax())
            written = np.packbits(allocation.written[start:end] != 0)
            contents[address] = Content(start, allocation.data[start:end], written)
        return Changes(_packed(self._reads), _packed(self._writes), contents)


def _packed(kept: dict[int, _Bytes]) -> dict[int, NDArray[np.uint8]]:
    return {address: np.packbits(touched.flags != 0) for address, touched in kept.items()}


def collide(parts: Sequence[Changes]) -> bool:
    """Whether one of them wrote what another one read or wrote."""
    read: dict[int, Array] = {}
    written: dict[int, Array] = {}
    for part in parts:
        for address, bits in part.writes.items():
            if _overlap(bits, read.get(address)) or _overlap(bits, written.get(address)):
                return True
        if any(_overlap(bits, written.get(address)) for address, bits in part.reads.items()):
            return True
        for known, added in ((read, part.reads), (written, part.writes)):
            for address, bits in added.items():
                known[address] = known[address] | bits if address in known else bits
    return False


def _overlap(bits: Array, others: Array | None) -> bool:
    return others is not None and bool((bits & others).any())


def apply(memory: GlobalMemory, changes: Changes) -> None:
    """Do to `memory` what a worker did to its copy."""
    for address, content in changes.contents.items():
        allocation = memory.at(address)
        assert allocation is not None
        size = len(content.data)
        here = slice(content.start, content.start + size)
        wrote = np.unpackbits(changes.writes[address], count=len(allocation.data))[here].view(np.bool_)
        np.copyto(allocation.data[here], content.data, where=wrote)
        flags = np.unpackbits(content.written, count=size) * np.uint8(_TOUCHED)
        np.copyto(allocation.written[here], flags, where=wrote)
