"""Integer arithmetic, comparison and selection against Python integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.snippets import Array, run_lanes, run_one

rng = np.random.default_rng(11)
TYPES = ("u16", "s16", "u32", "s32", "u64", "s64")


def samples(scalar: str, count: int = 100) -> Array:
    """Random values of mixed magnitude, and the corners."""
    bits = int(scalar[1:])
    values = rng.integers(0, 1 << bits, count, dtype=f"u{bits // 8}", endpoint=False) if bits < 64 else rng.integers(
        0, (1 << 64) - 1, count, dtype=np.uint64, endpoint=True
    )
    values >>= rng.integers(0, bits, count).astype(values.dtype)
    corners = [0, 1, 2, (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1]
    return np.concatenate([values, np.array(corners, values.dtype), np.array(corners[::-1], values.dtype)])


def signed(value: int, scalar: str) -> int:
    bits = int(scalar[1:])
    value %= 1 << bits
    return value - (1 << bits) if scalar[0] == "s" and value >> (bits - 1) else value


def check(opcode: str, scalar: str, reference: Callable[..., int], arity: int, result: str = "") -> None:
    """Run an opcode on samples of one type; `reference` works on Python integers of that type."""
    result = result or scalar
    bits = int(scalar[1:])
    arrays = [np.roll(samples(scalar), 7 * i) for i in range(arity)]
    got = run_one(opcode, [(f"b{bits}", array) for array in arrays], f"b{result[1:]}")
    for i, value in enumerate(got):
        operands = [signed(int(array[i]), scalar) for array in arrays]
        expected = reference(*operands) % (1 << int(result[1:]))
        assert int(value) == expected, f"{opcode} {operands}: {int(value):#x}, expected {expected:#x}"


def truncated_quotient(a: int, b: int) -> int:
    if b == 0:
        return -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def truncated_remainder(a: int, b: int) -> int:
    return a if b == 0 else a - b * truncated_quotient(a, b)


@pytest.mark.parametrize("scalar", TYPES)
@pytest.mark.parametrize(("name", "reference"), [
    ("add", lambda a, b: a + b),
    ("sub", lambda a, b: a - b),
    ("mul.lo", lambda a, b: a * b),
    ("div", truncated_quotient),
    ("rem", truncated_remainder),
    ("min", min),
    ("max", max),
])
def test_two_operand_arithmetic(name: str, scalar: str, reference: Callable[..., int]) -> None:
    check(f"{name}.{scalar}", scalar, reference, 2)


@pytest.mark.parametrize("scalar", TYPES)
def test_products(scalar: str) -> None:
    bits = int(scalar[1:])
    check(f"mul.hi.{scalar}", scalar, lambda a, b: (a * b) >> bits, 2)
    check(f"mad.lo.{scalar}", scalar, lambda a, b, c: a * b + c, 3)
    check(f"mad.hi.{scalar}", scalar, lambda a, b, c: ((a * b) >> bits) + c, 3)
    check(f"sad.{scalar}", scalar, lambda a, b, c: c + abs(a - b), 3)


@pytest.mark.parametrize("scalar", ["u16", "s16", "u32", "s32"])
def test_wide_products(scalar: str) -> None:
    wide = f"{scalar[0]}{2 * int(scalar[1:])}"
    check(f"mul.wide.{scalar}", scalar, lambda a, b: a * b, 2, wide)
    a, b, c = samples(scalar), np.roll(samples(scalar), 5), samples(wide)
    bits = int(scalar[1:])
    inputs = {"a": (f"b{bits}", a), "b": (f"b{bits}", b), "c": (f"b{2 * bits}", c)}
    got = run_lanes(f"mad.wide.{scalar} %d, %a, %b, %c;", inputs, {"d": f"b{2 * bits}"})["d"]
    for x, y, z, value in zip(a, b, c, got, strict=True):
        assert int(value) == (signed(int(x), scalar) * signed(int(y), scalar) + int(z)) % (1 << (2 * bits))


@pytest.mark.parametrize("scalar", ["s16", "s32", "s64"])
def test_negation_and_magnitude(scalar: str) -> None:
    check(f"neg.{scalar}", scalar, lambda a: -a, 1)
    check(f"abs.{scalar}", scalar, abs, 1)


@pytest.mark.parametrize("scalar", ["u32", "s32"])
def test_products_of_24_bits(scalar: str) -> None:
    def low24(value: int) -> int:
        value &= 0xFFFFFF
        return value - (1 << 24) if scalar == "s32" and value >> 23 else value

    check(f"mul24.lo.{scalar}", scalar, lambda a, b: low24(a) * low24(b), 2)
    check(f"mul24.hi.{scalar}", scalar, lambda a, b: (low24(a) * low24(b)) >> 16, 2)
    check(f"mad24.lo.{scalar}", scalar, lambda a, b, c: low24(a) * low24(b) + c, 3)


def test_saturating_sums() -> None:
    def clamp(value: int) -> int:
        return min(max(value, -(1 << 31)), (1 << 31) - 1)

    check("add.sat.s32", "s32", lambda a, b: clamp(a + b), 2)
    check("sub.sat.s32", "s32", lambda a, b: clamp(a - b), 2)
    check("max.relu.s32", "s32", lambda a, b: max(a, b, 0), 2)
    check("min.relu.s32", "s32", lambda a, b: max(min(a, b), 0), 2)


@pytest.mark.parametrize(("opcode", "scalar", "reference"), [
    ("add.u16x2", "u16", lambda a, b: a + b),
    ("add.s16x2", "s16", lambda a, b: a + b),
    ("min.s16x2", "s16", min),
    ("max.u16x2", "u16", max),
    ("max.relu.s16x2", "s16", lambda a, b: max(a, b, 0)),
])
def test_packed_halves_work_separately(opcode: str, scalar: str, reference: Callable[..., int]) -> None:
    a, b = samples("u32"), np.roll(samples("u32"), 3)
    got = run_one(opcode, [("b32", a), ("b32", b)], "b32")
    for x, y, value in zip(a, b, got, strict=True):
        for shift in (0, 16):
            operands = (signed(int(x) >> shift, scalar), signed(int(y) >> shift, scalar))
            assert (int(value) >> shift) & 0xFFFF == reference(*operands) % 65536


def test_carries_chain_over_words() -> None:
    a, b = samples("u64", 200), np.roll(samples("u64", 200), 9)
    body = """
        mov.b64 {%al, %ah}, %a; mov.b64 {%bl, %bh}, %b;
        add.cc.u32 %l, %al, %bl; addc.cc.u32 %h, %ah, %bh; addc.u32 %carry, 0, 0;
        mov.b64 %sum, {%l, %h};
        sub.cc.u32 %l, %al, %bl; subc.cc.u32 %h, %ah, %bh; subc.u32 %borrow, 0, 0;
        mov.b64 %difference, {%l, %h};
        mul.lo.u32 %l, %al, %bl; mul.hi.u32 %h, %al, %bl;
        mad.lo.cc.u32 %h, %al, %bh, %h; madc.hi.u32 %x, %al, %bh, 0;
        mad.lo.cc.u32 %h, %ah, %bl, %h; madc.hi.cc.u32 %x, %ah, %bl, %x;
        mov.b64 %product, {%l, %h};
    """
    got = run_lanes(
        body,
        {"a": ("b64", a), "b": ("b64", b)},
        {"sum": "b64", "carry": "b32", "difference": "b64", "borrow": "b32", "product": "b64"},
        registers=".reg .b32 %al, %ah, %bl, %bh, %l, %h, %x;",
    )
    for i in range(len(a)):
        x, y = int(a[i]), int(b[i])
        assert int(got["sum"][i]) + (int(got["carry"][i]) << 64) == x + y
        assert int(got["difference"][i]) == (x - y) % (1 << 64)
        assert int(got["borrow"][i]) == (0xFFFF_FFFF if x < y else 0)
        assert int(got["product"][i]) == x * y % (1 << 64)


def test_dot_product_of_bytes() -> None:
    def part(value: int, lane: int, kind: str) -> int:
        return signed(value >> (8 * lane), f"{kind[0]}8")

    for kinds in (("u32", "u32"), ("s32", "s32"), ("s32", "u32")):
        check(
            f"dp4a.{kinds[0]}.{kinds[1]}",
            "u32",
            lambda a, b, c, kinds=kinds: c + sum(part(a, i, kinds[0]) * part(b, i, kinds[1]) for i in range(4)),
            3,
        )


def test_dot_product_of_halves_and_bytes() -> None:
    def reference(a: int, b: int, c: int, start: int) -> int:
        halves = [signed(a >> (16 * i), "s16") for i in range(2)]
        octets = [b >> (8 * (start + i)) & 255 for i in range(2)]
        return c + sum(x * y for x, y in zip(halves, octets, strict=True))

    check("dp2a.lo.s32.u32", "u32", lambda a, b, c: reference(a, b, c, 0), 3)
    check("dp2a.hi.s32.u32", "u32", lambda a, b, c: reference(a, b, c, 2), 3)


@pytest.mark.parametrize("scalar", TYPES)
def test_comparisons_and_selection(scalar: str) -> None:
    references: dict[str, Callable[[int, int], bool]] = {
        "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    }
    a, b = samples(scalar), np.roll(samples(scalar), 1)
    bits = int(scalar[1:])
    for name, reference in references.items():
        got = run_lanes(
            f"setp.{name}.{scalar} %p|%q, %a, %b; selp.b32 %d, 5, 9, %p; selp.b32 %e, 5, 9, %q;"
            f"set.{name}.u32.{scalar} %s, %a, %b;",
            {"a": (f"b{bits}", a), "b": (f"b{bits}", b)},
            {"d": "b32", "e": "b32", "s": "b32"},
            registers=".reg .pred %p, %q;",
        )
        for i in range(len(a)):
            holds = reference(signed(int(a[i]), scalar), signed(int(b[i]), scalar))
            assert (got["d"][i], got["e"][i]) == ((5, 9) if holds else (9, 5)), (name, a[i], b[i])
            assert got["s"][i] == (0xFFFF_FFFF if holds else 0)


def test_a_comparison_combines_with_a_predicate() -> None:
    a = np.arange(8, dtype=np.uint32)
    body = """
        setp.ge.u32 %r, %a, 4;
        setp.lt.and.u32 %p|%q, %a, 6, %r; selp.b32 %both, 1, 0, %p; selp.b32 %other, 1, 0, %q;
        setp.lt.or.u32 %p, %a, 2, %r; selp.b32 %either, 1, 0, %p;
        setp.lt.xor.u32 %p, %a, 6, !%r; selp.b32 %one, 1, 0, %p;
    """
    got = run_lanes(body, {"a": ("b32", a)}, {"both": "b32", "other": "b32", "either": "b32", "one": "b32"},
                    registers=".reg .pred %p, %q, %r;")
    np.testing.assert_array_equal(got["both"], (a < 6) & (a >= 4))
    np.testing.assert_array_equal(got["other"], (a >= 6) & (a >= 4))
    np.testing.assert_array_equal(got["either"], (a < 2) | (a >= 4))
    np.testing.assert_array_equal(got["one"], (a < 6) ^ (a < 4))


def test_moves_pack_and_unpack() -> None:
    a = samples("u64")
    body = """
        mov.b64 {%l, %h}, %a; mov.b32 {%x, %y}, %l;
        mov.b32 %swapped, {%y, %x}; mov.b64 %d, {%h, %l};
        mov.b64 {_, %high}, %a;
    """
    got = run_lanes(body, {"a": ("b64", a)}, {"swapped": "b32", "d": "b64", "high": "b32"},
                    registers=".reg .b32 %l, %h; .reg .b16 %x, %y;")
    for i, value in enumerate(int(v) for v in a):
        low, high = value & 0xFFFF_FFFF, value >> 32
        assert int(got["swapped"][i]) == (low >> 16) | ((low & 0xFFFF) << 16)
        assert int(got["d"][i]) == (low << 32) | high
        assert int(got["high"][i]) == high


def test_guards_leave_other_lanes_alone() -> None:
    a = np.arange(64, dtype=np.uint32)
    body = "setp.lt.u32 %p, %a, 10; mov.u32 %d, 1; @%p mov.u32 %d, 2; @!%p add.u32 %d, %d, 6;"
    got = run_lanes(body, {"a": ("b32", a)}, {"d": "b32"}, registers=".reg .pred %p;")["d"]
    np.testing.assert_array_equal(got, np.where(a < 10, 2, 7))


def test_sign_selection() -> None:
    a = np.array([1, 2, 3], np.uint32)
    sign = np.array([-1, 0, 5], np.int32)
    got = run_lanes("slct.b32.s32 %d, %a, 77, %c;", {"a": ("b32", a), "c": ("b32", sign)}, {"d": "b32"})["d"]
    np.testing.assert_array_equal(got, [77, 2, 3])
