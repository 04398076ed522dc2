"""Python numbers as the C values of scalar arguments: integers checked against their type, narrow floats rounded to
their bits.
"""

from __future__ import annotations

import ctypes
import math
import operator
import struct
from typing import Any, Final

from texpr.dtypes import DType, Kind
from texpr.runtime.errors import ScalarError

C_TYPES: Final[dict[DType, Any]] = {
    DType.F8E4M3: ctypes.c_uint8, DType.F8E5M2: ctypes.c_uint8, DType.F16: ctypes.c_uint16, DType.BF16: ctypes.c_uint16,
    DType.TF32: ctypes.c_float, DType.F32: ctypes.c_float, DType.F64: ctypes.c_double,
    DType.I8: ctypes.c_int8, DType.I16: ctypes.c_int16, DType.I32: ctypes.c_int32, DType.I64: ctypes.c_int64,
    DType.U8: ctypes.c_uint8, DType.U16: ctypes.c_uint16, DType.U32: ctypes.c_uint32, DType.U64: ctypes.c_uint64,
    DType.BOOL: ctypes.c_uint8,
}  # fmt: skip
"""The ctypes type of a scalar argument of each element type, as in the bundle's header."""


def encode(argument: str, value: object, dtype: DType) -> int | float:
    """What to store in the argument's C field: a number, or the bits of an f16 or bf16 rounded to nearest, ties to
    even.

    Raises ScalarError when ``value`` is no number, an integer outside its type, or of a type with no encoding here
    (f8).
    """
    match dtype:
        case DType.BOOL:
            return int(_integer(argument, value, dtype, 0, 1))
        case DType.F16:
            return _f16_bits(_number(argument, value, dtype))
        case DType.BF16:
            return _bf16_bits(_number(argument, value, dtype))
        case DType.F32 | DType.F64 | DType.TF32:
            return _number(argument, value, dtype)
        case _ if dtype.is_int and dtype in C_TYPES:
            signed = dtype.kind is Kind.SIGNED
            low = -(1 << (dtype.bits - 1)) if signed else 0
            high = (1 << (dtype.bits - 1 if signed else dtype.bits)) - 1
            return _integer(argument, value, dtype, low, high)
        case _:
            raise ScalarError(
                argument=argument, value=value, dtype=dtype, why=": scalars of this type cannot be passed from Python"
            )


def _integer(argument: str, value: Any, dtype: DType, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        if type(value).__name__ not in ("bool", "bool_"):
            raise ScalarError(argument=argument, value=value, dtype=dtype, why="") from None
        number = int(bool(value))
    if not low <= number <= high:
        raise ScalarError(argument=argument, value=value, dtype=dtype, why=f": it holds {low} to {high}")
    return number


def _number(argument: str, value: Any, dtype: DType) -> float:
    if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
        raise ScalarError(argument=argument, value=value, dtype=dtype, why="")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ScalarError(argument=argument, value=value, dtype=dtype, why=f": {error}") from None


def _f16_bits(value: float) -> int:
    try:
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    except OverflowError:
        return 0xFC00 if value < 0 else 0x7C00


def _bf16_bits(value: float) -> int:
    """Nearest bf16, ties to even, in one rounding from the double: in units of the last of the 8 significant bits at
    its exponent.
    """
    if math.isnan(value):
        return 0x7FC0
    rounded = value
    if math.isfinite(value):
        _, exponent = math.frexp(value)
        quantum = math.ldexp(1.0, max(exponent, -125) - 8)
        rounded = math.copysign(round(abs(value) / quantum) * quantum, value)
        if abs(rounded) >= math.ldexp(1.0, 128):
            rounded = math.copysign(math.inf, value)
    bits: int = struct.unpack("<I", struct.pack("<f", rounded))[0]
    return bits >> 16
