"""Memory spaces: what instructions need from global, shared and local memory.

`load` gives, for each accessing lane, a row of `count` unsigned integers of `width` bytes; `store` takes such
rows.  Vector accesses must be aligned to their whole size, so each one is a single row of a suitably shaped view
of the memory.  `lanes` lists the accessing lanes (None: all of the batch), `site` is the instruction to blame.
`ordering` says how the access takes part in the memory order; strong ones may race with others on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.faults import FaultKind
from texpr.emulator.ordering import PLAIN, RELAXED, Ordering
from texpr.emulator.ptx import Instruction, Variable
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch


@dataclass(frozen=True, slots=True)
class Cells:
    """Bytes `index` of `data`, for the accesses `chosen` (None: all of them)."""

    data: NDArray[np.uint8]
    index: Array
    chosen: Array | None


class Space(Protocol):
    """The interface of a memory space."""

    def declare_access(self, size: int, *, stores: bool) -> None:
        """Instructions announce the sizes of their accesses before anything runs."""
        ...

    def declare_ordering(self, ordering: Ordering) -> None:
        """Instructions also announce how their accesses are ordered."""
        ...

    def load(
        self,
        site: Instruction,
        lanes: Array | None,
        address: Array,
        width: int,
        count: int,
        *,
        ordering: Ordering = PLAIN,
    ) -> Array: ...

    def store(
        self, site: Instruction, lanes: Array | None, address: Array, rows: Array, *, ordering: Ordering = PLAIN
    ) -> None: ...

    def atomic_cells(
        self, site: Instruction, lanes: Array | None, address: Array, size: int, *, ordering: Ordering = RELAXED
    ) -> list[Cells]:
        """The memory that atomics of these lanes change."""
        ...


_INFINITY = {4: 0x7F80_0000, 8: 0x7FF0_0000_0000_0000}


def unequal(old: Array, new: Array) -> Array:
    """Where two arrays of unsigned integers hold different values. NaNs of f32 and f64 are one value: hardware makes
    them all alike, NumPy keeps whichever came first."""
    different = np.asarray(old != new)
    infinity = _INFINITY.get(new.itemsize)
    if infinity is not None and different.any():
        magnitude = np.array((1 << (8 * new.itemsize - 1)) - 1, new.dtype)  # all bits but the sign
        different &= ~(((old & magnitude) > infinity) & ((new & magnitude) > infinity))
    return different


_FLOATS: dict[int, tuple[tuple[str, int], ...]] = {2: (("f16", 2), ("bf16", 2)), 4: (("f32", 4),), 8: (("f64", 4),)}
"""By bytes: floating-point types, and how many last places count as nearly equal."""


def difference(one: Array, other: Array) -> tuple[str, ...]:
    """Notes on two rows of unsigned integers that threads store to one place: the values that differ first, and what
    it means if, as floating-point numbers, they differ in the last places only.
    """
    first = int(np.flatnonzero(one != other)[0])
    a, b = int(one[first]), int(other[first])
    width = one.itemsize
    notes = [f"the values are 0x{a:0{2 * width}x} and 0x{b:0{2 * width}x}"]
    near = [name for name, places in _FLOATS.get(width, ()) if a and b and abs(a - b) <= places]
    if near:
        notes.append(
            f"as {' or '.join(near)} they differ in the last places: threads that should hold one value have computed "
            "it in different orders, or contracted it differently to fma, and which one stays depends on chance"
        )
    return tuple(notes)


def check_alignment(
    batch: Batch, site: Instruction, lanes: Array | None, address: Array, size: int, space: str
) -> None:
    """Fault if an address is not a multiple of `size` (a power of two)."""
    low_bits = size - 1
    if low_bits and int(np.bitwise_or.reduce(address)) & low_bits:
        position = int(np.flatnonzero(address & address.dtype.type(low_bits))[0])
        message = f"a {size}-byte {space} access at 0x{int(address[position]):x}, which is not a multiple of {size}"
        raise batch.fault(FaultKind.MISALIGNED, message, site, batch.lane_at(lanes, position))


def lay_out(variables: Sequence[Variable], start: int) -> tuple[dict[str, int], int]:
    """Addresses of variables one after the other from `start`, and the first address behind them."""
    symbols: dict[str, int] = {}
    end = start
    for variable in variables:
        symbols[variable.name] = -(-end // variable.align) * variable.align
        end = symbols[variable.name] + variable.size
    return symbols, end


class LocalSpace:
    """Per-thread memory for `.local` variables."""

    def __init__(self, batch: Batch, variables: Sequence[Variable]) -> None:
        self.batch = batch
        self.symbols, self.limit = lay_out(variables, 0)
        self.size = -(-self.limit // 32) * 32
        self.data = np.zeros(self.size * batch.lanes, np.uint8)
        self.window = np.arange(batch.lanes) * self.size

    def clear(self) -> None:
        self.data.fill(0)

    def declare_access(self, size: int, *, stores: bool) -> None:
        """Nothing to do: local memory is private to a thread."""

    def declare_ordering(self, ordering: Ordering) -> None:
        """Nothing to do."""

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
        index = self._locate(site, lanes, address, width * count)
        return self._rows(width, count).take(index // (width * count), axis=0)

    def store(
        self, site: Instruction, lanes: Array | None, address: Array, rows: Array, *, ordering: Ordering = PLAIN
    ) -> None:
        size = rows.itemsize * rows.shape[1]
        index = self._locate(site, lanes, address, size)
        cells, row = self._rows(rows.itemsize, rows.shape[1]), index // size
        if self.batch.observer is not None:
            self.batch.observer.store(cells[row], rows)
        cells[row] = rows

    def atomic_cells(
        self, site: Instruction, lanes: Array | None, address: Array, size: int, *, ordering: Ordering = RELAXED
    ) -> list[Cells]:
        return [Cells(self.data, self._locate(site, lanes, address, size), None)]

    def _rows(self, width: int, count: int) -> Array:
        return self.data.view(f"u{width}").reshape(-1, count)

    def _locate(self, site: Instruction, lanes: Array | None, address: Array, size: int) -> Array:
        check_alignment(self.batch, site, lanes, address, size, "local")
        where = address.astype(np.int64)
        outside = (where < 0) | (where + size > self.limit)
        if outside.any():
            position = int(np.flatnonzero(outside)[0])
            message = f"{size} bytes at local offset {int(where[position])}; the thread has {self.limit} bytes"
            lane = self.batch.lane_at(lanes, position)
            raise self.batch.fault(FaultKind.OUT_OF_BOUNDS, message, site, lane, buffer="local memory")
        where += self.window if lanes is None else self.window[lanes]
        return where
