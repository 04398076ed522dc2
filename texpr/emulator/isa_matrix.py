"""Tensor-core instructions: ldmatrix, stmatrix and mma.sync.

All fragment layouts follow one rule.  Lane l of a warp is (group g = l / 4, place t = l % 4).  With e elements
per 32-bit register (1 for tf32 and f64):

    A, M x K:  register r holds row g + 8 (r % h), columns 4e (r / h) + t e ...      where h = M / 8
    B, K x 8:  register r holds column g, rows 4e r + t e ...
    C, M x 8:  element j is row g + 8 (j / 2), column 2t + j % 2                      (f16: two per register)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from texpr.emulator.batch import WARP, Batch
from texpr.emulator.bind import per_lane, store
from texpr.emulator.effects import CROSS_LANE, Effects, Memory, Orders
from texpr.emulator.floats import FORMATS
from texpr.emulator.isa_memory import address_source, vector_items
from texpr.emulator.isa_warp import require_whole_warps
from texpr.emulator.ptx import Instruction, Operand, Vector
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.types import TYPES

_GROUPS, _PLACES = 8, 4

# ldmatrix, stmatrix -----------------------------------------------------------------------------------------


def _row_lanes(batch: Batch, mask: Mask, matrices: int) -> Array:
    """The lanes that supply row addresses: the first 8 per matrix of each executing warp."""
    lanes = np.arange(batch.lanes) if mask is None else np.flatnonzero(mask)
    return lanes.reshape(-1, WARP)[:, : 8 * matrices].reshape(-1)


def _load_matrix(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Each 8 x 8 matrix of 16-bit elements: lane l receives elements 2(l % 4), 2(l % 4) + 1 of row l / 4."""
    count = int(modifiers["count"][1:])
    transposed = "trans" in modifiers
    items = vector_items(instruction.operands[0], count)
    destinations = [batch.registers.destination(item, TYPES["b32"]) for item in items]
    addresses = address_source(batch, instruction.operands[1])
    batch.shared_space.declare_access(16, stores=False)

    def run(mask: Mask) -> None:
        require_whole_warps(batch, instruction, mask)
        lanes = _row_lanes(batch, mask, count)
        rows = batch.shared_space.load(instruction, lanes, addresses(lanes), 4, 4, collective=True)
        matrices = rows.reshape(-1, count, 8, 4)
        if transposed:
            swapped = matrices.view(np.uint16).transpose(0, 1, 3, 2)
            matrices = np.ascontiguousarray(swapped).view(np.uint32)
        for number, destination in enumerate(destinations):
            if destination is not None:
                values = matrices[:, number].reshape(-1)
                if mask is None:
                    destination[...] = values
                else:
                    destination[mask] = values

    return run


def _store_matrix(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """The inverse of ldmatrix."""
    count = int(modifiers["count"][1:])
    transposed = "trans" in modifiers
    items = vector_items(instruction.operands[1], count)
    sources = [per_lane(batch, item, TYPES["b32"]) for item in items]
    addresses = address_source(batch, instruction.operands[0])
    batch.shared_space.declare_access(16, stores=True)

    def run(mask: Mask) -> None:
        require_whole_warps(batch, instruction, mask)
        lanes = _row_lanes(batch, mask, count)
        chosen = [values if mask is None else values[mask] for values in sources]
        matrices = np.stack([values.reshape(-1, 8, 4) for values in chosen], axis=1)
        if transposed:
            swapped = matrices.view(np.uint16).transpose(0, 1, 3, 2)
            matrices = np.ascontiguousarray(swapped).view(np.uint32)
        batch.shared_space.store(instruction, lanes, addresses(lanes), matrices.reshape(-1, 4))

    return run


def _load_bytes(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Each 16 x 16 matrix of bytes, turned, to two registers per lane: byte e of register r of lane l is the element
    in row 4 (l % 4) + 2 r + e % 2, column l / 4 + 8 (e / 2) of what lies in memory.
    """
    count = int(modifiers["count"][1:])
    items = vector_items(instruction.operands[0], 2 * count)
    destinations = [batch.registers.destination(item, TYPES["b32"]) for item in items]
    addresses = address_source(batch, instruction.operands[1])
    batch.shared_space.declare_access(16, stores=False)

    def run(mask: Mask) -> None:
        require_whole_warps(batch, instruction, mask)
        lanes = _row_lanes(batch, mask, 2 * count)
        rows = batch.shared_space.load(instruction, lanes, addresses(lanes), 4, 4, collective=True)
        # [warp, matrix, place, register, low bit of e, high bit of e, group]
        parts = rows.view(np.uint8).reshape(-1, count, _PLACES, 2, 2, 2, _GROUPS)
        ordered = np.ascontiguousarray(parts.transpose(1, 3, 0, 6, 2, 5, 4)).reshape(2 * count, -1).view(np.uint32)
        for destination, values in zip(destinations, ordered, strict=True):
            if destination is not None:
                store(destination, values if mask is None else _spread(values, mask), mask)

    return run


def _spread(values: Array, mask: Array) -> Array:
    """Values of the executing lanes, at the places of all lanes."""
    result = np.zeros(len(mask), values.dtype)
    result[mask] = values
    return result


def _store_bytes(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Matrices of 8 rows of 16 bytes, one from each register: byte e of lane l goes to row 2 (l % 4) + e % 2, column
    l / 4 + 8 (e / 2).
    """
    count = int(modifiers["count"][1:])
    items = vector_items(instruction.operands[1], count)
    sources = [per_lane(batch, item, TYPES["b32"]) for item in items]
    addresses = address_source(batch, instruction.operands[0])
    batch.shared_space.declare_access(16, stores=True)

    def run(mask: Mask) -> None:
        require_whole_warps(batch, instruction, mask)
        lanes = _row_lanes(batch, mask, count)
        chosen = np.stack([values if mask is None else values[mask] for values in sources])
        # [matrix, warp, group, place, high bit of e, low bit of e]
        parts = chosen.view(np.uint8).reshape(count, -1, _GROUPS, _PLACES, 2, 2)
        rows = np.ascontiguousarray(parts.transpose(1, 0, 3, 5, 4, 2)).reshape(-1, 16).view(np.uint32)
        batch.shared_space.store(instruction, lanes, addresses(lanes), rows)

    return run


def _turn_matrix(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """movmatrix: the transpose of an 8 x 8 matrix of 16-bit elements that is spread as by ldmatrix."""
    destination = batch.registers.destination(instruction.operands[0], TYPES["b32"])
    given = per_lane(batch, instruction.operands[1], TYPES["b32"])

    def run(mask: Mask) -> None:
        require_whole_warps(batch, instruction, mask)
        turned = given.view(np.uint16).reshape(-1, 8, 8).transpose(0, 2, 1)
        if destination is not None:
            store(destination, np.ascontiguousarray(turned).reshape(-1).view(np.uint32), mask)

    return run


# mma.sync ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fragment:
    """How the registers of an A or B operand make a matrix: `halves` groups of 8 rows (A) or 1 (B)."""

    registers: tuple[Array, ...]
    element: str
    halves: int

    def matrix(self) -> Array:
        """[warps, 8 * halves, K] values, with K contiguous; integers and small floats as float32."""
        stacked = np.stack(self.registers)
        storage = ELEMENTS[self.element]
        parts = len(self.registers) // self.halves
        each = stacked.itemsize // storage.itemsize
        elements = stacked.view(storage).reshape(parts, self.halves, -1, _GROUPS, _PLACES, each)
        values = decode_elements(elements, self.element)
        ordered = values.transpose(2, 1, 3, 0, 4, 5)
        return ordered.reshape(ordered.shape[0], 8 * self.halves, -1)


ELEMENTS: dict[str, np.dtype[Any]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),
    "tf32": np.dtype(np.uint32),
    "e4m3": np.dtype(np.uint8),
    "e5m2": np.dtype(np.uint8),
    "s8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "f64": np.dtype(np.float64),
}


_HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""The value of every f16."""


def decode_elements(elements: Array, name: str) -> Array:
    if name == "f64":
        return elements
    if name == "f16":
        # A table: several times as fast as NumPy's conversion.
        return _HALVES.take(elements.view(np.uint16))
    if name in ("s8", "u8"):
        return elements.astype(np.float32)
    return FORMATS[name].decode(elements)


def _fragment(batch: Batch, operand: Operand, element: str, halves: int, count: int) -> Fragment:
    scalar = TYPES["b64" if element == "f64" else "b32"]
    items = operand.items if isinstance(operand, Vector) else (operand,)
    if len(items) != count:
        raise OperandError(f"{count} registers expected for a .{element} fragment, {len(items)} given")
    return Fragment(tuple(per_lane(batch, item, scalar) for item in items), element, halves)


_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")


def _multiply_accumulate(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    match = _SHAPE.fullmatch(modifiers["shape"])
    if match is None:
        raise OperandError("the shape is not m..n..k..")
    rows, _, depth = (int(extent) for extent in match.groups())
    halves = rows // 8
    per_register = (8 if modifiers["a"] == "f64" else 4) // ELEMENTS[modifiers["a"]].itemsize
    parts = depth // (4 * per_register)
    d_operand, a_operand, b_operand, c_operand = instruction.operands
    a = _fragment(batch, a_operand, modifiers["a"], halves, halves * parts)
    b = _fragment(batch, b_operand, modifiers["b"], 1, parts)
    left = batch.fragments.share(instruction, a_operand, (modifiers["a"], halves), a.matrix)
    right = batch.fragments.share(instruction, b_operand, (modifiers["b"], 1), b.matrix)
    accumulate = _accumulator(batch, d_operand, c_operand, modifiers, halves)

    def run(mask: Mask) -> None:
        require_whole_warps(batch, instruction, mask)
        product = np.matmul(left(), right().transpose(0, 2, 1))
        accumulate(product.reshape(-1, halves, _GROUPS, _PLACES, 2), mask)

    return run


Accumulate = Callable[[Array, Mask], None]
"""Adds products [warps, halves, 8, 4, 2] to C and writes D."""


def _accumulator(
    batch: Batch, d_operand: Operand, c_operand: Operand, modifiers: Modifiers, halves: int
) -> Accumulate:
    """How D = product + C is done for the accumulator's type."""
    if modifiers["d"] != modifiers["c"]:
        raise OperandError("C and D of different types are not emulated")
    scalar = TYPES[modifiers["d"] if modifiers["d"] != "f16" else "f16x2"]
    count = halves * 2 // scalar.count
    sources = [per_lane(batch, item, scalar) for item in vector_items(c_operand, count)]
    destinations = [batch.registers.destination(item, scalar) for item in vector_items(d_operand, count)]

    shape = (-1, _GROUPS, _PLACES)

    def add_each(product: Array, mask: Mask) -> None:
        totals = [
            given.reshape(shape) + product[:, number // 2, :, :, number % 2] for number, given in enumerate(sources)
        ]
        for total, destination in zip(totals, destinations, strict=True):
            if destination is not None:
                store(destination, total.reshape(-1), mask)

    def add_in_place(product: Array, mask: Mask) -> None:
        """C and D are the same registers, as in every loop over K."""
        if mask is not None:
            add_each(product, mask)
            return
        for number, given in enumerate(sources):
            total = given.reshape(shape)
            np.add(total, product[:, number // 2, :, :, number % 2], out=total)

    def add_halves(product: Array, mask: Mask) -> None:
        """f16 accumulators: the sum is rounded once."""
        for number, (given, destination) in enumerate(zip(sources, destinations, strict=True)):
            part = product[:, number]
            total = given.reshape(part.shape).astype(np.float32) + part
            if destination is not None:
                store(destination, total.astype(np.float16).reshape(-1), mask, 2)

    def add_integers(product: Array, mask: Mask) -> None:
        """The products' sum is an exact integer in float32; .satfinite clamps the sum with C."""
        for number, (given, destination) in enumerate(zip(sources, destinations, strict=True)):
            part = product[:, number // 2, :, :, number % 2].astype(np.int64)
            total = given.reshape(part.shape) + part
            if "satfinite" in modifiers:
                total = np.clip(total, _INT32.min, _INT32.max)
            if destination is not None:
                store(destination, total.astype(np.int32).reshape(-1), mask)

    match modifiers["d"]:
        case "s32":
            return add_integers
        case "f16":
            return add_halves
        case _:
            return add_in_place if c_operand == d_operand else add_each


_INT32 = np.iinfo(np.int32)
_FP8 = "e4m3|e5m2"

_LOADS = Effects(reads=(Memory.SHARED,), orders=(Orders.WARP,))
_STORES = Effects(writes=(Memory.SHARED,), orders=(Orders.WARP,))
_BLACKWELL = "sm_100f sm_110f sm_120f ptx8.6"

ROWS: tuple[Row, ...] = (
    special("ldmatrix.sync.aligned.m8n8.count:(x1|x2|x4).trans?.(shared|shared::cta)?.b16", "any = address",
            _load_matrix, effects=_LOADS),
    special("stmatrix.sync.aligned.m8n8.count:(x1|x2|x4).trans?.(shared|shared::cta)?.b16", "address any",
            _store_matrix, effects=_STORES, since="sm_90 ptx7.8"),
    special("ldmatrix.sync.aligned.m16n16.count:(x1|x2).trans.(shared|shared::cta)?.b8", "any = address",
            _load_bytes, effects=_LOADS, since=_BLACKWELL),
    special("stmatrix.sync.aligned.m16n8.count:(x1|x2|x4).trans.(shared|shared::cta)?.b8", "address any",
            _store_bytes, effects=_STORES, since=_BLACKWELL),
    special("movmatrix.sync.aligned.m8n8.trans.b16", "b32 = b32", _turn_matrix, effects=CROSS_LANE, since="ptx7.8"),
    special("mma.sync.aligned.shape:(m16n8k8|m16n8k16).row.col.d:(f16|f32).a:f16.b:f16.c:(f16|f32)",
            "any = any any any", _multiply_accumulate, effects=CROSS_LANE),
    special("mma.sync.aligned.shape:(m16n8k8|m16n8k16).row.col.d:f32.a:bf16.b:bf16.c:f32",
            "any = any any any", _multiply_accumulate, effects=CROSS_LANE),
    special("mma.sync.aligned.shape:(m16n8k4|m16n8k8).row.col.d:f32.a:tf32.b:tf32.c:f32",
            "any = any any any", _multiply_accumulate, effects=CROSS_LANE),
    special("mma.sync.aligned.shape:(m16n8k16|m16n8k32).row.col.satfinite?.d:s32.a:(s8|u8).b:(s8|u8).c:s32",
            "any = any any any", _multiply_accumulate, effects=CROSS_LANE),
    special(f"mma.sync.aligned.shape:(m16n8k16|m16n8k32).row.col.d:(f16|f32).a:({_FP8}).b:({_FP8}).c:(f16|f32)",
            "any = any any any", _multiply_accumulate, effects=CROSS_LANE,
            since="sm_89 ptx8.4, m16n8k16|m16n8k32+f16: ptx8.7"),
    special("mma.sync.aligned.shape:(m8n8k4|m16n8k4|m16n8k8|m16n8k16).row.col.rn?.d:f64.a:f64.b:f64.c:f64",
            "any = any any any", _multiply_accumulate, effects=CROSS_LANE,
            since="m16n8k4|m16n8k8|m16n8k16: sm_90 ptx7.8"),
)
