"""PTX scalar and packed types, and how a register row is seen through each of them.

A register file row holds one value per thread (a *lane*).  A type says how many bytes of the register it
covers and which NumPy dtype reads them.  Packed types (f16x2, e4m3x2, ...) hold several elements per lane:
their view of a row simply has that many times more elements, in lane order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Kind(Enum):
    """What the bits of a value mean."""

    BITS = "bits"
    UNSIGNED = "unsigned"
    SIGNED = "signed"
    FLOAT = "float"
    ENCODED = "encoded float"
    """A float format NumPy has no dtype for (bf16, tf32, fp8): seen as raw unsigned integers."""
    PREDICATE = "predicate"


@dataclass(frozen=True, slots=True)
class ScalarType:
    """One PTX type: `bytes` of a register per lane, seen as `count` elements of `dtype`."""

    name: str
    kind: Kind
    bytes: int
    dtype: np.dtype[np.generic]
    count: int = 1

    @property
    def bits(self) -> int:
        return 8 * self.bytes

    @property
    def integer_limits(self) -> tuple[int, int]:
        """Smallest and largest value of an integer type."""
        bits = 8 * self.dtype.itemsize
        return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if self.dtype.kind == "i" else (0, (1 << bits) - 1)

    def view(self, row: NDArray[np.generic]) -> NDArray[np.generic]:
        """This type's view of a register row; a register wider than the type shows its low bytes."""
        if row.dtype == np.bool_:
            return row
        seen = row.view(self.dtype)
        elements = row.itemsize // self.dtype.itemsize
        if elements == self.count:
            return seen
        if self.count != 1:
            raise ValueError(f"a .{self.name} value does not fit a {8 * row.itemsize}-bit register")
        return seen[::elements]


def _scalar(name: str, kind: Kind, dtype: type[np.generic], count: int = 1) -> ScalarType:
    spec = np.dtype(dtype)
    return ScalarType(name, kind, spec.itemsize * count, spec, count)


_ALL = (
    _scalar("pred", Kind.PREDICATE, np.bool_),
    _scalar("b8", Kind.BITS, np.uint8),
    _scalar("b16", Kind.BITS, np.uint16),
    _scalar("b32", Kind.BITS, np.uint32),
    _scalar("b64", Kind.BITS, np.uint64),
    _scalar("u8", Kind.UNSIGNED, np.uint8),
    _scalar("u16", Kind.UNSIGNED, np.uint16),
    _scalar("u32", Kind.UNSIGNED, np.uint32),
    _scalar("u64", Kind.UNSIGNED, np.uint64),
    _scalar("s8", Kind.SIGNED, np.int8),
    _scalar("s16", Kind.SIGNED, np.int16),
    _scalar("s32", Kind.SIGNED, np.int32),
    _scalar("s64", Kind.SIGNED, np.int64),
    _scalar("f16", Kind.FLOAT, np.float16),
    _scalar("f32", Kind.FLOAT, np.float32),
    _scalar("f64", Kind.FLOAT, np.float64),
    _scalar("bf16", Kind.ENCODED, np.uint16),
    _scalar("tf32", Kind.ENCODED, np.uint32),
    _scalar("u16x2", Kind.UNSIGNED, np.uint16, 2),
    _scalar("s16x2", Kind.SIGNED, np.int16, 2),
    _scalar("f16x2", Kind.FLOAT, np.float16, 2),
    _scalar("bf16x2", Kind.ENCODED, np.uint16, 2),
    _scalar("f32x2", Kind.FLOAT, np.float32, 2),
    _scalar("e4m3x2", Kind.ENCODED, np.uint8, 2),
    _scalar("e5m2x2", Kind.ENCODED, np.uint8, 2),
    _scalar("u8x4", Kind.UNSIGNED, np.uint8, 4),
    _scalar("s8x4", Kind.SIGNED, np.int8, 4),
)

TYPES: dict[str, ScalarType] = {scalar.name: scalar for scalar in _ALL}

PREDICATE = TYPES["pred"]

UNSIGNED_OF_SIZE: dict[int, ScalarType] = {1: TYPES["u8"], 2: TYPES["u16"], 4: TYPES["u32"], 8: TYPES["u64"]}
SIGNED_OF_SIZE: dict[int, ScalarType] = {1: TYPES["s8"], 2: TYPES["s16"], 4: TYPES["s32"], 8: TYPES["s64"]}
