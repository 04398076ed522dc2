"""Conversions between element types, with the language's rounding, as Gluon code.

Floats round to nearest even once, whatever the pair of types; f8e4m3 saturates, the others overflow to infinity; tf32
rounds ties away from zero. Floats become integers by truncation and saturation, integers wrap.
"""

from __future__ import annotations

from texpr.dtypes import DType, Kind
from texpr.gluon.helpers import Preamble
from texpr.gluon.text import Level, Text, call, infix, method
from texpr.gluon.types import Dialect

_EIGHT_BIT_FLOATS = (DType.F8E4M3, DType.F8E5M2)


def cast(value: Text, source: DType, target: DType, dialect: Dialect, preamble: Preamble) -> Text:
    if source is target:
        return value
    if target is DType.BOOL:
        value = _from_eight_bits(value, source, dialect, preamble) if source in _EIGHT_BIT_FLOATS else value
        zero = Text("0.0" if source.is_float else "0", static=True)
        return infix(value, "!=", Level.COMPARE, zero)
    if source in _EIGHT_BIT_FLOATS:
        return cast(_from_eight_bits(value, source, dialect, preamble), DType.F32, target, dialect, preamble)
    if not target.is_float:
        return _to_integer(value, source, target, preamble)
    match target:
        case DType.F8E4M3 | DType.F8E5M2:
            return _to_eight_bits(_to_f32(value, source, preamble), target, dialect, preamble)
        case DType.TF32:
            return call(preamble.use("round_tf32"), _to_f32(value, source, preamble))
        case DType.BF16 if source in (DType.I32, DType.U32, DType.I64, DType.U64):
            # Below sm_90 Triton's conversion goes through f32 and rounds twice, even when f64 is put in between.
            long = source.bits == 64
            wide = call(preamble.use("long_to_f64_odd"), _as_value(value)) if long else method(value, "to(gl.float64)")
            return method(call(preamble.use("f64_to_f32_odd"), wide), "to(gl.bfloat16)")
        case _ if source is DType.TF32 and target is DType.F32:
            return value
        case _:
            return method(value, f"to({dialect.register(target)})")


def _as_value(value: Text) -> Text:
    return call("gl.to_tensor", value) if value.static else value


def _to_f32(value: Text, source: DType, preamble: Preamble) -> Text:
    """The f32 from which rounding on is still right: f64 is rounded to odd. Integers too large for f32 are far beyond
    the range of the eight-bit types, and tf32 rounds them again by design."""
    match source:
        case DType.F32 | DType.TF32:
            return _as_value(value)
        case DType.F64:
            return call(preamble.use("f64_to_f32_odd"), _as_value(value))
        case _:
            return method(value, "to(gl.float32)")


def _to_eight_bits(value: Text, target: DType, dialect: Dialect, preamble: Preamble) -> Text:
    """Triton's own conversion to f8e5m2 saturates where the language overflows, so that one is always spelt out."""
    if target is DType.F8E5M2:
        return method(call(preamble.use("f32_to_e5m2"), value), "to(gl.float8e5, bitcast=True)")
    if dialect.native_e4m3:
        return method(value, "to(gl.float8e4nv)")
    return call(preamble.use("f32_to_e4m3"), value)


def _from_eight_bits(value: Text, source: DType, dialect: Dialect, preamble: Preamble) -> Text:
    if dialect.as_bits(source):
        return call(preamble.use("e4m3_to_f32"), value)
    return method(value, "to(gl.float32)")


def _to_integer(value: Text, source: DType, target: DType, preamble: Preamble) -> Text:
    if not source.is_float:
        return method(value, f"to(gl.{_integer(target)})")
    if source in (DType.F16, DType.BF16):
        value, source = method(value, "to(gl.float32)"), DType.F32
    origin = "f64" if source is DType.F64 else "f32"
    width = max(target.bits, 32)
    signed = target.kind is Kind.SIGNED
    wide = call(preamble.use(f"{origin}_to_{'int' if signed else 'uint'}{width}"), _as_value(value))
    if target.bits >= 32:
        return wide
    if signed:
        limit = 1 << (target.bits - 1)
        wide = call("gl.maximum", wide, str(-limit))
        return method(call("gl.minimum", wide, str(limit - 1)), f"to(gl.{_integer(target)})")
    return method(call("gl.minimum", wide, str((1 << target.bits) - 1)), f"to(gl.{_integer(target)})")


def _integer(dtype: DType) -> str:
    return f"{'int' if dtype.kind is Kind.SIGNED else 'uint'}{dtype.bits}"
