"""wgmma: matrix products of a warpgroup with operands in shared memory.

Each warp of the group computes its 16 of the 64 rows.  Element j of the accumulators of lane (g = l / 4, t = l % 4)
is row g + 8 ((j / 2) % 2), column 8 (j / 4) + 2t + j % 2.  A in registers has the fragment layout of mma.sync.

An operand in shared memory is given by a descriptor: start address, two byte offsets (LBO, SBO) and a swizzle.  With
T = 16 bytes and a swizzle of S bytes, element (row or column r, depth k) of size e lies at

    K-major            (r / 8) SBO + (r % 8) S + k e                     (no swizzle: S = T, and (k e / T) LBO)
    MN-major           (r / P) LBO + (k / 8) SBO + (k % 8) S + (r % P) e, P = S / e
    MN-major, S = 0    (r / 8) SBO + (k / 8) LBO + (k % 8) T + (r % 8) e

from the start; then bits 4 to 6 of the address are exclusive-ored with bits 7 to 9 (128 bytes; fewer bits for less).
Source: CUTLASS, canonical GMMA layouts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from texpr.emulator.batch import WARP, Batch
from texpr.emulator.bind import per_lane
from texpr.emulator.effects import Effects, Memory, Orders, Proxy
from texpr.emulator.faults import FaultKind
from texpr.emulator.isa_matrix import ELEMENTS, Fragment, decode_elements
from texpr.emulator.isa_memory import vector_items
from texpr.emulator.isa_warp import require_whole_warps
from texpr.emulator.ptx import Instruction, Integer, Operand, Vector
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.shared_space import SHARED_BASE
from texpr.emulator.types import PREDICATE, TYPES

_WARPS = 4
_ROWS = 16
_PITCH = (16, 128, 64, 32)
_SWIZZLE_BITS = (0, 7, 3, 1)


@dataclass(frozen=True, slots=True)
class _Tile:
    """Where an operand lies in a program's window: element indices [extent, K], and the bytes' 16-byte pieces."""

    index: Array
    pieces: Array


class _SharedOperand:
    """An operand described by a 64-bit descriptor; `extent` rows of A or columns of B."""

    def __init__(
        self, batch: Batch, site: Instruction, operand: Operand, element: str, extent: int, depth: int, turned: bool
    ) -> None:
        self.batch = batch
        self.site = site
        self.descriptors = per_lane(batch, operand, TYPES["b64"])
        self._element = element
        self._extent = extent
        self._depth = depth
        self._turned = turned
        self._known: dict[int, _Tile] = {}

    def tile(self, descriptor: int, lane: int) -> _Tile:
        if descriptor not in self._known:
            self._known[descriptor] = self._lay_out(descriptor, lane)
        return self._known[descriptor]

    def _lay_out(self, descriptor: int, lane: int) -> _Tile:
        start, leading, stride = ((descriptor >> shift & 0x3FFF) << 4 for shift in (0, 16, 32))
        mode = descriptor >> 62
        if descriptor >> 49 & 7:
            message = f"descriptor 0x{descriptor:x}: base offsets other than 0 are not emulated"
            raise self.batch.fault(FaultKind.TENSOR_MAP, message, self.site, lane)
        size = ELEMENTS[self._element].itemsize
        pitch = _PITCH[mode]
        r, k = np.arange(self._extent)[:, None], np.arange(self._depth)[None, :]
        if not self._turned:
            within = k * size if mode else k * size // 16 * leading + k * size % 16
            offset = r // 8 * stride + r % 8 * pitch + within
        elif mode:
            per_row = pitch // size
            offset = r // per_row * leading + k // 8 * stride + k % 8 * pitch + r % per_row * size
        else:
            offset = r // 8 * stride + k // 8 * leading + k % 8 * 16 + r % 8 * size
        address = start + offset
        address = address ^ (((address >> 7) & _SWIZZLE_BITS[mode]) << 4)
        low, high = int(address.min()), int(address.max()) + size
        limit = self.batch.shared_space.limit
        if low < SHARED_BASE or high > limit:
            message = (
                f"descriptor 0x{descriptor:x} covers shared offsets {low - SHARED_BASE} to {high - SHARED_BASE}; the "
                f"program has {limit - SHARED_BASE} bytes"
            )
            raise self.batch.fault(FaultKind.OUT_OF_BOUNDS, message, self.site, lane, buffer="shared memory")
        return _Tile(address // size, np.unique(address // 16) * 16)

    def fetch(self, slots: Array, lane: int, descriptor: int) -> Array:
        """[slots, extent, K] values."""
        space = self.batch.shared_space
        dtype = ELEMENTS[self._element]
        windows = space.data.view(dtype).reshape(-1, space.size // dtype.itemsize)
        raw = windows[slots[:, None, None], self.tile(descriptor, lane).index]
        return decode_elements(raw, self._element)


def _multiply(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    match = _SHAPE.fullmatch(modifiers["shape"])
    assert match is not None
    columns, depth = int(match[1]), int(match[2])
    d_operand, a_operand, b_operand, scale_operand, *flags = instruction.operands
    in_registers = isinstance(a_operand, Vector)
    signs, turns = _flags(flags, modifiers["a"], in_registers)
    batch.shared_space.declare_async()
    b = _SharedOperand(batch, instruction, b_operand, modifiers["b"], columns, depth, turns[1])
    a: _SharedOperand | Fragment
    if isinstance(a_operand, Vector):
        items = vector_items(a_operand, 4)
        a = Fragment(tuple(per_lane(batch, item, TYPES["b32"]) for item in items), modifiers["a"], 2)
    else:
        a = _SharedOperand(batch, instruction, a_operand, modifiers["a"], _ROWS * _WARPS, depth, turns[0])
    scalar = TYPES["f16x2" if modifiers["d"] == "f16" else modifiers["d"]]
    items = vector_items(d_operand, columns // 2 // scalar.count)
    accumulators = [batch.registers.destination(item, scalar) for item in items]
    accumulates = per_lane(batch, scale_operand, PREDICATE)
    sign = np.float32(signs[0] * signs[1])
    quarter = (batch.thread // WARP % _WARPS)[::WARP]
    wide = np.int64 if modifiers["d"] == "s32" else np.float32

    def products(warps: Array) -> Array:
        """[warps, 16, N]; warps with the same descriptors are computed together."""
        first = warps * WARP
        if isinstance(a, Fragment):
            left = a.matrix()[warps]
            keys = b.descriptors[first][:, None]
        else:
            left = np.empty((len(warps), _ROWS, depth), np.float32)
            keys = np.stack([b.descriptors[first], a.descriptors[first]], axis=1)
        result = np.empty((len(warps), _ROWS, columns), np.float32)
        for key in np.unique(keys, axis=0):
            chosen = np.flatnonzero((keys == key).all(axis=1))
            lane = int(first[chosen[0]])
            slots, which = np.unique(batch.slot[first[chosen]], return_inverse=True)
            if isinstance(a, _SharedOperand):
                tiles = a.fetch(slots, lane, int(key[1])).reshape(len(slots), _WARPS, _ROWS, depth)
                left[chosen] = tiles[which, quarter[warps[chosen]]]
            right = b.fetch(slots, lane, int(key[0])).transpose(0, 2, 1)
            result[chosen] = np.matmul(left[chosen], right[which])
        return result * sign if sign != 1 else result

    def reads(warps: Array) -> list[tuple[int, Array]]:
        """The granules of shared memory that each warp reads, by its first lane."""
        shadow = batch.shared_space.async_shadow
        if shadow is None:
            return []
        found: list[tuple[int, Array]] = []
        for lane in (warps * WARP).tolist():
            pieces = [b.tile(int(b.descriptors[lane]), lane).pieces]
            if isinstance(a, _SharedOperand):
                pieces.append(a.tile(int(a.descriptors[lane]), lane).pieces)
            window = int(batch.slot[lane]) * batch.shared_space.size
            found.append((lane, shadow.granules_of(np.concatenate(pieces) + window, 16)))
        return found

    def run(mask: Mask) -> None:
        require_whole_warps(batch, instruction, mask)
        warps = np.arange(batch.warps) if mask is None else np.flatnonzero(mask[::WARP])
        if batch.shape.checks:
            batch.wgmma.issue(instruction, mask, lambda: reads(warps))
        # [warps, half, g, block of 8 columns, t, pair] in the order of the registers
        parts = products(warps).reshape(len(warps), 2, 8, columns // 8, 4, 2)
        lanes = (warps[:, None] * WARP + np.arange(WARP)).reshape(-1)
        keeps = accumulates[lanes]
        for number, accumulator in enumerate(accumulators):
            if scalar.count == 2:
                part = parts[:, number % 2, :, number // 2].reshape(-1)
                places, keep = (lanes[:, None] * 2 + np.arange(2)).reshape(-1), np.repeat(keeps, 2)
            else:
                part = parts[:, number // 2 % 2, :, number // 4, :, number % 2].reshape(-1)
                places, keep = lanes, keeps
            if accumulator is None:
                continue
            total = np.where(keep, accumulator[places].astype(wide), 0) + part
            if "satfinite" in modifiers:
                total = np.clip(total, _INT32.min, _INT32.max)
            accumulator[places] = total.astype(scalar.dtype)

    return run


_INT32 = np.iinfo(np.int32)


def _flags(flags: list[Operand], element: str, in_registers: bool) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """The constants behind scale-d: signs of A and B, and whether A and B are MN-major."""
    values: list[int] = []
    for flag in flags:
        if not isinstance(flag, Integer):
            raise OperandError("constants expected behind the scale")
        values.append(flag.value)
    turns = 0 if element not in ("f16", "bf16") else 1 if in_registers else 2
    expected = 0 if element in ("s8", "u8") else 2 + turns
    if len(values) != expected:
        raise OperandError(f"{expected} constants expected behind the scale, {len(values)} given")
    if not expected:
        return (1, 1), (False, False)
    if any(sign not in (-1, 1) for sign in values[:2]) or any(turn not in (0, 1) for turn in values[2:]):
        raise OperandError(f"the constants {values} are not two signs and transpositions")
    turned = [bool(turn) for turn in values[2:]]
    padded = [False] * (2 - len(turned)) + turned
    return (values[0], values[1]), (padded[0], padded[1])


def _fence(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    return batch.wgmma.fence


def _commit(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    return batch.wgmma.commit


def _wait(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    operand = instruction.operands[0]
    if not isinstance(operand, Integer):
        raise OperandError("wait_group needs a constant")
    allowed = operand.value
    return lambda mask: batch.wgmma.wait(mask, allowed)


def _set_registers(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """setmaxnreg: how many registers a warp may use; the emulator's are not limited."""
    operand = instruction.operands[0]
    if not isinstance(operand, Integer) or operand.value % 8 or not 24 <= operand.value <= 256:
        raise OperandError("the number of registers must be a multiple of 8 from 24 to 256")
    return lambda mask: require_whole_warps(batch, instruction, mask)


_SHAPE = re.compile(r"m64n(\d+)k(\d+)")


def _shapes(depth: int, step: int = 8) -> str:
    return "|".join(f"m64n{columns}k{depth}" for columns in range(8, 257, 8) if columns % step == 0 or columns <= 32)


_FP8 = "e4m3|e5m2"
_MULTIPLY = "wgmma.mma_async.sync.aligned"

_PRODUCT = Effects((Memory.SHARED,), (), (Orders.WGMMA,), Proxy.ASYNC, late=True)
_ORDER = Effects(orders=(Orders.WGMMA,))

ROWS: tuple[Row, ...] = (
    special(f"{_MULTIPLY}.shape:({_shapes(16)}).d:(f16|f32).a:f16.b:f16", "any = any any any any? any? any? any?",
            _multiply,
            effects=_PRODUCT, since="sm_90a ptx8.0"),
    special(f"{_MULTIPLY}.shape:({_shapes(16)}).d:f32.a:bf16.b:bf16", "any = any any any any? any? any? any?",
            _multiply,
            effects=_PRODUCT, since="sm_90a ptx8.0"),
    special(f"{_MULTIPLY}.shape:({_shapes(8)}).d:f32.a:tf32.b:tf32", "any = any any any any? any?", _multiply,
            effects=_PRODUCT,
            since="sm_90a ptx8.0"),
    special(f"{_MULTIPLY}.shape:({_shapes(32)}).d:(f16|f32).a:({_FP8}).b:({_FP8})", "any = any any any any? any?",
            _multiply,
            effects=_PRODUCT, since="sm_90a ptx8.0"),
    special(f"{_MULTIPLY}.shape:({_shapes(32, 16)}).satfinite?.d:s32.a:(s8|u8).b:(s8|u8)", "any = any any any",
            _multiply,
            effects=_PRODUCT, since="sm_90a ptx8.0, s8+u8: ptx8.4"),
    special("wgmma.fence.sync.aligned", "", _fence,
            effects=_ORDER, since="sm_90a ptx8.0"),
    special("wgmma.commit_group.sync.aligned", "", _commit,
            effects=_ORDER, since="sm_90a ptx8.0"),
    special("wgmma.wait_group.sync.aligned", "integer", _wait,
            effects=_ORDER, since="sm_90a ptx8.0"),
    special("setmaxnreg.(inc|dec).sync.aligned.u32", "integer", _set_registers,
            effects=Effects(orders=(Orders.WARP,)), since="sm_90a sm_100f sm_110f sm_120f ptx8.0"),
)
