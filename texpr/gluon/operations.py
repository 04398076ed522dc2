"""Scalar operations of the language as Gluon code: one function per question, tables where Gluon has the operation.

Operands come as code of one element type; at least one of them is a Gluon value (not a Python number).
"""

from __future__ import annotations

from typing import Final, assert_never

from texpr.dtypes import DType, Kind
from texpr.gluon.helpers import LIBDEVICE, Preamble
from texpr.gluon.text import Level, Text, call, infix
from texpr.lang.ir import OpName

_INFIX: Final = {
    OpName.ADD: Level.SUM,
    OpName.SUB: Level.SUM,
    OpName.MUL: Level.PRODUCT,
    OpName.DIV: Level.PRODUCT,  # div.full.f32, div.rn.f64
    OpName.AND: Level.AND,
    OpName.OR: Level.OR,
    OpName.XOR: Level.XOR,
    OpName.SHL: Level.SHIFT,
    OpName.SHR: Level.SHIFT,  # arithmetic for signed types, logical for unsigned ones, as Triton's
    OpName.LT: Level.COMPARE,
    OpName.LE: Level.COMPARE,
    OpName.GT: Level.COMPARE,
    OpName.GE: Level.COMPARE,
    OpName.EQ: Level.COMPARE,
    OpName.NE: Level.COMPARE,
}

_CALLS: Final = {
    OpName.ABS: "gl.abs",
    OpName.EXP: "gl.exp",
    OpName.EXP2: "gl.exp2",
    OpName.LOG: "gl.log",
    OpName.LOG2: "gl.log2",
    OpName.SQRT: "gl.sqrt",
    OpName.RSQRT: "gl.rsqrt",
    OpName.SIN: "gl.sin",
    OpName.COS: "gl.cos",
    OpName.ERF: "gl.erf",
    OpName.FMA: "gl.fma",
}

LARGEST_UNROLLED_POWER: Final = 8
"""Whole exponents up to this size become multiplications."""


def elementwise(op: OpName, dtype: DType, args: tuple[Text, ...], truncates: bool, preamble: Preamble) -> Text:
    """``op`` on operands of ``dtype``. ``truncates``: an integer quotient may be rounded toward zero, because neither
    operand is negative."""
    if op in _INFIX:
        return infix(args[0], op.value, _INFIX[op], args[1])
    if op in _CALLS:
        return call(_CALLS[op], *args)
    match op:
        case OpName.NEG:
            return Text("-" + args[0].within(Level.UNARY), Level.UNARY)
        case OpName.NOT:
            return Text("~" + args[0].within(Level.UNARY), Level.UNARY)
        case OpName.FLOORDIV | OpName.MOD:
            if truncates or dtype.kind is Kind.UNSIGNED:
                return infix(args[0], op.value, Level.PRODUCT, args[1])
            return call(preamble.use("floor_div" if op is OpName.FLOORDIV else "floor_mod"), *args)
        case OpName.MIN | OpName.MAX:
            return _extremum(op, dtype, args, preamble)
        case OpName.FLOOR | OpName.CEIL:
            name = "floor" if op is OpName.FLOOR else "ceil"
            return call(f"gl.{name}" if dtype is DType.F64 else preamble.use(f"{name}_f32"), *args)
        case OpName.TANH:
            if dtype is DType.F64:
                preamble.use_import(LIBDEVICE)
                return call("libdevice.tanh", *args)
            return call(preamble.use("tanh_f32"), *args)
        case OpName.POW:
            if dtype.is_float:
                preamble.use_import(LIBDEVICE)
                return call("libdevice.pow", *args)
            return call(preamble.use("int_power"), *args)
        case _:
            raise AssertionError(f"no code for {op}")


def _extremum(op: OpName, dtype: DType, args: tuple[Text, ...], preamble: Preamble) -> Text:
    least = op is OpName.MIN
    match dtype.kind:
        case Kind.FLOAT:
            return call(preamble.use("min_nan" if least else "max_nan"), *args)
        case Kind.BOOL:
            return infix(args[0], "&" if least else "|", Level.AND if least else Level.OR, args[1])
        case Kind.SIGNED | Kind.UNSIGNED:
            return call("gl.minimum" if least else "gl.maximum", *args)
        case _:
            assert_never(dtype.kind)


def power(base: Text, exponent: int) -> Text | None:
    """``base ** exponent`` by multiplications, None if that is not worth it. ``base`` must be a name."""
    if not base.is_name or not 1 <= exponent <= LARGEST_UNROLLED_POWER:
        return None
    if exponent == 1:
        return base
    half = power(base, exponent // 2)
    assert half is not None
    square = infix(half, "*", Level.PRODUCT, half)
    return square if exponent % 2 == 0 else infix(square, "*", Level.PRODUCT, base)


def choose(condition: Text, then: Text, otherwise: Text) -> Text:
    return call("gl.where", condition, then, otherwise)


_OP_WORDS: Final = {
    OpName.ADD: "sum", OpName.SUB: "difference", OpName.MUL: "product", OpName.DIV: "quotient",
    OpName.FLOORDIV: "quotient", OpName.MOD: "rest", OpName.NEG: "negated", OpName.ABS: "size",
    OpName.MIN: "least", OpName.MAX: "greatest", OpName.POW: "power",
    OpName.AND: "both", OpName.OR: "either", OpName.XOR: "differs", OpName.NOT: "not",
    OpName.SHL: "shifted", OpName.SHR: "shifted",
    OpName.LT: "below", OpName.LE: "within", OpName.GT: "above", OpName.GE: "from",
    OpName.EQ: "equal", OpName.NE: "unequal",
}  # fmt: skip


def word(op: OpName) -> str:
    """What to call a value that ``op`` made, inside an identifier."""
    return _OP_WORDS.get(op, op.value)
