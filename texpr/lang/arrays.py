"""Exact conversion between stored elements and the values the reference computes with.

A *value array* holds float64 for every float type, the native NumPy integer for integers, and ``bool_`` for bool. A
*storage array* holds the bits as the kernel sees them: NumPy's own type where it has one, ``uint16`` patterns for
bf16, ``uint8`` patterns for the f8 types, float32 words for tf32. Arrays of the ``ml_dtypes`` package are accepted as
storage; the package itself is not needed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from texpr.dtypes import DType, Kind

Array = npt.NDArray[Any]

_STORAGE: Final = {
    DType.F8E4M3: "uint8", DType.F8E5M2: "uint8", DType.F16: "float16", DType.BF16: "uint16", DType.TF32: "float32",
    DType.F32: "float32", DType.F64: "float64",
    DType.I8: "int8", DType.I16: "int16", DType.I32: "int32", DType.I64: "int64",
    DType.U8: "uint8", DType.U16: "uint16", DType.U32: "uint32", DType.U64: "uint64", DType.BOOL: "bool",
}  # fmt: skip

_ML_DTYPES: Final = {DType.BF16: "bfloat16", DType.F8E4M3: "float8_e4m3fn", DType.F8E5M2: "float8_e5m2"}

# Least normal exponent and largest finite value of the types that NumPy does not have.
_LEAST_EXPONENT: Final = {DType.BF16: -126, DType.TF32: -126, DType.F8E4M3: -6, DType.F8E5M2: -14}
_LARGEST: Final = {
    DType.BF16: float.fromhex("0x1.fep127"),
    DType.TF32: float.fromhex("0x1.ffcp127"),
    DType.F8E4M3: 448.0,
    DType.F8E5M2: 57344.0,
}


def storage_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy type of a storage array; raises ValueError for the packed types."""
    if dtype not in _STORAGE:
        raise ValueError(f"{dtype} elements are packed and have no storage array")
    return np.dtype(_STORAGE[dtype])


def value_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy type of a value array."""
    return np.dtype("float64") if dtype.is_float else storage_dtype(dtype)


def round_float(values: Array, dtype: DType) -> Array:
    """float64 ``values`` rounded to the nearest value of the float type ``dtype``, ties to even, as float64.

    Ties of tf32 go away from zero: PTX ``cvt.rna``, the only rounding to tf32 that every target has.
    Overflow gives infinity, except that f8e4m3 has none and saturates to +-448 (PTX ``satfinite``). NaN stays NaN.
    """
    values = np.asarray(values, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        match dtype:
            case DType.F64:
                return values
            case DType.F32:
                return values.astype(np.float32).astype(np.float64)
            case DType.F16:
                return values.astype(np.float16).astype(np.float64)
            case _:
                return _round_generic(values, dtype)


def _round_generic(values: Array, dtype: DType) -> Array:
    """Scale so that the type's quantum at each value is 1, round to integer, scale back: every other step is exact."""
    finite = np.isfinite(values)
    _, exponent = np.frexp(np.where(finite, values, 0.0))
    quantum = np.maximum(exponent - 1, _LEAST_EXPONENT[dtype]) - dtype.mantissa_bits
    scaled = np.ldexp(values, -quantum)
    whole = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) if dtype is DType.TF32 else np.rint(scaled)
    rounded = np.ldexp(whole, quantum)
    rounded = np.where(finite, rounded, values)
    largest = _LARGEST[dtype]
    beyond = largest if dtype is DType.F8E4M3 else np.inf
    return np.where(np.abs(rounded) > largest, np.copysign(beyond, values), rounded)


def encode(values: Array, dtype: DType) -> Array:
    """A value array as storage: floats round as :func:`round_float`, integers wrap."""
    if not dtype.is_float:
        return np.asarray(values).astype(storage_dtype(dtype))
    rounded = round_float(np.asarray(values, np.float64), dtype)
    match dtype:
        case DType.BF16:
            return (rounded.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        case DType.F8E5M2:
            return (rounded.astype(np.float16).view(np.uint16) >> 8).astype(np.uint8)
        case DType.F8E4M3:
            bits = np.searchsorted(_E4M3[:127], np.abs(rounded)).astype(np.uint8)
            return np.where(np.signbit(rounded), bits | 0x80, bits).astype(np.uint8)
        case _:
            return rounded.astype(storage_dtype(dtype))


def decode(raw: Array, dtype: DType) -> Array:
    """A storage array (or an ``ml_dtypes`` array) as values. Raises TypeError if its NumPy type is not ``dtype``'s
    storage."""
    raw = np.asarray(raw)
    if dtype in _ML_DTYPES and raw.dtype.name == _ML_DTYPES[dtype]:
        raw = raw.view(storage_dtype(dtype))
    if raw.dtype != storage_dtype(dtype):
        raise TypeError(f"expected {describe_storage(dtype)}, got an array of {raw.dtype}")
    match dtype:
        case DType.BF16:
            with np.errstate(invalid="ignore"):
                return (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        case DType.F8E5M2:
            return (raw.astype(np.uint16) << 8).view(np.float16).astype(np.float64)
        case DType.F8E4M3:
            return _E4M3[raw]
        case _:
            return raw.astype(value_dtype(dtype))


def describe_storage(dtype: DType) -> str:
    """What to tell a user to pass: ``uint16 bit patterns or ml_dtypes.bfloat16``."""
    if dtype in _ML_DTYPES:
        return f"{dtype}: {_STORAGE[dtype]} bit patterns or ml_dtypes.{_ML_DTYPES[dtype]}"
    return f"{dtype}: an array of {storage_dtype(dtype)}"


def integer_range(dtype: DType) -> tuple[int, int]:
    """Least and greatest value of an integer type."""
    if dtype.kind is Kind.SIGNED:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def to_integer(values: Array, dtype: DType) -> Array:
    """Float values truncated toward zero and saturated to the integer type; NaN gives 0 (PTX ``cvt.rzi``)."""
    low, high = integer_range(dtype)
    truncated = np.trunc(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf))
    inside = np.clip(truncated, float(low), np.nextafter(float(high) + 1.0, 0.0))
    result = inside.astype(storage_dtype(dtype))
    return np.where(truncated >= float(high), np.array(high, result.dtype), result)


def _e4m3_table() -> Array:
    """The value of each f8e4m3 bit pattern (OCP OFP8: bias 7, no infinity, 0x7f and 0xff are NaN)."""
    bits = np.arange(256)
    exponent, mantissa = (bits >> 3) & 15, bits & 7
    normal = np.ldexp(1.0 + mantissa / 8.0, exponent - 7)
    subnormal = np.ldexp(mantissa / 8.0, -6)
    magnitude = np.where(exponent == 0, subnormal, normal)
    magnitude[[0x7F, 0xFF]] = np.nan
    return np.where(bits & 0x80, -magnitude, magnitude)


_E4M3: Final = _e4m3_table()
