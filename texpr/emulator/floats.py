"""Floating-point formats and exact rounding.

A `FloatFormat` turns values into bit patterns with any PTX rounding mode and back.  Values travel as float64,
which holds every finite value of the smaller formats exactly; where a result is not exact in float64 it is first
rounded *to odd* (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008), after which a second
rounding to a format with at least two bits less gives the correctly rounded result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.rows import Array

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """An IEEE-like format; `mantissa` counts explicit bits, `dropped` the unused low bits of its storage (tf32).

    `overflow` is the pattern that too large values round to: infinity, or NaN where there is none (e4m3).
    """

    name: str
    exponent: int
    mantissa: int
    storage: np.dtype[Any]
    largest: int
    overflow: int
    nan: int
    dropped: int = 0

    @property
    def smallest_exponent(self) -> int:
        """Exponent of the smallest normal number."""
        return 2 - (1 << (self.exponent - 1))

    @property
    def sign(self) -> int:
        return 1 << (self.exponent + self.mantissa + self.dropped)

    @property
    def one(self) -> int:
        """The bit pattern of 1.0."""
        return ((1 << (self.exponent - 1)) - 1) << (self.mantissa + self.dropped)

    def encode(self, value: Array, rounding: str = "rn", *, saturate: bool = False, relu: bool = False) -> Array:
        """Bit patterns of float64 values; rounding is one of rn, rna, rz, rm, rp.

        `saturate`: beyond the largest finite value (infinities too) give that value; `relu`: negatives give +0.
        """
        value = np.asarray(value, np.float64)
        magnitude = np.abs(value)
        negative = np.signbit(value)
        exponent = np.maximum(np.frexp(magnitude)[1] - 1, self.smallest_exponent)
        exponent = np.where(magnitude == 0, self.smallest_exponent, exponent)
        finite = np.isfinite(magnitude)
        scaled = np.ldexp(np.where(finite, magnitude, 0.0), self.mantissa - exponent)
        units = _round_integer(scaled, rounding, negative)
        bits = ((exponent - self.smallest_exponent).astype(np.int64) << self.mantissa) + units.astype(np.int64)
        too_large = bits > self.largest
        clamps = (rounding == "rz") | ((rounding == "rm") & ~negative) | ((rounding == "rp") & negative)
        limit = self.largest if saturate else np.where(clamps & finite, self.largest, self.overflow)
        bits = np.where(too_large | np.isinf(value), limit, bits) << self.dropped
        bits = np.where(negative, bits | self.sign, bits)
        if relu:
            bits = np.where(negative, 0, bits)
        return np.where(np.isnan(value), self.nan, bits).astype(self.storage)

    def decode(self, bits: Array) -> Array:
        """Values of bit patterns, as float32 (float64 for f64)."""
        bits = np.asarray(bits)
        match self.name:
            case "f32":
                return bits.view(np.float32)
            case "f64":
                return bits.view(np.float64)
            case "f16":
                return bits.view(np.float16).astype(np.float32)
            case "bf16":
                return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
            case "tf32":
                return (bits & np.uint32(0xFFFF_E000)).view(np.float32)
            case _:
                return _BYTE_VALUES[self.name][bits]


def _round_integer(scaled: F64, rounding: str, negative: Array) -> F64:
    """Round non-negative values to integers; the directed modes look at the sign of the original."""
    floor = np.floor(scaled)
    match rounding:
        case "rn":
            return np.rint(scaled)
        case "rna":
            return floor + (scaled - floor >= 0.5)
        case "rz":
            return floor
        case "rm":
            return np.where(negative, np.ceil(scaled), floor)
        case "rp":
            return np.where(negative, floor, np.ceil(scaled))
        case _:
            raise ValueError(f"rounding mode {rounding!r}")


def _format(name: str, exponent: int, mantissa: int, storage: str, nan: int, dropped: int = 0) -> FloatFormat:
    infinity = ((1 << exponent) - 1) << mantissa
    return FloatFormat(name, exponent, mantissa, np.dtype(storage), infinity - 1, infinity, nan, dropped)


FORMATS: dict[str, FloatFormat] = {
    "f16": _format("f16", 5, 10, "u2", 0x7FFF),
    "bf16": _format("bf16", 8, 7, "u2", 0x7FFF),
    "tf32": _format("tf32", 8, 10, "u4", 0x7FFF_FFFF, dropped=13),
    "f32": _format("f32", 8, 23, "u4", 0x7FFF_FFFF),
    "e5m2": _format("e5m2", 5, 2, "u1", 0x7F),
    # e4m3 has no infinity: the pattern after the largest value (448) is NaN.
    "e4m3": FloatFormat("e4m3", 4, 3, np.dtype("u1"), 0x7E, 0x7F, 0x7F),
}


def _byte_values(form: FloatFormat) -> NDArray[np.float32]:
    """The value of each of the 256 patterns of an 8-bit format."""
    bits = np.arange(256)
    exponent = (bits & 0x7F) >> form.mantissa
    fraction = bits & ((1 << form.mantissa) - 1)
    implicit = np.where(exponent > 0, 1 << form.mantissa, 0)
    scale = np.maximum(exponent, 1) - 1 + form.smallest_exponent - form.mantissa
    value = np.ldexp((implicit + fraction).astype(np.float64), scale)
    magnitude = bits & 0x7F
    infinite = (form.overflow != form.nan) & (magnitude == form.overflow)
    value = np.where(infinite, np.inf, np.where(magnitude > form.largest, np.nan, value))
    return np.where(bits & 0x80, -value, value).astype(np.float32)


_BYTE_VALUES: dict[str, NDArray[np.float32]] = {name: _byte_values(FORMATS[name]) for name in ("e4m3", "e5m2")}


def bf16_bits(value: Array) -> Array:
    """float32 -> bf16, to nearest even: the fast path of `FORMATS["bf16"].encode`."""
    bits = np.asarray(value).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    # NaNs would carry into the sign or become infinities.
    return np.where(np.isnan(value), np.uint32(0x7FFF), rounded).astype(np.uint16)


def flush_subnormals(value: Array) -> Array:
    """The .ftz modifier: subnormal float32 become zeros of the same sign; other types are left alone."""
    if value.dtype == np.float16:
        small = (np.abs(value) < np.finfo(np.float16).smallest_normal) & (value != 0)
        return np.where(small, np.copysign(np.float16(0), value), value) if small.any() else value
    if value.dtype != np.float32:
        return value
    bits = value.view(np.uint32)
    zero_exponent = (bits & np.uint32(0x7F80_0000)) == 0
    if not zero_exponent.any():
        return value
    return np.where(zero_exponent, bits & np.uint32(0x8000_0000), bits).view(np.float32)


def to_odd(value: F64, error: F64) -> F64:
    """Round to odd: `value` is a float64 sum rounded to nearest whose exact value is value + error."""
    bits = value.view(np.int64)
    even = (bits & 1) == 0
    grows = (error > 0) == (value > 0)
    moved = np.where(grows, bits + 1, bits - 1)
    inexact = (error != 0) & np.isfinite(value) & np.isfinite(error)
    return np.where(inexact & even, moved, bits).view(np.float64)


def two_sum(a: F64, b: F64) -> tuple[F64, F64]:
    """a + b rounded, and the rounding error, exactly (Knuth)."""
    total = a + b
    from_b = total - a
    return total, (a - (total - from_b)) + (b - from_b)


def two_product(a: F64, b: F64) -> tuple[F64, F64]:
    """a * b rounded, and the rounding error, exactly while nothing over- or underflows (Dekker, Veltkamp)."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _split(value: F64) -> tuple[F64, F64]:
    scaled = value * 134217729.0
    high = scaled - (scaled - value)
    return high, value - high


def direct(value: F64, error: F64, rounding: str) -> F64:
    """Turn a float64 rounded to nearest into one rounded as told; its exact value is value + error."""
    match rounding:
        case "rz":
            towards = np.where((error < 0) == (value < 0), value, 0.0)
        case "rm":
            towards = np.where(error < 0, -np.inf, value)
        case "rp":
            towards = np.where(error > 0, np.inf, value)
        case _:
            towards = value
    exact = (error == 0) | ~np.isfinite(value) | ~np.isfinite(error)
    return np.where(exact, value, np.nextafter(value, towards))


def sum_odd(a: Array, b: Array) -> F64:
    """a + b in float64, rounded to odd."""
    total, error = two_sum(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return to_odd(np.atleast_1d(total), np.atleast_1d(error))


def fma_odd(a: Array, b: Array, c: Array) -> F64:
    """a * b + c in float64, rounded to odd, for factors of at most 26 bits (their product is exact)."""
    return sum_odd(np.asarray(a, np.float64) * np.asarray(b, np.float64), c)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """float32 fused multiply-add, correctly rounded to nearest.

    The float64 sum is off only if it was inexact and lies on a float32 rounding boundary; that is rare, so the
    exact path runs only where a sum's low bits say that it might be one.
    """
    total = np.multiply(a, b, dtype=np.float64) + c
    low = total.view(np.int64) & 0x1FFF_FFFF
    doubtful = (low == 0x1000_0000) | (np.abs(total) < 2.0**-120)
    if doubtful.any():
        total = np.where(doubtful, fma_odd(a, b, c), total)
    return total.astype(np.float32)


def _fma_parts(a: F64, b: F64, c: F64) -> tuple[F64, F64]:
    """a * b + c as the sum of two float64, the second rounded to odd."""
    product, product_error = two_product(a, b)
    upper, lower = two_sum(c, product_error)
    high, low = two_sum(product, upper)
    return high, to_odd(*two_sum(low, lower))


def fma64(a: F64, b: F64, c: F64) -> F64:
    """float64 fused multiply-add, correctly rounded to nearest (Boldo and Melquiond's algorithm)."""
    high, rest = _fma_parts(a, b, c)
    result = high + rest
    safe = in_safe_range(a, b, c)
    if safe.all():
        return result
    return by_rationals(lambda x, y, z: x * y + z, result, safe, (a, b, c), "rn", plain_fma(a, b, c))


def plain_fma(a: F64, b: F64, c: F64) -> F64:
    """a * b + c with two roundings, right for infinities: a product of finite factors is not infinite."""
    addend_wins = np.isfinite(a) & np.isfinite(b) & ~np.isfinite(c)
    return np.where(addend_wins, c, a * b + c)


def in_safe_range(*values: F64) -> Array:
    """Where the error terms of sums and products of these values can neither over- nor underflow."""
    safe = np.array(True)
    for value in values:
        magnitude = np.abs(value)
        safe = safe & (((magnitude > 2.0**-400) & (magnitude < 2.0**400)) | (magnitude == 0))
    return safe


def by_rationals(
    operation: Callable[..., Fraction],
    result: F64,
    safe: Array,
    values: tuple[F64, ...],
    rounding: str,
    special: F64,
) -> F64:
    """Recompute results that are not `safe` in rational arithmetic.

    `special` is what floating point gives: it is right where an operand is not finite or the result is zero.
    """
    exact = np.array(np.broadcast_to(result, safe.shape))
    spread = [np.broadcast_to(value, safe.shape) for value in values]
    for lane in np.flatnonzero(~safe):
        operands = [float(value[lane]) for value in spread]
        plain = float(np.broadcast_to(special, safe.shape)[lane])
        if not all(np.isfinite(operands)):
            exact[lane] = plain
            continue
        try:
            value = operation(*(Fraction(operand) for operand in operands))
        except ZeroDivisionError:
            exact[lane] = plain
            continue
        exact[lane] = plain if value == 0 else round_rational(value, rounding)
    return exact


def round_rational(value: Fraction, rounding: str) -> float:
    """A non-zero rational as a float64, rounded once."""
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, -1022) - 52)
    units, rest = divmod(magnitude, quantum)
    up = {
        "rn": rest * 2 > quantum or (rest * 2 == quantum and units % 2 == 1),
        "rz": False,
        "rm": value < 0 and rest > 0,
        "rp": value > 0 and rest > 0,
    }[rounding]
    rounded = (units + up) * quantum
    largest = Fraction(np.finfo(np.float64).max)
    if rounded > largest:
        away = rounding == ("rp" if value > 0 else "rm")
        to_infinity = rounding == "rn" or away
        rounded_float = float("inf") if to_infinity else float(largest)
    else:
        rounded_float = float(rounded)
    return -rounded_float if value < 0 else rounded_float
