"""Element types and constants in Gluon's spelling.

Three types are carried in registers as something else: bool as ``int1`` (stored as ``uint8``), tf32 as ``float32``, and
f8e4m3 as its bits (``uint8``) where one of the targets has no such type in Triton (below sm_89).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from texpr.dtypes import DType, Kind
from texpr.targets import TARGETS

_GLUON: Final = {
    DType.F8E4M3: "float8e4nv", DType.F8E5M2: "float8e5", DType.F16: "float16", DType.BF16: "bfloat16",
    DType.TF32: "float32", DType.F32: "float32", DType.F64: "float64",
    DType.I8: "int8", DType.I16: "int16", DType.I32: "int32", DType.I64: "int64",
    DType.U8: "uint8", DType.U16: "uint16", DType.U32: "uint32", DType.U64: "uint64", DType.BOOL: "int1",
    DType.I4: "uint8", DType.U4: "uint8",
}  # fmt: skip

_SIGNATURE: Final = {
    "float8e4nv": "fp8e4nv", "float8e5": "fp8e5", "float16": "fp16", "bfloat16": "bf16",
    "float32": "fp32", "float64": "fp64",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the targets of one kernel have in common. ``native_e4m3``: all of them convert f8e4m3 in hardware."""

    native_e4m3: bool

    def register(self, dtype: DType) -> str:
        """The Gluon type of a value: ``gl.float16``."""
        return "gl." + ("uint8" if self.as_bits(dtype) else _GLUON[dtype])

    def storage(self, dtype: DType) -> str:
        """The Gluon type of a stored element: bool takes a byte."""
        return "gl.uint8" if dtype is DType.BOOL else self.register(dtype)

    def signature(self, dtype: DType) -> str:
        """The Triton signature type of a scalar parameter: ``fp16``. Also that of a pointer's element."""
        return _SIGNATURE[self.storage(dtype).removeprefix("gl.")]

    def as_bits(self, dtype: DType) -> bool:
        """Whether values of ``dtype`` are held as ``uint8`` patterns that Triton knows nothing of."""
        return dtype is DType.F8E4M3 and not self.native_e4m3


def dialect_of(targets: tuple[str, ...]) -> Dialect:
    """Raises KeyError for an unknown target name."""
    return Dialect(native_e4m3=all(TARGETS[name].has_fp8_mma for name in targets))


def plain_constant(value: int | float | bool, dtype: DType, dialect: Dialect) -> str:
    """A Python number that takes its type from the operand it meets."""
    match dtype.kind:
        case Kind.BOOL:
            return str(bool(value))
        case Kind.FLOAT if dialect.as_bits(dtype):
            return str(e4m3_bits(float(value)))
        case Kind.FLOAT:
            return _float_text(float(value))
        case _:
            return str(int(value))


def typed_constant(value: int | float | bool, dtype: DType, dialect: Dialect) -> str:
    """A constant that has its type by itself, for places where no operand gives it one."""
    plain = plain_constant(value, dtype, dialect)
    if _python_type(value, dtype) is dtype:
        return plain
    return f"gl.full([], {plain}, {dialect.register(dtype)})"


def _python_type(value: int | float | bool, dtype: DType) -> DType | None:
    """The type Triton gives to a bare Python number that is meant as a ``dtype``."""
    match dtype:
        case DType.BOOL:
            return DType.BOOL
        case DType.I32:
            return DType.I32
        case DType.F32 | DType.TF32:
            magnitude = abs(float(value))
            normal = 2.0**-126 <= magnitude <= float.fromhex("0x1.fffffep127")
            return dtype if normal or magnitude == 0 or not math.isfinite(magnitude) else None
        case _:
            return None


def _float_text(value: float) -> str:
    if math.isnan(value):
        return 'float("nan")'
    if math.isinf(value):
        return 'float("inf")' if value > 0 else '-float("inf")'
    return repr(value)


def e4m3_bits(value: float) -> int:
    """The f8e4m3 pattern nearest to ``value``, ties to even, saturated to +-448 (OCP OFP8: bias 7, 0x7f is NaN)."""
    if math.isnan(value):
        return 0x7F
    sign = 0x80 if math.copysign(1.0, value) < 0 else 0
    magnitude = min(abs(value), 448.0)
    exponent = max(math.frexp(magnitude)[1] - 1, -6) if magnitude else -6
    steps = round(math.ldexp(magnitude, 3 - exponent))
    return sign | (((exponent + 6) << 3) + steps)
