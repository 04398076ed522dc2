"""Integer expressions as code: evaluated with Triton's truncating division and 32-bit overflow, they equal the
mathematical value."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from texpr.gluon.integers import Symbols, narrow_text, range_of, wide_text
from texpr.math.expr import IntExpr, const, evaluate, maximum, minimum, sym
from texpr.math.intervals import Bounds


@dataclass(frozen=True)
class Value:
    """A Triton integer: wraps at its width, divides toward zero; a Python number takes the other operand's width."""

    value: int
    bits: int = 32

    def to(self, bits: int) -> Value:
        return Value(self.value, bits)

    def _with(self, other: Value | int, result: int) -> Value:
        bits = self.bits if isinstance(other, int) else max(self.bits, other.bits)
        half = 1 << (bits - 1)
        assert -half <= result < half, f"overflow of {bits} bits: {result}"
        return Value(result, bits)

    def __add__(self, other: Value | int) -> Value:
        return self._with(other, self.value + number(other))

    def __sub__(self, other: Value | int) -> Value:
        return self._with(other, self.value - number(other))

    def __mul__(self, other: Value | int) -> Value:
        return self._with(other, self.value * number(other))

    def __neg__(self) -> Value:
        return Value(-self.value, self.bits)

    def __radd__(self, other: int) -> Value:
        return self + other

    def __rmul__(self, other: int) -> Value:
        return self * other

    def __rsub__(self, other: int) -> Value:
        return -self + other

    def __floordiv__(self, other: Value | int) -> Value:
        quotient = abs(self.value) // abs(number(other))
        return self._with(other, quotient if (self.value < 0) == (number(other) < 0) else -quotient)

    def __mod__(self, other: Value | int) -> Value:
        return self - self // other * other

    def __rfloordiv__(self, other: int) -> Value:
        return Value(other, self.bits) // self

    def __rmod__(self, other: int) -> Value:
        return Value(other, self.bits) % self

    def __rshift__(self, other: int) -> Value:
        return Value(self.value >> other, self.bits)

    def __and__(self, other: int) -> Value:
        return Value(self.value & other, self.bits)


def number(value: Value | int) -> int:
    return value if isinstance(value, int) else value.value


def joined(a: Value | int, b: Value | int, result: int) -> Value:
    return Value(result, max([v.bits for v in (a, b) if isinstance(v, Value)], default=32))


class Gluon:
    """The part of ``gl`` that integer code uses."""

    int64 = 64

    @staticmethod
    def minimum(a: Value | int, b: Value | int) -> Value:
        return joined(a, b, min(number(a), number(b)))

    @staticmethod
    def maximum(a: Value | int, b: Value | int) -> Value:
        return joined(a, b, max(number(a), number(b)))

    @staticmethod
    def cdiv(a: Value | int, b: Value | int) -> Value:
        assert number(a) >= 0 and number(b) > 0
        return joined(a, b, -(-number(a) // number(b)))


HELPERS = {
    "floor_div": lambda a, b: joined(a, b, number(a) // number(b)),
    "floor_mod": lambda a, b: joined(a, b, number(a) % number(b)),
}

# M and K are sizes, i and p what a program computed, s a counter of an unrolled loop, d may be negative.
RANGES = {"d": Bounds(-1000, 1000), "s": Bounds(0, 7)}


def symbols() -> Symbols:
    return Symbols(
        names={name: name for name in "MKipsd"},
        ranges=RANGES,
        static=frozenset("s"),
        parameters=frozenset("MK"),
        find=lambda e: None,
        helper=lambda name: name,
    )


def run(code: str, values: dict[str, int], static: frozenset[str] = frozenset("s")) -> Value | int:
    scope = {name: value if name in static else Value(value) for name, value in values.items()}
    return eval(code, {"gl": Gluon, **HELPERS}, scope)  # type: ignore[no-any-return]


def random_expr(rng: random.Random, depth: int) -> IntExpr:
    if depth == 0:
        return rng.choice([*(sym(name) for name in "MKipsd"), const(rng.randrange(-5, 20))])
    a, b = random_expr(rng, depth - 1), random_expr(rng, depth - 1)
    divisor = rng.choice([const(rng.randrange(1, 9)), const(8), const(16), maximum(sym(rng.choice("MK")), 1)])
    match rng.randrange(7):
        case 0 | 1:
            return a + b
        case 2:
            return a - b
        case 3:
            return a * rng.choice([const(rng.randrange(-3, 9)), sym(rng.choice("MKip"))])
        case 4:
            return rng.choice([a // divisor, -(-a // divisor)])
        case 5:
            return a % divisor
        case _:
            return rng.choice([minimum(a, b), maximum(a, b)])


@pytest.mark.parametrize("seed", range(6))
def test_random_expressions_mean_what_they_say(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        e = random_expr(rng, 3)
        values = {name: rng.randrange(0, 60) for name in "MKip"} | {"s": rng.randrange(8), "d": rng.randrange(-60, 60)}
        want = evaluate(e, values)
        for text in (narrow_text(e, symbols()), wide_text(e, symbols())):
            assert number(run(text.code, values)) == want, (str(e), text.code, values)
        inside = range_of(e, RANGES)
        assert (inside.lo is None or inside.lo <= want) and (inside.hi is None or want <= inside.hi), str(e)


def test_wide_offsets_do_not_overflow_on_the_way() -> None:
    M, K, i, p = (sym(name) for name in "MKip")
    huge = {"M": 60_000, "K": 50_000, "i": 59_000, "p": 58_000, "s": 3, "d": 0}
    for e in (i * K + p, (i * M + p) * K + 7, i * 128 * K - p, M * K * i // 3 + p, i * K + p * M):
        result = run(wide_text(e, symbols()).code, huge)
        assert isinstance(result, Value) and result.bits == 64 and result.value == evaluate(e, huge), str(e)


@pytest.mark.parametrize(
    "expr, narrow, wide",
    [
        (sym("i") * sym("K") + sym("p"), "i * K + p", "i.to(gl.int64) * K + p"),
        ((sym("i") * sym("M") + sym("p") - 1) * sym("K"), None, "(i.to(gl.int64) * M + p - 1) * K"),
        ((sym("M") + 31) // 32, "(M + 31) // 32", "((M + 31) // 32).to(gl.int64)"),
        (sym("d") // 16, "d >> 4", "(d >> 4).to(gl.int64)"),
        (sym("d") % 16, "d & 15", "(d & 15).to(gl.int64)"),
        (sym("d") // sym("M"), "floor_div(d, M)", None),
        (-(-sym("M") // sym("K")), "gl.cdiv(M, K)", "gl.cdiv(M, K).to(gl.int64)"),
        ((sym("p") + 3) % 4, "(p + 3) % 4", None),
        (sym("s") * 32 + sym("i"), "i + s * 32", "i.to(gl.int64) + s * 32"),
        (sym("p") * 32 + 96, "(p + 3) * 32", "(p.to(gl.int64) + 3) * 32"),
    ],
)
def test_readable_forms(expr: IntExpr, narrow: str | None, wide: str | None) -> None:
    if narrow is not None:
        assert narrow_text(expr, symbols()).code == narrow
    if wide is not None:
        assert wide_text(expr, symbols()).code == wide
