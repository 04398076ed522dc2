"""Floating-point formats as exact numbers: decoding to fractions, and rounding once to a format in any mode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Number:
    """A float: sign and magnitude; the magnitude is None for a NaN and math.inf for infinity."""

    negative: bool
    size: Fraction | float | None

    @property
    def nan(self) -> bool:
        return self.size is None

    @property
    def infinite(self) -> bool:
        return isinstance(self.size, float)

    @property
    def zero(self) -> bool:
        return self.size is not None and not self.size

    @property
    def exact(self) -> Fraction:
        """The value of a finite number."""
        assert isinstance(self.size, Fraction)
        return -self.size if self.negative else self.size


NAN = Number(False, None)


def number(exact: Fraction) -> Number:
    return Number(exact < 0, abs(exact))


@dataclass(frozen=True)
class Format:
    """`infinity`: whether the largest exponent means infinities and NaNs (else only all ones is NaN)."""

    name: str
    exponent: int
    mantissa: int
    infinity: bool = True
    dropped: int = 0

    @property
    def width(self) -> int:
        return 1 + self.exponent + self.mantissa + self.dropped

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def sign(self) -> int:
        return 1 << (self.width - 1)

    @property
    def overflow(self) -> int:
        """The pattern behind the largest finite one."""
        field, mantissa = (1 << self.exponent) - 1, (1 << self.mantissa) - 1
        return (field << self.mantissa if self.infinity else field << self.mantissa | mantissa) << self.dropped

    @cache  # noqa: B019 (the formats are constants)
    def decode(self, bits: int) -> Number:
        negative, magnitude = bool(bits & self.sign), (bits & (self.sign - 1)) >> self.dropped
        overflow = self.overflow >> self.dropped
        if magnitude >= overflow:
            return Number(negative, math.inf if self.infinity and magnitude == overflow else None)
        field, fraction = magnitude >> self.mantissa, magnitude & ((1 << self.mantissa) - 1)
        significand = fraction + ((1 << self.mantissa) if field else 0)
        power = max(field, 1) - self.bias - self.mantissa
        return Number(negative, Fraction(significand) * Fraction(2) ** power)

    def encode(self, value: Number, mode: str = "rn", *, saturate: bool = False, relu: bool = False) -> int:
        """The pattern that a number rounds to; `saturate`: no infinities; `relu`: nothing negative."""
        if value.nan:
            return self.sign - 1
        if relu and value.negative:
            return 0
        sign = self.sign if value.negative else 0
        largest = self.overflow - (1 << self.dropped)
        if value.infinite:
            return (largest if saturate else self.overflow) | sign
        assert isinstance(value.size, Fraction)
        bits = self._round(value.size, mode, value.negative)
        if bits > largest:
            up = mode in ("rn", "rna") or mode == ("rm" if value.negative else "rp")
            bits = self.overflow if up and not saturate else largest
        return bits | sign

    def _round(self, size: Fraction, mode: str, negative: bool) -> int:
        """The pattern of a magnitude, as if exponents had no end."""
        if not size:
            return 0
        power = size.numerator.bit_length() - size.denominator.bit_length()
        below = (size.numerator << max(-power, 0)) < (size.denominator << max(power, 0))
        power -= below
        power = max(power, 1 - self.bias)
        shift = power - self.mantissa
        top, bottom = (size.numerator << max(-shift, 0)), (size.denominator << max(shift, 0))
        units, rest = divmod(top, bottom)
        up = {
            "rn": 2 * rest > bottom or (2 * rest == bottom and units % 2 == 1),
            "rna": 2 * rest >= bottom,
            "rz": False,
            "rm": negative and rest > 0,
            "rp": not negative and rest > 0,
        }[mode]
        units += up
        # A significand that reaches the next power of two carries into the exponent field by itself.
        return ((power + self.bias - 1 << self.mantissa) + units) << self.dropped

    def flush(self, bits: int) -> int:
        """Subnormals to zero, keeping the sign."""
        return bits if (bits & self.sign - 1) >> self.mantissa + self.dropped else bits & self.sign


FORMATS = {
    form.name: form
    for form in (
        Format("f16", 5, 10),
        Format("bf16", 8, 7),
        Format("f32", 8, 23),
        Format("f64", 11, 52),
        Format("e5m2", 5, 2),
        Format("e4m3", 4, 3, infinity=False),
        Format("tf32", 8, 10, dropped=13),
    )
}
F16, BF16, F32, F64 = (FORMATS[name] for name in ("f16", "bf16", "f32", "f64"))


def storage(bits: int) -> np.dtype[np.generic]:
    return np.dtype(f"u{max(bits // 8, 1)}")


def patterns(form: Format, count: int, seed: int) -> Array:
    """Awkward patterns of a format: zeros, infinities, NaNs, subnormals, extremes, near one, random."""
    rng = np.random.default_rng(seed)
    one = form.bias << form.mantissa + form.dropped
    step = 1 << form.dropped
    least = 1 << form.mantissa + form.dropped
    special = [
        0,
        one,
        one + step,
        one - step,
        one * 2 - one + least,
        step,
        least - step,
        least,
        least + step,
        form.overflow - step,
        form.overflow,
        form.sign - 1,
        one - least,
        one + least // 2,
        one + 3 * least,
    ]
    special += [bits | form.sign for bits in special]
    usual = one - 6 * least if form.exponent > 5 else one - 3 * least
    negative = rng.integers(0, 2, count // 2).tolist()
    near = [
        int(x) | sign * form.sign
        for x, sign in zip(rng.integers(usual, 2 * one - usual, count // 2), negative, strict=True)
    ]
    anything = rng.integers(0, form.sign - 1, count // 2, dtype=np.uint64, endpoint=True)
    signs = rng.integers(0, 2, count // 2).astype(np.uint64) * np.uint64(form.sign)
    every = [*special, *near, *(int(x) for x in anything | signs)]
    every = [x >> form.dropped << form.dropped for x in every] if form.dropped else every
    return np.array(every[:count] if count < len(special) else every, dtype=storage(form.width))


# Exact arithmetic with the IEEE rules for zeros, infinities and NaNs ------------------------------------------------


def add(a: Number, b: Number, mode: str = "rn") -> Number:
    if a.nan or b.nan or (a.infinite and b.infinite and a.negative != b.negative):
        return NAN
    if a.infinite or b.infinite:
        return a if a.infinite else b
    total = a.exact + b.exact
    if total == 0:
        both = a.zero and b.zero and a.negative == b.negative
        return Number(a.negative if both else mode == "rm", Fraction(0))
    return number(total)


def negate(a: Number) -> Number:
    return Number(not a.negative, a.size)


def multiply(a: Number, b: Number) -> Number:
    if a.nan or b.nan or (a.infinite and b.zero) or (a.zero and b.infinite):
        return NAN
    negative = a.negative != b.negative
    if a.infinite or b.infinite:
        return Number(negative, math.inf)
    assert isinstance(a.size, Fraction) and isinstance(b.size, Fraction)
    return Number(negative, a.size * b.size)


def divide(a: Number, b: Number) -> Number:
    if a.nan or b.nan or (a.infinite and b.infinite) or (a.zero and b.zero):
        return NAN
    negative = a.negative != b.negative
    if a.infinite or b.zero:
        return Number(negative, math.inf)
    if b.infinite:
        return Number(negative, Fraction(0))
    assert isinstance(a.size, Fraction) and isinstance(b.size, Fraction)
    return Number(negative, a.size / b.size)


def fused(a: Number, b: Number, c: Number, mode: str = "rn") -> Number:
    return add(multiply(a, b), c, mode)


def root(a: Number) -> Number:
    """The square root to 200 bits, with a last bit that says whether more follows."""
    if a.nan or (a.negative and not a.zero):
        return NAN
    if a.zero or a.infinite:
        return a
    assert isinstance(a.size, Fraction)
    scale = 2 * (200 + a.size.denominator.bit_length())
    whole, rest = divmod(a.size * (1 << scale), 1)
    square = math.isqrt(whole)
    sticky = square * square != whole or rest != 0
    return Number(False, Fraction(2 * square + sticky, 2 << scale // 2))
