"""Bit operations: logic, shifts, fields, permutations, counting."""

from __future__ import annotations

import numpy as np

from texpr.emulator.rows import Array, ArrayFunction, Modifiers, Row, elementwise, family

U8, U32, U64 = np.uint8, np.uint32, np.uint64


def _three_input_logic(a: Array, b: Array, c: Array, table: Array) -> Array:
    """lop3: bit i of the table is the result for inputs (a, b, c) = bits 2, 1, 0 of i."""
    lut = int(table)
    result = np.zeros(np.broadcast(a, b, c).shape, U32)
    for entry in range(8):
        if lut >> entry & 1:
            term = a if entry & 4 else ~a
            term = term & (b if entry & 2 else ~b)
            result |= term & (c if entry & 1 else ~c)
    return result


def _logic_not(a: Array) -> Array:
    result: Array = np.where(a == 0, a.dtype.type(1), a.dtype.type(0))
    return result


def _shift_left(a: Array, amount: Array) -> Array:
    """Amounts beyond the width give zero, as NumPy's unsigned shift does."""
    result: Array = np.left_shift(a, amount.astype(a.dtype))
    return result


def _shift_right(a: Array, amount: Array) -> Array:
    """Amounts beyond the width give zero, or the sign for signed types."""
    clamped = np.minimum(amount, U32(8 * a.dtype.itemsize - 1)) if a.dtype.kind == "i" else amount
    result: Array = np.right_shift(a, clamped.astype(a.dtype))
    return result


def _funnel(modifiers: Modifiers) -> ArrayFunction:
    """shf: shift the 64-bit value high:low and take the upper (l) or lower (r) word."""
    wrap = modifiers["mode"] == "wrap"
    left = modifiers["direction"] == "l"

    def run(low: Array, high: Array, amount: Array) -> Array:
        count = (amount & U32(31) if wrap else np.minimum(amount, U32(32))).astype(U64)
        pair = (high.astype(U64) << U64(32)) | low.astype(U64)
        shifted = (pair << count) >> U64(32) if left else pair >> count
        return shifted.astype(U32)

    return run


def _field_bounds(position: Array, length: Array, width: int) -> tuple[Array, Array]:
    """Position and length of a bit field: both are taken modulo 256; the length is cut at the width."""
    start = position & U32(0xFF)
    return start.astype(U64), np.minimum(length & U32(0xFF), U32(width)).astype(U64)


def _ones(count: Array) -> Array:
    """`count` low one bits (count at most 64)."""
    full = count >= 64
    return np.where(full, ~U64(0), (U64(1) << np.where(full, U64(0), count)) - U64(1))


def _extract_field(a: Array, position: Array, length: Array) -> Array:
    """bfe: bits [position, position + length) of a, zero- or sign-extended by the type."""
    width = 8 * a.dtype.itemsize
    start, count = _field_bounds(position, length, width)
    bits = np.asarray(a).view(f"u{a.dtype.itemsize}").astype(U64)
    inside = np.where(start < width, bits >> np.minimum(start, U64(63)), U64(0)) & _ones(count)
    if a.dtype.kind == "i":
        # The sign is the field's top bit, or the word's if the field reaches beyond the word.
        top = np.minimum(start + np.maximum(count, U64(1)) - U64(1), U64(width - 1))
        negative = ((bits >> top) & U64(1) != 0) & (count != 0)
        reach = np.minimum(count, np.where(start < width, U64(width) - np.minimum(start, U64(width)), U64(0)))
        inside = np.where(negative, inside | ~_ones(reach), inside)
    return inside.astype(f"u{a.dtype.itemsize}").view(a.dtype)


def _insert_field(field: Array, into: Array, position: Array, length: Array) -> Array:
    """bfi: put the low bits of `field` into [position, position + length) of `into`."""
    width = 8 * into.dtype.itemsize
    start, count = _field_bounds(position, length, width)
    start = np.minimum(start, U64(63))
    mask = np.where(_field_bounds(position, length, width)[0] < width, _ones(count) << start, U64(0))
    moved = field.astype(U64) << start
    return ((moved & mask) | (into.astype(U64) & ~mask)).astype(into.dtype)


_PERMUTE_MODES: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    # The four source bytes (lowest first) that each value of the control's low two bits selects.
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}


def _permute(a: Array, b: Array, selector: Array) -> Array:
    """prmt: each selector nibble picks a byte of b:a; its top bit replicates that byte's sign instead."""
    pair = (b.astype(U64) << U64(32)) | a.astype(U64)
    result = np.zeros(np.broadcast(a, b, selector).shape, U32)
    for position in range(4):
        nibble = (selector >> U32(4 * position)) & U32(15)
        byte = (pair >> ((nibble & U32(7)).astype(U64) * U64(8))) & U64(0xFF)
        sign = np.where(byte & U64(0x80), U64(0xFF), U64(0))
        result |= np.where(nibble & U32(8), sign, byte).astype(U32) << U32(8 * position)
    return result


def _permute_mode(modifiers: Modifiers) -> ArrayFunction:
    choices = np.array(_PERMUTE_MODES[modifiers["mode"]], U32)
    nibbles = (choices << (U32(4) * np.arange(4, dtype=U32))).sum(axis=1).astype(U32)
    return lambda a, b, control: _permute(a, b, nibbles[control & U32(3)])


def _population(a: Array) -> Array:
    return np.bitwise_count(a).astype(U32)


def leading_zeros(a: Array) -> Array:
    """clz: zero bits above the highest one."""
    width = 8 * a.dtype.itemsize
    smeared = np.asarray(a).copy()
    shift = 1
    while shift < width:
        smeared |= smeared >> a.dtype.type(shift)
        shift *= 2
    return np.asarray((width - np.bitwise_count(smeared)).astype(U32))


def _find_top(modifiers: Modifiers) -> ArrayFunction:
    """bfind: position of the highest bit that differs from the sign (or, shiftamt, its distance from the top)."""
    scalar = modifiers.type("type")
    width = scalar.bits

    def run(a: Array) -> Array:
        bits = np.where(a < 0, ~a, a) if scalar.dtype.kind == "i" else a
        zeros = leading_zeros(bits.view(f"u{scalar.bytes}"))
        none = zeros == width
        found = zeros if "shiftamt" in modifiers else U32(width - 1) - zeros
        return np.where(none, U32(0xFFFF_FFFF), found)

    return run


def _reverse(a: Array) -> Array:
    """brev: the bits in opposite order."""
    octets = np.ascontiguousarray(a).view(U8).reshape(-1, a.dtype.itemsize)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, ::-1]
    result: Array = np.packbits(bits, axis=1, bitorder="little").view(a.dtype).reshape(np.shape(a))
    return result


def _bit_mask(modifiers: Modifiers) -> ArrayFunction:
    """bmsk: `length` one bits from `start` on."""
    wrap = modifiers["mode"] == "wrap"

    def run(start: Array, length: Array) -> Array:
        first, count = (start & U32(31), length & U32(31)) if wrap else (start, length)
        limit = U32(32)
        ones = _ones(np.minimum(count, limit).astype(U64)) << np.minimum(first, limit).astype(U64)
        return (ones & U64(0xFFFF_FFFF)).astype(U32)

    return run


def _extend_sign(modifiers: Modifiers) -> ArrayFunction:
    """szext: keep the low `length` bits, sign- or zero-extended."""
    wrap = modifiers["mode"] == "wrap"

    def run(a: Array, length: Array) -> Array:
        count = length & U32(31) if wrap else np.minimum(length, U32(32))
        return _extract_field(a, np.zeros_like(count), count)

    return run


ROWS: tuple[Row, ...] = (
    elementwise("and.type:(pred|BITS)", "type = type type", np.bitwise_and),
    elementwise("or.type:(pred|BITS)", "type = type type", np.bitwise_or),
    elementwise("xor.type:(pred|BITS)", "type = type type", np.bitwise_xor),
    elementwise("not.type:(pred|BITS)", "type = type", np.invert),
    elementwise("cnot.type:BITS", "type = type", _logic_not),
    elementwise("lop3.b32", "b32 = b32 b32 b32 b32", _three_input_logic),
    elementwise("shl.type:BITS", "type = type u32", _shift_left),
    elementwise("shr.type:(BITS|INT)", "type = type u32", _shift_right),
    family("shf.direction:(l|r).mode:(wrap|clamp).b32", "b32 = b32 b32 u32", _funnel),
    elementwise("bfe.type:(u32|s32|u64|s64)", "type = type u32 u32", _extract_field),
    elementwise("bfi.type:(b32|b64)", "type = type type u32 u32", _insert_field),
    family("bmsk.mode:(wrap|clamp).b32", "b32 = u32 u32", _bit_mask),
    family("szext.mode:(wrap|clamp).type:INT32", "type = type u32", _extend_sign),
    elementwise("prmt.b32", "b32 = b32 b32 b32", _permute),
    family("prmt.b32.mode:(f4e|b4e|rc8|ecl|ecr|rc16)", "b32 = b32 b32 b32", _permute_mode),
    elementwise("popc.type:(b32|b64)", "u32 = type", _population),
    elementwise("clz.type:(b32|b64)", "u32 = type", leading_zeros),
    family("bfind.shiftamt?.type:(u32|s32|u64|s64)", "u32 = type", _find_top),
    elementwise("brev.type:(b32|b64)", "type = type", _reverse),
)
