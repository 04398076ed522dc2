"""The handle that a body computes with: an IR expression under Python's operators, and the typing rules of those
operators.

Rules, in order: a Python number takes the type of the other operand; floats below f32 are cast to f32; f32 with f64
gives f64; two integer types give the one that holds both, if it is one of them; floats do not mix with integers, and
bool mixes with nothing. Index arithmetic (axes, dims) has type i64 and is exact.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Final, NoReturn

from texpr.dtypes import DType, Kind, holds
from texpr.lang.errors import (
    BooleanContextError,
    CastError,
    ConditionError,
    LiteralError,
    NotIterableError,
    OperandError,
    OperandTypeError,
    TypeMixError,
    user_location,
)
from texpr.lang.ir import COMPARISONS, INDEX, Axis, AxisRef, Cast, Const, Expr, Op, OpName, Select, map_children
from texpr.lang.show import expr_text

Number = int | float | bool

_LARGEST: Final = {
    DType.F16: 65504.0,
    DType.BF16: float.fromhex("0x1.fep127"),
    DType.F32: float.fromhex("0x1.fffffep127"),
    DType.TF32: float.fromhex("0x1.ffcp127"),
    DType.F8E4M3: 448.0,
    DType.F8E5M2: 57344.0,
}


class Value:
    """One IR expression. ``weak`` expressions are made of Python numbers only and still take the type of what they
    meet."""

    __slots__ = ("expr", "weak")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None

    def __init__(self, expr: Expr, weak: bool = False) -> None:
        self.expr = expr
        self.weak = weak

    def __repr__(self) -> str:
        return f"<{expr_text(self.expr)}: {self.expr.dtype}>"

    @property
    def dtype(self) -> DType:
        """The element type of this expression."""
        return self.expr.dtype

    def to(self, dtype: str | DType) -> Value:
        """This value converted: floats round to nearest even, float to integer truncates and saturates, integers
        wrap."""
        from texpr.lang.trace import resolve_dtype

        return cast(self, resolve_dtype(dtype))

    def __add__(self, other: object) -> Value:
        return arithmetic(OpName.ADD, self, other)

    def __radd__(self, other: object) -> Value:
        return arithmetic(OpName.ADD, other, self)

    def __sub__(self, other: object) -> Value:
        return arithmetic(OpName.SUB, self, other)

    def __rsub__(self, other: object) -> Value:
        return arithmetic(OpName.SUB, other, self)

    def __mul__(self, other: object) -> Value:
        return arithmetic(OpName.MUL, self, other)

    def __rmul__(self, other: object) -> Value:
        return arithmetic(OpName.MUL, other, self)

    def __truediv__(self, other: object) -> Value:
        return arithmetic(OpName.DIV, self, other)

    def __rtruediv__(self, other: object) -> Value:
        return arithmetic(OpName.DIV, other, self)

    def __floordiv__(self, other: object) -> Value:
        return arithmetic(OpName.FLOORDIV, self, other)

    def __rfloordiv__(self, other: object) -> Value:
        return arithmetic(OpName.FLOORDIV, other, self)

    def __mod__(self, other: object) -> Value:
        return arithmetic(OpName.MOD, self, other)

    def __rmod__(self, other: object) -> Value:
        return arithmetic(OpName.MOD, other, self)

    def __pow__(self, other: object) -> Value:
        return power(self, other)

    def __rpow__(self, other: object) -> Value:
        return power(other, self)

    def __and__(self, other: object) -> Value:
        return bitwise(OpName.AND, self, other)

    def __rand__(self, other: object) -> Value:
        return bitwise(OpName.AND, other, self)

    def __or__(self, other: object) -> Value:
        return bitwise(OpName.OR, self, other)

    def __ror__(self, other: object) -> Value:
        return bitwise(OpName.OR, other, self)

    def __xor__(self, other: object) -> Value:
        return bitwise(OpName.XOR, self, other)

    def __rxor__(self, other: object) -> Value:
        return bitwise(OpName.XOR, other, self)

    def __lshift__(self, other: object) -> Value:
        return shift(OpName.SHL, self, other)

    def __rlshift__(self, other: object) -> Value:
        return shift(OpName.SHL, other, self)

    def __rshift__(self, other: object) -> Value:
        return shift(OpName.SHR, self, other)

    def __rrshift__(self, other: object) -> Value:
        return shift(OpName.SHR, other, self)

    def __lt__(self, other: object) -> Value:
        return compare(OpName.LT, self, other)

    def __le__(self, other: object) -> Value:
        return compare(OpName.LE, self, other)

    def __gt__(self, other: object) -> Value:
        return compare(OpName.GT, self, other)

    def __ge__(self, other: object) -> Value:
        return compare(OpName.GE, self, other)

    def __eq__(self, other: object) -> Value:  # type: ignore[override]
        return compare(OpName.EQ, self, other)

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return compare(OpName.NE, self, other)

    def __neg__(self) -> Value:
        return unary(OpName.NEG, self)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return unary(OpName.ABS, self)

    def __invert__(self) -> Value:
        if not (self.dtype is DType.BOOL or self.dtype.is_int):
            refuse_operand("~", self.dtype, "~ takes bool and integers")
        return Value(Op(OpName.NOT, (self.expr,), self.dtype), self.weak)

    def __bool__(self) -> bool:
        raise BooleanContextError(at=user_location())

    def __iter__(self) -> NoReturn:
        raise NotIterableError(what="an expression", at=user_location())

    def __index__(self) -> int:
        raise OperandError(
            what="range() or a Python index",
            expected="a Python integer",
            found="an expression",
            at=user_location(),
            hint="te.axes(i=...) to iterate; a static is a Python integer",
        )

    def __float__(self) -> float:
        raise OperandError(
            what="float()", expected="a Python number", found="an expression", at=user_location(), hint=".to('f32')"
        )

    def __int__(self) -> int:
        raise OperandError(
            what="int()", expected="a Python number", found="an expression", at=user_location(), hint=".to('i32')"
        )


def axis_of(value: object) -> Axis | None:
    """The axis, if ``value`` is one: it may stand on the left of a definition and in ``over=``."""
    return value.expr.axis if isinstance(value, Value) and isinstance(value.expr, AxisRef) else None


def refuse_operand(op: str, found: object, fix: str) -> NoReturn:
    raise OperandTypeError(op=op, found=found, fix=fix, at=user_location())


# Coercion.


def coerce(operand: object, what: str) -> Value:
    """``operand`` as a value; a Python number becomes a weak constant. Raises OperandError for anything else."""
    if isinstance(operand, Value):
        return operand
    if isinstance(operand, bool):
        return Value(Const(operand, DType.BOOL))
    if isinstance(operand, numbers.Integral):
        number = int(operand)
        return Value(Const(number, DType.I32 if -(1 << 31) <= number < 1 << 31 else DType.I64), weak=True)
    if isinstance(operand, numbers.Real):
        return Value(Const(float(operand), DType.F32), weak=True)
    explain = getattr(operand, "explain_bare_use", None)
    if explain is not None:
        explain()
    raise OperandError(what=f"'{what}'", expected="an expression or a number", found=repr(operand), at=user_location())


def literal(value: Number, dtype: DType) -> Const:
    """The constant of type ``dtype`` nearest to ``value``. Raises LiteralError when it does not fit."""
    if dtype.is_float:
        number = float(value)
        if math.isfinite(number) and abs(number) > _LARGEST.get(dtype, math.inf):
            raise LiteralError(
                value=value, dtype=dtype, fix="a value in the type's range, or float('inf')", at=user_location()
            )
        return Const(_nearest(number, dtype), dtype)
    if dtype is DType.BOOL:
        if value not in (0, 1) or isinstance(value, float):
            raise LiteralError(value=value, dtype=dtype, fix="True or False", at=user_location())
        return Const(bool(value), dtype)
    low, high = (-(1 << (dtype.bits - 1)), 1 << (dtype.bits - 1)) if dtype.kind is Kind.SIGNED else (0, 1 << dtype.bits)
    if isinstance(value, float) or not low <= value < high:
        fix = (
            "an integer, or convert the other operand to a float type"
            if isinstance(value, float)
            else "a wider type: .to('i64')"
        )
        raise LiteralError(value=value, dtype=dtype, fix=fix, at=user_location())
    return Const(int(value), dtype)


def _nearest(value: float, dtype: DType) -> float:
    """``value`` rounded to nearest even in ``dtype``, in exact Python arithmetic (tracing does not need NumPy)."""
    if dtype is DType.F64 or value == 0 or not math.isfinite(value):
        return value
    least = {DType.F16: -14, DType.F8E5M2: -14, DType.F8E4M3: -6}.get(dtype, -126)
    quantum = max(math.frexp(value)[1] - 1, least) - dtype.mantissa_bits
    return math.ldexp(round(math.ldexp(value, -quantum)), quantum)


def retype(value: Value, dtype: DType) -> Value:
    """A weak value as a strong one of type ``dtype``: its numbers round to the type now, and only once."""
    return Value(_rebuild(value.expr, dtype, lambda number: literal(number, dtype)))


def _weakly(value: Value, dtype: DType) -> Value:
    """A weak value that meets another weak one: still exact."""
    return Value(
        _rebuild(value.expr, dtype, lambda number: Const(float(number) if dtype.is_float else number, dtype)), True
    )


def _rebuild(weak: Expr, dtype: DType, constant: Callable[[Number], Const]) -> Expr:
    def change(expr: Expr) -> Expr:
        match expr:
            case Const(value=number):
                return constant(number)
            case Select(condition=condition, then=then, otherwise=otherwise):
                return Select(condition, change(then), change(otherwise))
            case Op(name=name):
                changed = map_children(expr, change)
                assert isinstance(changed, Op)
                return Op(name, changed.args, dtype)
            case _:
                raise AssertionError(f"{type(expr).__name__} cannot be weak")

    return change(weak)


def strong(value: Value) -> Value:
    """A weak value with its default type: i32 (i64 if it does not fit) or f32."""
    return retype(value, value.dtype) if value.weak else value


def computed(value: Value) -> Value:
    """``value`` in the type that arithmetic on it happens in; a weak value stays weak."""
    return value if value.weak else cast(value, value.dtype.compute)


def cast(value: Value, dtype: DType) -> Value:
    """An explicit conversion; none if the type is right already. Raises CastError."""
    if value.weak:
        if dtype.is_float or value.dtype.is_int:
            return retype(value, dtype)
        value = strong(value)
    source = value.dtype
    if source is dtype:
        return value
    if dtype is DType.BOOL:
        raise CastError(found=source, dtype=dtype, fix="compare it: value != 0", at=user_location())
    if dtype in (DType.I4, DType.U4):
        raise CastError(found=source, dtype=dtype, fix="packed types come later; i8 or u8", at=user_location())
    return Value(Cast(value.expr, dtype))


# Operators.


def unify(op: str, a: Value, b: Value) -> tuple[Value, Value]:
    """Both operands in one type, by the rules at the top. The results are weak only if both operands are."""
    if a.weak and b.weak:
        dtype = _weak_type(a.dtype, b.dtype)
        return _weakly(a, dtype), _weakly(b, dtype)
    if a.weak:
        b, a = unify(op, b, a)
        return a, b
    a = computed(a)
    if b.weak:
        if a.dtype is DType.BOOL:
            _refuse_mix(op, a.dtype, "a Python number", "compare with True or False, or cast the bool: .to('i32')")
        if b.dtype.is_float and not a.dtype.is_float:
            _refuse_mix(op, a.dtype, "a Python float", "cast the integer: .to('f32')")
        return a, retype(b, a.dtype)
    b = computed(b)
    common = _common_type(op, a.dtype, b.dtype)
    return cast(a, common), cast(b, common)


def _weak_type(a: DType, b: DType) -> DType:
    if a.is_float or b.is_float:
        return DType.F32
    return DType.I64 if DType.I64 in (a, b) else DType.I32


def _refuse_mix(op: str, left: object, right: object, fix: str) -> NoReturn:
    raise TypeMixError(op=op, left=left, right=right, fix=fix, at=user_location())


def _common_type(op: str, a: DType, b: DType) -> DType:
    if a is b:
        return a
    if a.is_float and b.is_float:
        return DType.F64
    if a.is_int and b.is_int:
        for wide, narrow in ((a, b), (b, a)):
            if holds(wide, narrow):
                return wide
        _refuse_mix(op, a, b, f"neither holds the other: cast one, .to('{a}') or .to('{b}')")
    if DType.BOOL in (a, b):
        _refuse_mix(op, a, b, "cast the bool, .to('i32') or .to('f32'), or use te.where(condition, a, b)")
    number = a if a.is_float else b
    _refuse_mix(op, a, b, f"cast the integer: .to('{number}')")


def arithmetic(name: OpName, left: object, right: object) -> Value:
    """+ - * / // % minimum maximum."""
    a, b = unify(name.value, coerce(left, name.value), coerce(right, name.value))
    dtype = a.dtype
    if dtype is DType.BOOL:
        refuse_operand(name.value, dtype, "& | ^ combine conditions; .to('i32') counts them")
    if name is OpName.DIV and not dtype.is_float:
        refuse_operand("/", f"integers ({dtype})", "// for the floored quotient, or cast: .to('f32')")
    if name in (OpName.FLOORDIV, OpName.MOD) and dtype.is_float:
        refuse_operand(name.value, f"floats ({dtype})", "te.floor(a / b), or cast to an integer: .to('i32')")
    if dtype is INDEX and _is_neutral(name, b.expr):
        return a
    return Value(Op(name, (a.expr, b.expr), dtype), a.weak and b.weak)


def _is_neutral(name: OpName, right: Expr) -> bool:
    """``p * 1`` and ``p - 0``, which statics leave behind in index arithmetic."""
    match right:
        case Const(value=1):
            return name is OpName.MUL or name is OpName.FLOORDIV
        case Const(value=0):
            return name is OpName.ADD or name is OpName.SUB
        case _:
            return False


def bitwise(name: OpName, left: object, right: object) -> Value:
    """& | ^ on conditions and integers."""
    a, b = unify(name.value, coerce(left, name.value), coerce(right, name.value))
    if a.dtype.is_float:
        refuse_operand(name.value, a.dtype, "compare first, in parentheses: (a < b) & (c < d)")
    return Value(Op(name, (a.expr, b.expr), a.dtype), a.weak and b.weak)


def shift(name: OpName, left: object, right: object) -> Value:
    """<< and >>: the left operand's type; a count of its width or more shifts everything out."""
    a, b = strong(coerce(left, name.value)), coerce(right, name.value)
    if not a.dtype.is_int or not b.dtype.is_int:
        refuse_operand(name.value, a.dtype if not a.dtype.is_int else b.dtype, "shifts take integers")
    return Value(Op(name, (a.expr, cast(b, a.dtype).expr), a.dtype))


def compare(name: OpName, left: object, right: object) -> Value:
    """Comparisons: bool."""
    assert name in COMPARISONS
    a, b = unify(name.value, coerce(left, name.value), coerce(right, name.value))
    if a.dtype is DType.BOOL and name not in (OpName.EQ, OpName.NE):
        refuse_operand(name.value, a.dtype, "== and != compare conditions")
    return Value(Op(name, (strong(a).expr, strong(b).expr), DType.BOOL))


def unary(name: OpName, operand: object) -> Value:
    """Negation and absolute value, of any number."""
    value = computed(coerce(operand, name.value))
    if value.dtype is DType.BOOL:
        refuse_operand(name.value, value.dtype, "~ negates a condition")
    return Value(Op(name, (value.expr,), value.dtype), value.weak)


def power(base: object, exponent: object) -> Value:
    """``**``: a non-negative literal integer exponent multiplies out by squaring; any other one needs floats."""
    if isinstance(exponent, int) and not isinstance(exponent, bool):
        value = computed(coerce(base, "**"))
        if exponent < 0 and value.dtype.is_float:
            return 1.0 / power(value, -exponent)
        if exponent >= 0:
            return _repeated(value, exponent)
    a, b = unify("**", coerce(base, "**"), coerce(exponent, "**"))
    if not a.dtype.is_float:
        refuse_operand(
            "**",
            f"an integer base ({a.dtype}) with this exponent",
            "a non-negative Python integer exponent, or .to('f32')",
        )
    return Value(Op(OpName.POW, (strong(a).expr, strong(b).expr), a.dtype))


def _repeated(value: Value, exponent: int) -> Value:
    if exponent == 0:
        return retype(Value(Const(1, DType.I32), weak=True), value.dtype)
    half = _repeated(value, exponent // 2) if exponent > 1 else None
    square = value if half is None else half * half
    return square * value if exponent > 1 and exponent % 2 else square


def condition(operand: object, where: str) -> Value:
    """``operand`` as a bool value. Raises ConditionError."""
    value = coerce(operand, where)
    if value.dtype is not DType.BOOL:
        raise ConditionError(where=where, found=value.dtype, at=user_location())
    return value


def float_operand(name: str, operand: object) -> Value:
    """``operand`` as f32 or f64: for functions that integers do not have."""
    value = coerce(operand, f"te.{name}")
    if value.weak:
        return retype(value, DType.F32)
    if not value.dtype.is_float:
        refuse_operand(f"te.{name}", value.dtype, "cast it: .to('f32')")
    return computed(value)
