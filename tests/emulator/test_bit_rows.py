"""Bit operations against their definitions in the PTX manual, bit by bit in Python integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.snippets import Array, run_lanes, run_one

rng = np.random.default_rng(13)


def words(bits: int, count: int = 120) -> Array:
    values = rng.integers(0, (1 << bits) - 1, count, dtype=f"u{bits // 8}", endpoint=True)
    values >>= rng.integers(0, bits, count).astype(values.dtype)
    return np.concatenate([values, np.array([0, 1, (1 << bits) - 1, 1 << (bits - 1)], values.dtype)])


def check(opcode: str, widths: list[int], result: int, reference: Callable[..., int], limits: dict[int, int]) -> None:
    """`limits[i]` bounds operand i (shift amounts and the like)."""
    arrays = [words(width) for width in widths]
    for i, limit in limits.items():
        arrays[i] = rng.integers(0, limit, len(arrays[i])).astype(arrays[i].dtype)
    arrays = [np.roll(array, 5 * i) for i, array in enumerate(arrays)]
    got = run_one(opcode, [(f"b{width}", array) for width, array in zip(widths, arrays, strict=True)], f"b{result}")
    for i, value in enumerate(got):
        operands = [int(array[i]) for array in arrays]
        expected = reference(*operands) & ((1 << result) - 1)
        assert int(value) == expected, f"{opcode} {[hex(o) for o in operands]}: {int(value):#x}, expected {expected:#x}"


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_logic(bits: int) -> None:
    check(f"and.b{bits}", [bits, bits], bits, lambda a, b: a & b, {})
    check(f"or.b{bits}", [bits, bits], bits, lambda a, b: a | b, {})
    check(f"xor.b{bits}", [bits, bits], bits, lambda a, b: a ^ b, {})
    check(f"not.b{bits}", [bits], bits, lambda a: ~a, {})
    check(f"cnot.b{bits}", [bits], bits, lambda a: int(a == 0), {})


def test_predicate_logic() -> None:
    a = np.arange(4, dtype=np.uint32)
    body = """
        and.b32 %x, %a, 1; setp.ne.u32 %p, %x, 0; shr.u32 %x, %a, 1; setp.ne.u32 %q, %x, 0;
        and.pred %r, %p, %q; selp.b32 %c, 1, 0, %r;
        xor.pred %r, %p, %q; selp.b32 %d, 1, 0, %r;
        not.pred %r, %p; or.pred %r, %r, %q; selp.b32 %e, 1, 0, %r;
        mov.pred %r, %q; selp.b32 %f, 1, 0, %r;
    """
    got = run_lanes(body, {"a": ("b32", a)}, {"c": "b32", "d": "b32", "e": "b32", "f": "b32"},
                    registers=".reg .pred %p, %q, %r; .reg .b32 %x;")
    assert [list(got[name]) for name in "cdef"] == [[0, 0, 0, 1], [0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("table", [0x00, 0x80, 0xEA, 0x96, 0xFF, 0x1B])
def test_three_input_logic(table: int) -> None:
    def reference(a: int, b: int, c: int) -> int:
        result = 0
        for i in range(32):
            entry = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1)
            result |= (table >> entry & 1) << i
        return result

    a, b, c = words(32), np.roll(words(32), 1), np.roll(words(32), 2)
    got = run_one("lop3.b32", [("b32", a), ("b32", b), ("b32", c)], "b32", constants=hex(table))
    for x, y, z, value in zip(a, b, c, got, strict=True):
        assert int(value) == reference(int(x), int(y), int(z))


def as_signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shifts_clamp_at_the_width(bits: int) -> None:
    limits = {1: 100}
    check(f"shl.b{bits}", [bits, 32], bits, lambda a, n: a << n if n < bits else 0, limits)
    check(f"shr.u{bits}", [bits, 32], bits, lambda a, n: a >> n, limits)
    check(f"shr.b{bits}", [bits, 32], bits, lambda a, n: a >> n, limits)
    check(f"shr.s{bits}", [bits, 32], bits, lambda a, n: as_signed(a, bits) >> min(n, bits - 1), limits)


def test_funnel_shifts() -> None:
    limits = {2: 80}
    check("shf.l.wrap.b32", [32] * 3, 32, lambda a, b, n: ((b << 32 | a) << (n & 31)) >> 32, limits)
    check("shf.r.wrap.b32", [32] * 3, 32, lambda a, b, n: (b << 32 | a) >> (n & 31), limits)
    check("shf.l.clamp.b32", [32] * 3, 32, lambda a, b, n: ((b << 32 | a) << min(n, 32)) >> 32, limits)
    check("shf.r.clamp.b32", [32] * 3, 32, lambda a, b, n: (b << 32 | a) >> min(n, 32), limits)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("kind", ["u", "s"])
def test_bit_fields_are_extracted(bits: int, kind: str) -> None:
    def reference(a: int, position: int, length: int) -> int:
        position, length, top = position & 255, length & 255, bits - 1
        sign = 0 if kind == "u" or length == 0 else a >> min(position + length - 1, top) & 1
        return sum(
            (a >> (position + i) & 1 if i < length and position + i <= top else sign) << i for i in range(bits)
        )

    for limits in ({1: 40, 2: 40}, {1: 300, 2: 300}, {1: bits, 2: 12}):
        check(f"bfe.{kind}{bits}", [bits, 32, 32], bits, reference, limits)


@pytest.mark.parametrize("bits", [32, 64])
def test_bit_fields_are_inserted(bits: int) -> None:
    def reference(a: int, b: int, position: int, length: int) -> int:
        position, length = position & 255, length & 255
        for i in range(length):
            if position + i < bits:
                b = b & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
        return b

    for limits in ({2: 40, 3: 40}, {2: 300, 3: 300}):
        check(f"bfi.b{bits}", [bits, bits, 32, 32], bits, reference, limits)


def permuted(a: int, b: int, nibbles: list[int]) -> int:
    octets = [(b << 32 | a) >> (8 * i) & 255 for i in range(8)]
    chosen = [(255 if octets[n & 7] & 128 else 0) if n & 8 else octets[n & 7] for n in nibbles]
    return sum(octet << (8 * i) for i, octet in enumerate(chosen))


def test_bytes_are_permuted() -> None:
    check("prmt.b32", [32] * 3, 32, lambda a, b, c: permuted(a, b, [c >> (4 * i) & 15 for i in range(4)]), {})


@pytest.mark.parametrize(("mode", "choices"), [
    ("f4e", [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
    ("b4e", [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]]),
    ("rc8", [[0] * 4, [1] * 4, [2] * 4, [3] * 4]),
    ("ecl", [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]]),
    ("ecr", [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]]),
    ("rc16", [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]),
])
def test_permutation_modes(mode: str, choices: list[list[int]]) -> None:
    check(f"prmt.b32.{mode}", [32] * 3, 32, lambda a, b, c: permuted(a, b, choices[c & 3]), {})


@pytest.mark.parametrize("bits", [32, 64])
def test_counting_and_reversing(bits: int) -> None:
    check(f"popc.b{bits}", [bits], 32, lambda a: a.bit_count(), {})
    check(f"clz.b{bits}", [bits], 32, lambda a: bits - a.bit_length(), {})
    check(f"brev.b{bits}", [bits], bits, lambda a: int(f"{a:0{bits}b}"[::-1], 2), {})
    check(f"bfind.u{bits}", [bits], 32, lambda a: a.bit_length() - 1, {})
    check(f"bfind.shiftamt.u{bits}", [bits], 32, lambda a: bits - a.bit_length() if a else -1, {})

    def highest_non_sign(a: int) -> int:
        return (a if a < 1 << (bits - 1) else ~a & ((1 << bits) - 1)).bit_length() - 1

    check(f"bfind.s{bits}", [bits], 32, highest_non_sign, {})


def test_masks_and_extensions() -> None:
    limits = {0: 40, 1: 40}
    check("bmsk.clamp.b32", [32, 32], 32, lambda a, b: ((1 << min(b, 32)) - 1) << min(a, 32), limits)
    check("bmsk.wrap.b32", [32, 32], 32, lambda a, b: ((1 << (b & 31)) - 1) << (a & 31), limits)
    check("szext.clamp.u32", [32, 32], 32, lambda a, b: a & ((1 << min(b, 32)) - 1), {1: 40})

    def extend(a: int, length: int) -> int:
        length = min(length, 32)
        field = a & ((1 << length) - 1)
        return field - (1 << length) if length and field >> (length - 1) else field

    check("szext.clamp.s32", [32, 32], 32, extend, {1: 40})


@pytest.mark.parametrize(("opcode", "expected"), [
    ("bfe.u32 %d, 0xABCD1234, 8, 8", 0x12), ("bfe.s32 %d, 0xABCD1234, 16, 12", 0xFFFF_FBCD),
    ("bfi.b32 %d, 0xFF, 0, 4, 8", 0xFF0), ("prmt.b32 %d, 0x33221100, 0x77665544, 0x7531", 0x77553311),
    ("lop3.b32 %d, 0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA, 0x96", 0x96969696), ("popc.b32 %d, 0xFF00", 8),
    ("clz.b32 %d, 1", 31), ("brev.b32 %d, 1", 1 << 31), ("bfind.u32 %d, 16", 4), ("shl.b32 %d, 1, 5", 32),
    ("shf.l.wrap.b32 %d, 0x80000000, 1, 1", 3), ("shr.s32 %d, -8, 1", 0xFFFF_FFFC),
    ("mul.hi.u32 %d, 0x80000000, 6", 3), ("mul.hi.s32 %d, -2, 1", 0xFFFF_FFFF), ("div.s32 %d, -7, 2", 0xFFFF_FFFD),
    ("rem.s32 %d, -7, 2", 0xFFFF_FFFF), ("mad.lo.s32 %d, 3, 4, 5", 17), ("not.b32 %d, 0", 0xFFFF_FFFF),
    ("bmsk.clamp.b32 %d, 4, 4", 0xF0), ("szext.clamp.s32 %d, 0xF, 4", 0xFFFF_FFFF), ("sad.u32 %d, 3, 5, 1", 3),
    ("selp.b32 %d, 1, 2, 1", 1), ("set.lt.u32.s32 %d, -1, 0", 0xFFFF_FFFF), ("abs.s32 %d, -5", 5),
    ("dp4a.s32.s32 %d, 0x01020304, 0x01010101, 5", 15), ("mul24.lo.u32 %d, 3, 4", 12),
    ("cvt.sat.u8.s32 %d, 300", 255), ("cvt.pack.sat.u16.s32 %d, 1, 70000", 0x0001FFFF),
])
def test_operands_may_be_constants(opcode: str, expected: int) -> None:
    got = run_lanes(f"{opcode};", {"x": ("b32", np.zeros(2, np.uint32))}, {"d": "b32"})["d"]
    assert list(got) == [expected, expected]
