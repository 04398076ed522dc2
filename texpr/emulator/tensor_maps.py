"""Tensor maps: what a tensor copy knows about a tensor in global memory.

The 128 bytes of a real `CUtensorMap` are opaque: NVIDIA documents how to make them, not what they contain.  So the
stand-in driver has a layout of its own, written by `cuTensorMapEncodeTiled` here and in `libcuda/tensormap.c`, and
changed by `tensormap.replace`.  Little endian:

    byte  0  u64 global address                byte 74  u8[5] element strides
    byte  8  u32[5] dimensions - 1             byte 79  u8 out-of-bounds fill
    byte 28  u8 data type, rank - 1,           byte 80  u8 L2 promotion
             swizzle, interleave               byte 124 u32 MAGIC: the map is one of ours
    byte 32  u64[4] strides in bytes
    byte 64  u16[5] box

Dimensions go from the innermost outwards; the innermost has stride 1.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

TENSOR_MAP_BYTES = 128
MAGIC = 0x4D545854
_FIELDS = struct.Struct("<Q5I4B4Q5H5B2B")
MAGIC_AT = 124

ELEMENTS: tuple[tuple[str, int], ...] = (
    ("u8", 1), ("u16", 2), ("u32", 4), ("s32", 4), ("u64", 8), ("s64", 8), ("f16", 2), ("f32", 4), ("f64", 8),
    ("bf16", 2), ("f32", 4), ("tf32", 4), ("tf32", 4),
)  # fmt: skip
"""By CUtensorMapDataType: the PTX type and its size in bytes (flush-to-zero variants are like the others)."""

SWIZZLE_BYTES = (0, 32, 64, 128)
"""By CUtensorMapSwizzle: the width of the pattern."""

_LARGEST_BOX = 256
_LARGEST_STRIDE = 1 << 40


class TensorMapError(ValueError):
    """A tensor map that the driver would refuse, or bytes that are none."""


@dataclass(frozen=True, slots=True)
class TensorMap:
    """A tiled tensor map; sequences have one entry per dimension, innermost first. `strides` are bytes of the outer
    dimensions; `element_type` and `swizzle` are the driver's enumerators.
    """

    element_type: int
    address: int
    dimensions: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...]
    swizzle: int = 0
    interleave: int = 0
    fill: int = 0
    promotion: int = 0

    @property
    def rank(self) -> int:
        return len(self.dimensions)

    @property
    def type_name(self) -> str:
        return ELEMENTS[self.element_type][0]

    @property
    def element_bytes(self) -> int:
        return ELEMENTS[self.element_type][1]

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that a copy moves in each dimension."""
        return tuple(-(-extent // step) for extent, step in zip(self.box, self.steps, strict=True))

    @property
    def steps(self) -> tuple[int, ...]:
        """The element strides that count: that of the innermost dimension is ignored."""
        return (1, *self.element_strides[1:])

    @property
    def box_bytes(self) -> int:
        """Bytes of shared memory that one copy fills, and that its mbarrier counts."""
        return int(np.prod(self.counts)) * self.element_bytes

    def problem(self) -> str:
        """What `cuTensorMapEncodeTiled` has against this map ('' if nothing)."""
        if not 1 <= self.rank <= 5:
            return f"rank {self.rank} (1 to 5)"
        if not 0 <= self.element_type < len(ELEMENTS):
            return f"data type {self.element_type} is not emulated"
        if self.address % 16:
            return f"the address 0x{self.address:x} is not a multiple of 16"
        if any(not 1 <= extent <= 1 << 32 for extent in self.dimensions):
            return f"dimensions {self.dimensions} (each 1 to 2**32)"
        if any(stride % 16 or not 0 <= stride < _LARGEST_STRIDE for stride in self.strides):
            return f"strides {self.strides} are not multiples of 16 below 2**40"
        if any(not 1 <= extent <= _LARGEST_BOX for extent in self.box):
            return f"box {self.box} (each 1 to {_LARGEST_BOX})"
        if any(not 1 <= step <= 8 for step in self.element_strides):
            return f"element strides {self.element_strides} (each 1 to 8)"
        if self.interleave:
            return "interleaved layouts are not emulated"
        if not 0 <= self.swizzle < len(SWIZZLE_BYTES):
            return f"swizzle {self.swizzle} is not emulated"
        if not 0 <= self.promotion < 4:
            return f"L2 promotion {self.promotion}"
        inner = self.counts[0] * self.element_bytes
        if inner % 16:
            return f"the inner extent of the box has {inner} bytes, not a multiple of 16"
        if self.swizzle and inner > SWIZZLE_BYTES[self.swizzle]:
            return f"the inner extent of the box has {inner} bytes, the swizzle {SWIZZLE_BYTES[self.swizzle]}"
        if self.fill not in (0, 1) or (self.fill and "f" not in self.type_name):
            return f"out-of-bounds fill {self.fill} for .{self.type_name}"
        return ""

    def encode(self) -> bytes:
        """The 128 bytes."""
        fill = 5 - self.rank
        fields = _FIELDS.pack(
            self.address,
            *(extent - 1 for extent in self.dimensions), *[0] * fill,
            self.element_type, self.rank - 1, self.swizzle, self.interleave,
            *self.strides, *[0] * fill,
            *self.box, *[1] * fill,
            *self.element_strides, *[1] * fill,
            self.fill, self.promotion,
        )  # fmt: skip
        return fields.ljust(MAGIC_AT, b"\0") + struct.pack("<I", MAGIC)


def decode(data: bytes) -> TensorMap:
    """The tensor map in 128 bytes; raises TensorMapError if they are not one."""
    if len(data) != TENSOR_MAP_BYTES or struct.unpack_from("<I", data, MAGIC_AT)[0] != MAGIC:
        raise TensorMapError("these bytes are not a tensor map that the stand-in driver made")
    values = _FIELDS.unpack_from(data)
    element_type, last, swizzle, interleave = values[6:10]
    rank = min(int(last), 4) + 1
    found = TensorMap(
        element_type=element_type,
        address=values[0],
        dimensions=tuple(value + 1 for value in values[1 : 1 + rank]),
        strides=tuple(values[10 : 10 + rank - 1]),
        box=tuple(values[14 : 14 + rank]),
        element_strides=tuple(values[19 : 19 + rank]),
        swizzle=swizzle,
        interleave=interleave,
        fill=values[24],
        promotion=values[25],
    )
    if problem := found.problem():
        raise TensorMapError(problem)
    return found


def encode_tiled(
    element_type: int,
    address: int,
    dimensions: Sequence[int],
    strides: Sequence[int],
    box: Sequence[int],
    *,
    element_strides: Sequence[int] | None = None,
    swizzle: int = 0,
    interleave: int = 0,
    fill: int = 0,
    promotion: int = 0,
) -> bytes:
    """`cuTensorMapEncodeTiled`: innermost dimension first, strides in bytes of all but the innermost.

    Raises TensorMapError where the driver returns CUDA_ERROR_INVALID_VALUE.
    """
    rank = len(dimensions)
    steps = [1] * rank if element_strides is None else element_strides
    if not 1 <= rank <= 5 or len(strides) < rank - 1 or len(box) != rank or len(steps) != rank:
        raise TensorMapError(f"rank {rank} with {len(strides)} strides and a box of {len(box)} extents")
    made = TensorMap(
        element_type, address, tuple(dimensions), tuple(strides[: rank - 1]), tuple(box), tuple(steps), swizzle,
        interleave, fill, promotion,
    )  # fmt: skip
    if problem := made.problem():
        raise TensorMapError(problem)
    return made.encode()


@dataclass(frozen=True, slots=True)
class Pieces:
    """A box cut into pieces of `size` bytes: where each lies in shared memory (as an offset from address 0), where in
    global memory, and whether it is inside of the tensor.
    """

    size: int
    shared: NDArray[np.int64]
    address: NDArray[np.uint64]
    inside: NDArray[np.bool_]


def cut_box(tensor: TensorMap, coordinates: Sequence[int], base: int) -> Pieces:
    """The pieces of the box at these coordinates (innermost first), stored at shared address `base`.

    Swizzles exclusive-or bits 4 to 6 of the shared address with bits 7 to 9 (128 bytes; fewer bits for 64 and 32).
    """
    unit = tensor.element_bytes
    size = gcd(16, coordinates[0] * unit, tensor.dimensions[0] * unit, tensor.box[0] * unit)
    per_piece = size // unit
    inside = np.ones((), np.bool_)
    offset = np.zeros((), np.int64)
    for number in reversed(range(tensor.rank)):
        step = tensor.steps[number] if number else per_piece
        places = coordinates[number] + np.arange(0, tensor.box[number], step, dtype=np.int64)
        stride = tensor.strides[number - 1] if number else unit
        inside = inside[..., None] & (places >= 0) & (places < tensor.dimensions[number])
        offset = offset[..., None] + places * stride
    linear = base + np.arange(inside.size, dtype=np.int64) * size
    bits = (0, 1, 3, 7)[tensor.swizzle]
    shared = linear ^ (((linear >> 7) & bits) << 4)
    return Pieces(size, shared, (offset.reshape(-1) + tensor.address).view(np.uint64), inside.reshape(-1))
