"""cvt: conversions between all integer and floating-point formats, exact in every rounding mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from texpr.emulator.floats import F64, FORMATS, bf16_bits, direct, flush_subnormals, to_odd, two_sum
from texpr.emulator.rows import Array, ArrayFunction, Modifiers, Row, family
from texpr.emulator.types import TYPES, Kind, ScalarType

_INTEGER_ROUNDING: dict[str, np.ufunc] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def to_float64(source: Array, scalar: ScalarType) -> Array:
    """Values as float64; 64-bit integers that do not fit are rounded to odd, so that a later rounding is exact."""
    if scalar.kind is Kind.ENCODED:
        return FORMATS[scalar.name].decode(source).astype(np.float64)
    if scalar.kind is Kind.FLOAT or scalar.bytes < 8:
        return np.asarray(source).astype(np.float64)
    return to_odd(*two_sum(*_halves(source)))


def _halves(source: Array) -> tuple[F64, F64]:
    """The upper and the lower part of 64-bit integers, each exact."""
    values = np.atleast_1d(source)
    low = (values & values.dtype.type(0xFFFF_FFFF)).astype(np.float64)
    high = (values >> values.dtype.type(32)).astype(np.float64) * 2.0**32
    return high, low


def from_float64(value: Array, scalar: ScalarType, rounding: str, **options: bool) -> Array:
    """float64 -> a float type, rounded once."""
    if scalar.name == "f64":
        return value
    bits = FORMATS[scalar.name].encode(value, rounding, **options)
    return bits if scalar.kind is Kind.ENCODED else bits.view(scalar.dtype)


# Integers ---------------------------------------------------------------------------------------------------


def _integer_to_integer(modifiers: Modifiers) -> ArrayFunction:
    """Truncate or extend by the source's sign; .sat clamps to the destination's range instead."""
    given, to = modifiers.type("from"), modifiers.type("to")
    if "sat" not in modifiers:
        return lambda a: np.asarray(a).astype(to.dtype)
    low = max(to.integer_limits[0], given.integer_limits[0])
    high = min(to.integer_limits[1], given.integer_limits[1])
    return lambda a: np.clip(a, given.dtype.type(low), given.dtype.type(high)).astype(to.dtype)


def _float_to_integer(modifiers: Modifiers) -> ArrayFunction:
    """Round as told, clamp to the range; NaN gives 0, or the top bit alone when 64-bit types are involved."""
    given, to = modifiers.type("from"), modifiers.type("to")
    rounding = _INTEGER_ROUNDING[modifiers["rnd"]]
    lowest, highest = to.integer_limits
    wide = given.name == "f64" or to.bytes == 8
    nan = np.array(1 << (to.bits - 1), np.uint64).astype(to.dtype) if wide else to.dtype.type(0)
    # The first values out of range; both are powers of two (or zero) and so exact in float64.
    above = float(highest + 1)
    below = float(lowest)

    def run(a: Array) -> Array:
        if "ftz" in modifiers and given.name == "f32":
            a = flush_subnormals(a)
        value = rounding(to_float64(a, given))
        inside = (value < above) & (value >= below)
        result = np.where(inside, value, 0.0).astype(to.dtype)
        result = np.where(value >= above, to.dtype.type(highest), result)
        result = np.where(value < below, to.dtype.type(lowest), result)
        return np.where(np.isnan(value), nan, result)

    return run


def _integer_to_float(modifiers: Modifiers) -> ArrayFunction:
    given, to = modifiers.type("from"), modifiers.type("to")
    rounding = modifiers["rnd"]
    if rounding == "rn" and to.name in ("f32", "f64"):
        return lambda a: np.asarray(a).astype(to.dtype)
    if to.name == "f64" and given.bytes == 8:
        return lambda a: direct(*two_sum(*_halves(a)), rounding)
    return lambda a: from_float64(to_float64(a, given), to, rounding)


# Floats -----------------------------------------------------------------------------------------------------


def _float_to_float(modifiers: Modifiers) -> ArrayFunction:
    """Between float types of one element per register; .rni and its kin round to an integral value."""
    given, to = modifiers.type("from"), modifiers.type("to")
    rounding = modifiers.get("rnd", "rn")
    fast = _fast_conversion(given, to, rounding)
    flush = "ftz" in modifiers
    saturate = "sat" in modifiers

    def run(a: Array) -> Array:
        if flush and given.name == "f32":
            a = flush_subnormals(a)
        if fast is not None:
            result = fast(a)
        else:
            value = to_float64(a, given)
            if rounding in _INTEGER_ROUNDING:
                value = _INTEGER_ROUNDING[rounding](value)
            mode = "rn" if rounding in _INTEGER_ROUNDING else rounding
            result = from_float64(value, to, mode)
        if saturate:
            zero, one = result.dtype.type(0), result.dtype.type(1)
            result = np.where(result > zero, np.minimum(result, one), zero)
        return flush_subnormals(result) if flush and to.name == "f32" else result

    return run


def _fast_conversion(given: ScalarType, to: ScalarType, rounding: str) -> ArrayFunction | None:
    """Conversions that NumPy or a bit trick gets exactly right (apart from NaN payloads)."""
    if given is to and rounding in _INTEGER_ROUNDING and given.kind is Kind.FLOAT:
        return _INTEGER_ROUNDING[rounding]
    if rounding != "rn":
        return None
    if given.kind is Kind.FLOAT and to.kind is Kind.FLOAT:
        return lambda a: np.asarray(a).astype(to.dtype)
    if given.name == "f32" and to.name == "bf16":
        return bf16_bits
    if given.name == "bf16" and to.name == "f32":
        return FORMATS["bf16"].decode
    return None


def _narrowing(modifiers: Modifiers) -> ArrayFunction:
    """One float32 to f16, bf16 or tf32 with .relu and .satfinite."""
    to = modifiers.type("to")
    encode = _encoder(to.name, modifiers)
    return lambda a: encode(a).view(to.dtype)


def _encoder(name: str, modifiers: Modifiers) -> ArrayFunction:
    rounding = modifiers.get("rnd", "rn")
    saturate, relu = "satfinite" in modifiers, "relu" in modifiers
    form = FORMATS[name]
    if rounding == "rn" and not (saturate or relu):
        if name == "bf16":
            return bf16_bits
        if name == "f16":
            return lambda a: np.asarray(a).astype(np.float16).view(np.uint16)
    return lambda a: form.encode(np.asarray(a, np.float64), rounding, saturate=saturate, relu=relu)


def _pack_two(modifiers: Modifiers) -> ArrayFunction:
    """Two float32 to a packed pair: the first operand becomes the upper half."""
    to = modifiers.type("to")
    encode = _encoder(to.name.removesuffix("x2"), modifiers)

    def run(upper: Array, lower: Array) -> Array:
        high, low = np.broadcast_arrays(encode(upper), encode(lower))
        pair = np.empty((high.size, 2), high.dtype)
        pair[:, 0], pair[:, 1] = low, high
        return pair.reshape(-1).view(to.dtype)

    return run


def _packed_to_packed(modifiers: Modifiers) -> ArrayFunction:
    """Between packed pairs of 8- and 16-bit floats, element by element."""
    given, to = modifiers["from"].removesuffix("x2"), modifiers.type("to")
    encode = _encoder(to.name.removesuffix("x2"), modifiers)
    decode = FORMATS[given].decode
    return lambda a: encode(decode(a)).view(to.dtype)


def _pack_integers(modifiers: Modifiers) -> ArrayFunction:
    """cvt.pack.sat: two s32 clamped to a small type; 8-bit results shift the third operand up."""
    to = TYPES[modifiers["to"]]
    lowest, highest = to.integer_limits
    unsigned: np.dtype[Any] = np.dtype(f"u{to.bytes}")

    def clamp(a: Array) -> Array:
        return np.clip(a, lowest, highest).astype(to.dtype).view(unsigned).astype(np.uint32)

    def run(upper: Array, lower: Array, rest: Array | None = None) -> Array:
        pair = (clamp(upper) << np.uint32(to.bits)) | clamp(lower)
        return pair if rest is None else pair | (rest << np.uint32(2 * to.bits))

    return run


_INTEGERS = "u8|u16|u32|u64|s8|s16|s32|s64"
_FLOATS = "f16|bf16|f32|f64"

_LATEST = "sm_100f sm_110f sm_120f"
_TF32 = "rn|rz|relu: sm_90 ptx7.8, satfinite: ptx8.1, rn+satfinite|rz+satfinite: sm_100 ptx8.6"

ROWS: tuple[Row, ...] = (
    family(f"cvt.sat?.to:({_INTEGERS}).from:({_INTEGERS})", "to = from", _integer_to_integer),
    family(f"cvt.rnd:INTEGER_ROUND.ftz?.sat?.to:({_INTEGERS}).from:({_FLOATS})", "to = from", _float_to_integer,
           since="bf16: sm_90 ptx7.8"),
    family(f"cvt.rnd:ROUND.to:(f16|bf16|f32).from:({_INTEGERS})", "to = from", _integer_to_float,
           since="bf16: sm_90 ptx7.8"),
    family(f"cvt.rnd:ROUND.to:f64.from:({_INTEGERS})", "to = from", _integer_to_float),
    family(f"cvt.rnd:(ROUND|INTEGER_ROUND)?.ftz?.sat?.to:({_FLOATS}).from:({_FLOATS})", "to = from", _float_to_float,
           since="bf16+!f32|bf16+ftz: sm_90 ptx7.8"),
    family("cvt.rnd:(rn|rz).relu?.satfinite?.to:(f16|bf16).from:f32", "to = from", _narrowing,
           since="satfinite: ptx8.1"),
    family("cvt.rnd:(rn|rna|rz).satfinite?.relu?.to:tf32.from:f32", "to = from", _narrowing, since=_TF32),
    family("cvt.rnd:(rn|rna|rz).relu?.satfinite?.to:tf32.from:f32", "to = from", _narrowing, since=_TF32),
    family("cvt.rnd:(rn|rz).relu?.satfinite?.to:(f16x2|bf16x2).from:f32", "to = from from", _pack_two,
           since="satfinite: ptx8.1"),
    family("cvt.rnd:rn.satfinite.relu?.to:(e4m3x2|e5m2x2).from:f32", "to = from from", _pack_two,
           since="sm_89 ptx8.1"),
    family("cvt.rnd:rn.satfinite.relu?.to:(e4m3x2|e5m2x2).from:(f16x2|bf16x2)", "to = from",
           _packed_to_packed, since=f"sm_89 ptx8.1, bf16x2: {_LATEST} ptx9.1"),
    family("cvt.rnd:rn.relu?.to:(f16x2|bf16x2).from:(e4m3x2|e5m2x2)", "to = from", _packed_to_packed,
           since=f"sm_89 ptx8.1, bf16x2: {_LATEST} ptx9.2"),
    family("cvt.pack.sat.to:(u16|s16).s32", "u32 = s32 s32", _pack_integers),
    family("cvt.pack.sat.to:(u8|s8).s32.b32", "u32 = s32 s32 u32", _pack_integers),
)
