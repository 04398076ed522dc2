"""Integer arithmetic and moves, in all widths, packed and extended-precision forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import source, store
from texpr.emulator.ptx import Instruction, Operand, Vector
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, ArrayFunction, Mask, Modifiers, Row, Step, elementwise, family, special
from texpr.emulator.types import SIGNED_OF_SIZE, UNSIGNED_OF_SIZE, Kind, ScalarType


def divide(dividend: Array, divisor: Array) -> Array:
    """Quotient truncated towards zero; division by zero gives all ones (what GPUs do; PTX leaves it open)."""
    zero = divisor == 0
    safe = np.where(zero, divisor.dtype.type(1), divisor)
    quotient = dividend // safe
    if dividend.dtype.kind == "i":
        # NumPy rounds down: step up where it did and a remainder is left.
        inexact_negative = (quotient * safe != dividend) & ((dividend < 0) != (safe < 0))
        quotient = quotient + inexact_negative.astype(quotient.dtype)
    return np.where(zero, ~dividend.dtype.type(0), quotient)


def remainder(dividend: Array, divisor: Array) -> Array:
    """Remainder with the sign of the dividend; by zero it is the dividend."""
    zero = divisor == 0
    safe = np.where(zero, divisor.dtype.type(1), divisor)
    return np.where(zero, dividend, dividend - divide(dividend, safe) * safe)


def multiply_high(a: Array, b: Array) -> Array:
    """The upper half of the double-width product."""
    dtype = np.result_type(a, b)
    if dtype.itemsize < 8:
        wide = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
        product = np.multiply(a, b, dtype=wide, casting="unsafe")
        return np.asarray((product >> wide.type(8 * dtype.itemsize)).astype(dtype))
    low = np.uint64(0xFFFF_FFFF)
    half = np.uint64(32)
    ua, ub = np.asarray(a).astype(np.uint64), np.asarray(b).astype(np.uint64)
    a_low, a_high, b_low, b_high = ua & low, ua >> half, ub & low, ub >> half
    middle = a_high * b_low + ((a_low * b_low) >> half)
    other = a_low * b_high + (middle & low)
    high = a_high * b_high + (middle >> half) + (other >> half)
    if dtype.kind == "i":
        zero = np.uint64(0)
        high = high - np.where(np.asarray(a) < 0, ub, zero) - np.where(np.asarray(b) < 0, ua, zero)
    return np.asarray(high.astype(dtype))


def _wide(modifiers: Modifiers) -> np.dtype[Any]:
    scalar = modifiers.type("type")
    return np.dtype(f"{scalar.dtype.kind}{2 * scalar.bytes}")


def _multiply_wide(modifiers: Modifiers) -> ArrayFunction:
    wide = _wide(modifiers)
    return lambda a, b: np.multiply(a, b, dtype=wide, casting="unsafe")


def _multiply_add_wide(modifiers: Modifiers) -> ArrayFunction:
    wide = _wide(modifiers)
    return lambda a, b, c: np.multiply(a, b, dtype=wide, casting="unsafe") + c


def _multiply_add_low(a: Array, b: Array, c: Array) -> Array:
    result: Array = a * b + c
    return result


def _multiply_add_high(a: Array, b: Array, c: Array) -> Array:
    result: Array = multiply_high(a, b) + c
    return result


def _multiply_24(modifiers: Modifiers) -> ArrayFunction:
    """The product of the low 24 bits: its low or bits 16 to 47."""
    scalar = modifiers.type("type")
    wide = np.dtype(f"{scalar.dtype.kind}8")
    shift = wide.type(16 if modifiers["half"] == "hi" else 0)

    def low24(value: Array) -> Array:
        up = np.asarray(value) << scalar.dtype.type(8)
        return np.asarray((up >> scalar.dtype.type(8)).astype(wide))

    return lambda a, b: ((low24(a) * low24(b)) >> shift).astype(scalar.dtype)


def _multiply_24_add(modifiers: Modifiers) -> ArrayFunction:
    product = _multiply_24(modifiers)
    return lambda a, b, c: product(a, b) + c


def _saturating(function: np.ufunc) -> ArrayFunction:
    limits = np.iinfo(np.int32)

    def run(a: Array, b: Array) -> Array:
        exact = function(np.asarray(a).astype(np.int64), np.asarray(b).astype(np.int64))
        return np.asarray(np.clip(exact, limits.min, limits.max).astype(np.int32))

    return run


def _absolute_difference(a: Array, b: Array, c: Array) -> Array:
    result: Array = c + np.where(a < b, b - a, a - b)
    return result


def _relu_of(function: np.ufunc) -> ArrayFunction:
    def run(a: Array, b: Array) -> Array:
        return np.asarray(np.maximum(function(a, b), a.dtype.type(0)))

    return run


# Extended precision -----------------------------------------------------------------------------------------


def _extended(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """add.cc, addc, sub.cc, subc, mad.cc, madc: arithmetic through the carry flag."""
    scalar = UNSIGNED_OF_SIZE[modifiers.type("type").bytes]
    signed = modifiers.type("type").kind is Kind.SIGNED
    destination = batch.registers.destination(instruction.operands[0], scalar)
    sources = [source(batch, operand, scalar) for operand in instruction.operands[1:]]
    name = modifiers["name"]
    uses_carry = name.endswith("c")
    subtracts = name.startswith("sub")
    product_half = modifiers.get("half")
    carry = batch.carry

    def run(mask: Mask) -> None:
        a, b = np.asarray(sources[0]), np.asarray(sources[1])
        if product_half == "lo":
            a, b = a * b, np.asarray(sources[2])
        elif product_half == "hi":
            signed_dtype = SIGNED_OF_SIZE[scalar.bytes].dtype
            pair = (a.view(signed_dtype), b.view(signed_dtype)) if signed else (a, b)
            a, b = multiply_high(*pair).view(scalar.dtype), np.asarray(sources[2])
        one = carry.astype(scalar.dtype) if uses_carry else scalar.dtype.type(0)
        if subtracts:
            first = a - b
            result = first - one
            flag = (a < b) | (first < one)
        else:
            first = a + b
            result = first + one
            flag = (first < a) | (result < first)
        if "cc" in modifiers:
            store(carry, flag, mask)
        if destination is not None:
            store(destination, result, mask)

    return run


# Moves ------------------------------------------------------------------------------------------------------


def _same(value: Array) -> Array:
    return value


def _move(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """mov between a register and a `{a, b, ...}` list packs or unpacks; the first item is the lowest part."""
    to, given = instruction.operands
    scalar = UNSIGNED_OF_SIZE[modifiers.type("type").bytes]
    if isinstance(to, Vector):
        return _unpack(batch, to.items, source(batch, given, scalar), scalar)
    if isinstance(given, Vector):
        return _pack(batch, to, given.items, scalar)
    destination = batch.registers.destination(to, scalar)
    value = source(batch, given, scalar)

    def run(mask: Mask) -> None:
        if destination is not None:
            store(destination, value, mask)

    return run


def _part(items: tuple[Operand, ...], scalar: ScalarType) -> ScalarType:
    if scalar.bytes % len(items) or scalar.bytes // len(items) not in UNSIGNED_OF_SIZE:
        raise OperandError(f"a .{scalar.name} value does not split into {len(items)} parts")
    return UNSIGNED_OF_SIZE[scalar.bytes // len(items)]


def _unpack(batch: Batch, items: tuple[Operand, ...], value: Array, scalar: ScalarType) -> Step:
    part = _part(items, scalar)
    destinations = [batch.registers.destination(item, part) for item in items]

    def run(mask: Mask) -> None:
        parts = np.ascontiguousarray(value).view(part.dtype).reshape(-1, len(items)).copy()
        for number, destination in enumerate(destinations):
            if destination is not None:
                store(destination, parts[:, number], mask)

    return run


def _pack(batch: Batch, to: Operand, items: tuple[Operand, ...], scalar: ScalarType) -> Step:
    part = _part(items, scalar)
    destination = batch.registers.destination(to, scalar)
    sources = [source(batch, item, part) for item in items]
    parts = np.empty((batch.lanes, len(items)), part.dtype)
    packed = parts.reshape(-1).view(scalar.dtype)

    def run(mask: Mask) -> None:
        for number, values in enumerate(sources):
            parts[:, number] = values
        if destination is not None:
            store(destination, packed, mask)

    return run


def _dot4(modifiers: Modifiers) -> Callable[[Array, Array, Array], Array]:
    """dp4a: four byte products added to a 32-bit sum."""
    result = np.dtype(np.uint32 if modifiers["a"] == modifiers["b"] == "u32" else np.int32)

    def bytes_of(value: Array, kind: str) -> Array:
        return np.ascontiguousarray(value).view("i1" if kind == "s32" else "u1").reshape(-1, 4).astype(np.int64)

    def run(a: Array, b: Array, c: Array) -> Array:
        total = (bytes_of(a, modifiers["a"]) * bytes_of(b, modifiers["b"])).sum(axis=1)
        return np.asarray((total + np.asarray(c).view(result)).astype(result))

    return run


def _dot2(modifiers: Modifiers) -> Callable[[Array, Array, Array], Array]:
    """dp2a: two products of a halfword and a byte, from the lower or upper bytes of b, added to a 32-bit sum."""
    result = np.dtype(np.uint32 if modifiers["a"] == modifiers["b"] == "u32" else np.int32)
    start = 0 if modifiers["half"] == "lo" else 2

    def run(a: Array, b: Array, c: Array) -> Array:
        halves = np.ascontiguousarray(a).view("i2" if modifiers["a"] == "s32" else "u2").reshape(-1, 2)
        octets = np.ascontiguousarray(b).view("i1" if modifiers["b"] == "s32" else "u1").reshape(-1, 4)
        total = (halves.astype(np.int64) * octets[:, start : start + 2]).sum(axis=1)
        return np.asarray((total + np.asarray(c).view(result)).astype(result))

    return run


_PACKED = "u16x2|s16x2: sm_90 ptx8.0"

ROWS: tuple[Row, ...] = (
    special("mov.type:(BITS|INT|f32|f64)", "any = any", _move),
    elementwise("mov.pred", "pred = pred", _same),
    elementwise("add.type:(INT|u16x2|s16x2)", "type = type type", np.add, since="u16x2|s16x2: sm_90 ptx8.0"),
    elementwise("sub.type:INT", "type = type type", np.subtract),
    elementwise("add.sat.s32", "s32 = s32 s32", _saturating(np.add)),
    elementwise("sub.sat.s32", "s32 = s32 s32", _saturating(np.subtract)),
    special("name:(add|addc|sub|subc).cc.type:(u32|s32|u64|s64)", "type = type type", _extended),
    special("name:(addc|subc).type:(u32|s32|u64|s64)", "type = type type", _extended),
    special("name:(mad|madc).half:(lo|hi).cc.type:(u32|s32|u64|s64)", "type = type type type", _extended),
    special("name:madc.half:(lo|hi).type:(u32|s32|u64|s64)", "type = type type type", _extended),
    elementwise("mul.lo.type:INT", "type = type type", np.multiply),
    elementwise("mul.hi.type:INT", "type = type type", multiply_high),
    family("mul.wide.type:u16", "u32 = u16 u16", _multiply_wide),
    family("mul.wide.type:s16", "s32 = s16 s16", _multiply_wide),
    family("mul.wide.type:u32", "u64 = u32 u32", _multiply_wide),
    family("mul.wide.type:s32", "s64 = s32 s32", _multiply_wide),
    elementwise("mad.lo.type:INT", "type = type type type", _multiply_add_low),
    elementwise("mad.hi.type:INT", "type = type type type", _multiply_add_high),
    family("mad.wide.type:u16", "u32 = u16 u16 u32", _multiply_add_wide),
    family("mad.wide.type:s16", "s32 = s16 s16 s32", _multiply_add_wide),
    family("mad.wide.type:u32", "u64 = u32 u32 u64", _multiply_add_wide),
    family("mad.wide.type:s32", "s64 = s32 s32 s64", _multiply_add_wide),
    family("mul24.half:(lo|hi).type:INT32", "type = type type", _multiply_24),
    family("mad24.half:(lo|hi).type:INT32", "type = type type type", _multiply_24_add),
    family("dp4a.a:INT32.b:INT32", "u32 = u32 u32 u32", _dot4),
    family("dp2a.half:(lo|hi).a:INT32.b:INT32", "u32 = u32 u32 u32", _dot2),
    elementwise("sad.type:INT", "type = type type type", _absolute_difference),
    elementwise("div.type:INT", "type = type type", divide),
    elementwise("rem.type:INT", "type = type type", remainder),
    elementwise("abs.type:(s16|s32|s64)", "type = type", np.absolute),
    elementwise("neg.type:(s16|s32|s64)", "type = type", np.negative),
    elementwise("min.type:(INT|u16x2|s16x2)", "type = type type", np.minimum, since=_PACKED),
    elementwise("max.type:(INT|u16x2|s16x2)", "type = type type", np.maximum, since=_PACKED),
    elementwise("min.relu.type:(s16x2|s32)", "type = type type", _relu_of(np.minimum), since="sm_90 ptx8.0"),
    elementwise("max.relu.type:(s16x2|s32)", "type = type type", _relu_of(np.maximum), since="sm_90 ptx8.0"),
)
