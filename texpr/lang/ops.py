"""Scalar operations of a body: ``te.exp``, ``te.where``, ``te.gelu``, casts by name, ``te.ptx``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final, overload

from texpr.dtypes import DType
from texpr.lang.errors import HintReadError, OptionalReadError, PtxError, user_location
from texpr.lang.handles import TensorHandle
from texpr.lang.ir import Op, OpName, Present, Ptx, Select
from texpr.lang.trace import resolve_dtype
from texpr.lang.value import (
    Number,
    Value,
    arithmetic,
    cast,
    coerce,
    condition,
    float_operand,
    refuse_operand,
    strong,
    unify,
)

Operand = Value | Number


def _float(name: OpName, operand: Operand) -> Value:
    value = float_operand(name.value, operand)
    return Value(Op(name, (value.expr,), value.dtype))


def exp(x: Operand) -> Value:
    """e ** x."""
    return _float(OpName.EXP, x)


def exp2(x: Operand) -> Value:
    """2 ** x."""
    return _float(OpName.EXP2, x)


def log(x: Operand) -> Value:
    """The natural logarithm."""
    return _float(OpName.LOG, x)


def log2(x: Operand) -> Value:
    """The binary logarithm."""
    return _float(OpName.LOG2, x)


def sqrt(x: Operand) -> Value:
    """The square root."""
    return _float(OpName.SQRT, x)


def rsqrt(x: Operand) -> Value:
    """1 / sqrt(x)."""
    return _float(OpName.RSQRT, x)


def sin(x: Operand) -> Value:
    """The sine of radians."""
    return _float(OpName.SIN, x)


def cos(x: Operand) -> Value:
    """The cosine of radians."""
    return _float(OpName.COS, x)


def tanh(x: Operand) -> Value:
    """The hyperbolic tangent."""
    return _float(OpName.TANH, x)


def erf(x: Operand) -> Value:
    """The error function."""
    return _float(OpName.ERF, x)


def floor(x: Operand) -> Value:
    """The greatest integer not above x, as a float."""
    return _float(OpName.FLOOR, x)


def ceil(x: Operand) -> Value:
    """The least integer not below x, as a float."""
    return _float(OpName.CEIL, x)


def sigmoid(x: Operand) -> Value:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp(-float_operand("sigmoid", x)))


def relu(x: Operand) -> Value:
    """max(x, 0), of any number; NaN stays NaN."""
    return maximum(x, 0)


def silu(x: Operand) -> Value:
    """x * sigmoid(x)."""
    value = float_operand("silu", x)
    return value * sigmoid(value)


def gelu(x: Operand, exact: bool = False) -> Value:
    """The Gaussian error linear unit: the tanh form, or with ``exact`` x * Phi(x) by the error function.

    0.5 x (1 + tanh(u)) is written as the equal x / (1 + exp(-2 u)), u = sqrt(2/pi) (x + 0.044715 x^3): one
    exponential and no cancellation.
    """
    value = float_operand("gelu", x)
    if exact:
        return 0.5 * value * (1.0 + erf(value * math.sqrt(0.5)))
    scale = -2.0 * math.sqrt(2.0 / math.pi)
    return value / (1.0 + exp(value * (scale + (0.044715 * scale) * (value * value))))


def minimum(a: Operand, b: Operand) -> Value:
    """The lesser of two numbers; NaN if either is."""
    return arithmetic(OpName.MIN, a, b)


def maximum(a: Operand, b: Operand) -> Value:
    """The greater of two numbers; NaN if either is."""
    return arithmetic(OpName.MAX, a, b)


def fma(a: Operand, b: Operand, c: Operand) -> Value:
    """a * b + c with one rounding, in f32 or f64."""
    first, second = unify("te.fma", coerce(a, "te.fma"), coerce(b, "te.fma"))
    first, third = unify("te.fma", first, coerce(c, "te.fma"))
    second, third = unify("te.fma", second, third)
    if not first.dtype.is_float:
        refuse_operand("te.fma", first.dtype, "integers: a * b + c is exact already")
    return Value(Op(OpName.FMA, (strong(first).expr, strong(second).expr, strong(third).expr), first.dtype))


def where(chosen: Value | bool, then: Operand, otherwise: Operand) -> Value:
    """``then`` where the condition holds, else ``otherwise``. The branch not taken may read out of range."""
    test = condition(chosen, "the condition of te.where")
    a, b = unify("te.where", coerce(then, "te.where"), coerce(otherwise, "te.where"))
    return Value(Select(test.expr, a.expr, b.expr), a.weak and b.weak)


def present(tensor: TensorHandle) -> Value:
    """Whether an optional input was passed."""
    if not isinstance(tensor, TensorHandle) or not tensor.source.optional:
        name = getattr(tensor, "name", "the argument of te.present")
        raise OptionalReadError(
            name=name, problem="is not an optional input", hint="mark it in the signature: b: T[N]?", at=user_location()
        )
    if tensor.source.hint:
        raise HintReadError(name=tensor.name, at=user_location())
    return Value(Present(tensor.source))


def _constructor(dtype: DType) -> Callable[[Operand], Value]:
    def construct(x: Operand) -> Value:
        return cast(coerce(x, f"te.{dtype}"), dtype)

    construct.__name__ = dtype.value
    construct.__doc__ = f"A Python number as {dtype}, or a value converted to it."
    return construct


f8e4m3 = _constructor(DType.F8E4M3)
f8e5m2 = _constructor(DType.F8E5M2)
f16 = _constructor(DType.F16)
bf16 = _constructor(DType.BF16)
tf32 = _constructor(DType.TF32)
f32 = _constructor(DType.F32)
f64 = _constructor(DType.F64)
i8 = _constructor(DType.I8)
i16 = _constructor(DType.I16)
i32 = _constructor(DType.I32)
i64 = _constructor(DType.I64)
u8 = _constructor(DType.U8)
u16 = _constructor(DType.U16)
u32 = _constructor(DType.U32)
u64 = _constructor(DType.U64)

_PLACEHOLDER: Final = re.compile(r"(?<!\$)(?:\$\$)*\$\{?(\d+)")
_REGISTER: Final = {8: "r", 16: "h", 32: "r", 64: "l"}


@overload
def ptx(
    template: str,
    *args: Operand,
    dtype: str | DType,
    reference: Callable[..., object],
    constraints: str | None = None,
    max_ulp: float = 0.0,
) -> Value: ...


@overload
def ptx(
    template: str,
    *args: Operand,
    dtype: tuple[str | DType, ...],
    reference: Callable[..., object],
    constraints: str | None = None,
    max_ulp: float = 0.0,
) -> tuple[Value, ...]: ...


def ptx(
    template: str,
    *args: Operand,
    dtype: str | DType | tuple[str | DType, ...],
    reference: Callable[..., object],
    constraints: str | None = None,
    max_ulp: float = 0.0,
) -> Value | tuple[Value, ...]:
    """One inline-PTX instruction (or a short sequence) on scalars, which fuses like any other operation.

    ``template`` names the result ``$0`` and the operands ``$1``, ``$2`` ...; a tuple of types as ``dtype`` makes as
    many results, ``$0`` ``$1`` ..., with the operands after them, and gives a tuple.

    ``constraints`` are LLVM's (``"=f,f,f"``) and follow from the types by default: ``h`` for 16 bits, ``r`` for 32,
    ``l`` for 64, ``f`` and ``d`` for f32 and f64; 8 bits stand in the low bits of an ``r``, sign-extended or
    zero-extended. ``reference`` is its meaning on NumPy arrays, floats as float64; ``max_ulp`` its error in ULPs of the
    result. Raises PtxError.
    """
    if not args:
        raise PtxError(problem="it takes at least one operand", at=user_location())
    if not callable(reference):
        raise PtxError(problem="reference= must be a function on NumPy arrays", at=user_location())
    if not (isinstance(max_ulp, (int, float)) and 0 <= max_ulp < math.inf):
        problem = f"max_ulp= is an error of 0 or more units in the last place, not {max_ulp!r}"
        raise PtxError(problem=problem, at=user_location())
    operands = [strong(coerce(arg, "te.ptx")) for arg in args]
    results = tuple(resolve_dtype(one) for one in (dtype if isinstance(dtype, tuple) else (dtype,)))
    if not results:
        raise PtxError(problem="it has no result: dtype= is an empty tuple", at=user_location())
    if not isinstance(template, str):
        raise PtxError(problem=f"the template is a text, not {template!r}", at=user_location())
    _check_placeholders(template, len(results), len(operands))
    # Several instructions may write a result before the last operand is read: it must not be in the same register.
    mark = "=" if template.count(";") <= 1 and len(results) == 1 else "=&"
    registers = [*(mark + _register(result) for result in results), *(_register(value.dtype) for value in operands)]
    chosen = ",".join(registers) if constraints is None else constraints
    _check_constraints(chosen, len(results), len(operands))
    exprs = tuple(operand.expr for operand in operands)
    values = tuple(
        Value(Ptx(template, chosen, exprs, results, reference, max_ulp, n)) for n in range(len(results))
    )
    return values if isinstance(dtype, tuple) else values[0]


def _check_placeholders(template: str, results: int, operands: int) -> None:
    mentioned = {int(number) for number in _PLACEHOLDER.findall(template)}
    for number in range(results + operands):
        if number not in mentioned:
            raise PtxError(problem=f"the template does not mention ${number}", at=user_location())
    if max(mentioned) >= results + operands:
        last = results + operands - 1
        problem = f"the template mentions ${max(mentioned)}, and the last operand is ${last}"
        raise PtxError(problem=problem, at=user_location())


def _check_constraints(constraints: str, results: int, operands: int) -> None:
    parts = constraints.split(",")
    if len(parts) != results + operands:
        problem = f"{results + operands} constraints needed, got '{constraints}'"
        raise PtxError(problem=problem, at=user_location())
    if [part.startswith("=") for part in parts] != [n < results for n in range(len(parts))]:
        which = "the first constraint is the result's" if results == 1 else f"the first {results} are the results'"
        problem = f"{which}, as in '=r,r', and the others are operands': '{constraints}'"
        raise PtxError(problem=problem, at=user_location())


def _register(dtype: DType) -> str:
    if dtype is DType.BOOL:
        raise PtxError(problem="bool has no register", hint=".to('i32')", at=user_location())
    if dtype.bits < 8:
        raise PtxError(problem=f"{dtype} has no register", hint="'i8' or 'u8'", at=user_location())
    if dtype is DType.F32:
        return "f"
    return "d" if dtype is DType.F64 else _REGISTER[dtype.bits]
