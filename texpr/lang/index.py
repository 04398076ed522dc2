"""Index expressions and conditions of the IR as expressions of :mod:`texpr.math`, for bounds checks and analyses."""

from __future__ import annotations

from collections.abc import Callable

from texpr.dtypes import DType, holds
from texpr.lang.ir import AxisRef, Cast, Const, DimRef, Expr, Op, OpName
from texpr.math.expr import (
    BoolExpr,
    CompareOp,
    IntExpr,
    compare,
    conjunction,
    const,
    disjunction,
    maximum,
    minimum,
    negation,
    sym,
)

Leaf = Callable[[Expr], IntExpr | None]


def _no_leaf(expr: Expr) -> IntExpr | None:
    return None


def to_int_expr(expr: Expr, leaf: Leaf = _no_leaf) -> IntExpr | None:
    """``expr`` over axes (``Sym(axis.name)``) and dims, or None when it depends on data.

    ``leaf`` may stand a symbol in for a data-dependent subexpression. Only arithmetic that cannot wrap is translated,
    see :func:`is_exact`.
    """
    known = leaf(expr)
    if known is not None:
        return known
    if not is_exact(expr):
        return None
    match expr:
        case AxisRef(axis=axis):
            return sym(axis.name)
        case DimRef(value=value):
            return value
        case Const(value=value):
            return const(int(value))
        case Cast(value=operand):
            return to_int_expr(operand, leaf)
        case Op(name=name, args=args):
            values = [to_int_expr(arg, leaf) for arg in args]
            known_values = [value for value in values if value is not None]
            return _apply(name, known_values) if len(known_values) == len(values) else None
        case _:
            return None


_ARITHMETIC = frozenset({OpName.ADD, OpName.SUB, OpName.MUL, OpName.NEG, OpName.FLOORDIV, OpName.MOD})
_EXTREMA = frozenset({OpName.MIN, OpName.MAX})


def is_exact(expr: Expr) -> bool:
    """Whether this node, given exact operands, is the mathematical integer: an axis, a dim, a constant, a cast to a
    type that holds every value of its operand's, arithmetic of type ``INDEX``, and the operations that cannot wrap in
    any type."""
    match expr:
        case AxisRef() | DimRef():
            return True
        case Const():
            return expr.dtype.is_int
        case Cast(value=value, dtype=dtype):
            return value.dtype.is_int and dtype.is_int and holds(dtype, value.dtype)
        case Op(name=name, dtype=dtype) if name in _EXTREMA:
            return dtype.is_int
        case Op(name=OpName.FLOORDIV | OpName.MOD, args=(_, Const(value=divisor)), dtype=dtype):
            return dtype.is_int and divisor > 0
        case Op(name=name, dtype=DType.I64):
            return name in _ARITHMETIC
        case _:
            return False


def _apply(name: OpName, args: list[IntExpr]) -> IntExpr | None:
    match name:
        case OpName.ADD:
            return args[0] + args[1]
        case OpName.SUB:
            return args[0] - args[1]
        case OpName.MUL:
            return args[0] * args[1]
        case OpName.NEG:
            return -args[0]
        case OpName.MIN:
            return minimum(*args)
        case OpName.MAX:
            return maximum(*args)
        case OpName.FLOORDIV | OpName.MOD:
            try:
                return args[0] // args[1] if name is OpName.FLOORDIV else args[0] % args[1]
            except ZeroDivisionError:
                return None
        case _:
            return None


_COMPARE = {
    OpName.LT: CompareOp.LT,
    OpName.LE: CompareOp.LE,
    OpName.GT: CompareOp.GT,
    OpName.GE: CompareOp.GE,
    OpName.EQ: CompareOp.EQ,
    OpName.NE: CompareOp.NE,
}


def to_bool_expr(expr: Expr, leaf: Leaf = _no_leaf) -> BoolExpr | None:
    """A condition over axes and dims, or None when it depends on data."""
    match expr:
        case Op(name=OpName.AND | OpName.OR as name, args=(a, b), dtype=DType.BOOL):
            left, right = to_bool_expr(a, leaf), to_bool_expr(b, leaf)
            if left is None or right is None:
                return None
            return conjunction(left, right) if name is OpName.AND else disjunction(left, right)
        case Op(name=OpName.NOT, args=(a,), dtype=DType.BOOL):
            value = to_bool_expr(a, leaf)
            return None if value is None else negation(value)
        case Op(name=name, args=(a, b)) if name in _COMPARE:
            lhs, rhs = to_int_expr(a, leaf), to_int_expr(b, leaf)
            return None if lhs is None or rhs is None else compare(_COMPARE[name], lhs, rhs)
        case _:
            return None


def conjuncts(expr: Expr) -> tuple[Expr, ...]:
    """``a & b & c`` as its parts."""
    match expr:
        case Op(name=OpName.AND, args=(a, b), dtype=DType.BOOL):
            return (*conjuncts(a), *conjuncts(b))
        case _:
            return (expr,)
