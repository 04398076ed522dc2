"""``te.sum`` and its kin: reductions over axes, guarded by ``where=``."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import NoReturn

from texpr.dtypes import DType
from texpr.lang import ir
from texpr.lang.errors import ReductionAxisError, ReductionError, user_location
from texpr.lang.ir import Axis, AxisRef, DimRef, Expr, Op, OpName, Ranking, ReduceOp
from texpr.lang.monoid import UserMonoid
from texpr.lang.trace import axes_in, current_trace
from texpr.lang.value import Number, Value, axis_of, cast, coerce, computed, condition, refuse_operand, strong
from texpr.math.expr import product

Operand = Value | Number
Over = Value | tuple[Value, ...]
Where = Value | None


def sum(value: Operand, *, over: Over, where: Where = None) -> Value:
    """The sum over ``over``: floats below f32 add up in f32, integers wrap in their own type; 0 for no points."""
    return _reduce(ReduceOp.SUM, value, over, where)


def prod(value: Operand, *, over: Over, where: Where = None) -> Value:
    """The product; 1 for no points."""
    return _reduce(ReduceOp.PROD, value, over, where)


def max(value: Operand, *, over: Over, where: Where = None) -> Value:
    """The greatest value, NaN if there is one; -inf or the least integer for no points. ``te.maximum`` takes two
    operands."""
    return _reduce(ReduceOp.MAX, value, over, where)


def min(value: Operand, *, over: Over, where: Where = None) -> Value:
    """The least value, NaN if there is one; inf or the greatest integer for no points. ``te.minimum`` takes two
    operands."""
    return _reduce(ReduceOp.MIN, value, over, where)


def any(value: Value, *, over: Over, where: Where = None) -> Value:
    """Whether a condition holds at some point."""
    return _reduce(ReduceOp.ANY, value, over, where)


def all(value: Value, *, over: Over, where: Where = None) -> Value:
    """Whether a condition holds at every point."""
    return _reduce(ReduceOp.ALL, value, over, where)


def argmax(value: Operand, *, over: Over, where: Where = None) -> tuple[Value, Value]:
    """(greatest value, its position): ``v[i], a[i] = te.argmax(x[i, j], over=j)``.

    The position is row-major over ``over``; ties take the lowest; NaN beats every number; -1 for no points.
    """
    return _arg_reduce(ReduceOp.ARGMAX, value, over, where)


def argmin(value: Operand, *, over: Over, where: Where = None) -> tuple[Value, Value]:
    """(least value, its position); as :func:`argmax`."""
    return _arg_reduce(ReduceOp.ARGMIN, value, over, where)


def sort(value: Operand, *, over: Value, into: Value, descending: bool = False, where: Where = None) -> Value:
    """The values along ``over`` in order, along ``into``: ``y[i, r] = te.sort(x[i, j], over=j, into=r)``.

    Ascending, or ``descending``; -0.0 comes before 0.0 and NaN after every number. A rank beyond the number of points
    has the greatest value of the type (the least, if ``descending``). The axis ``into`` may be shorter than ``over``:
    only as many values are wanted then.
    """
    return _rank("te.sort", value, over, into, descending, where)[0]


def argsort(value: Operand, *, over: Value, into: Value, descending: bool = False, where: Where = None) -> Value:
    """The positions along ``over`` of the values in order; equal ones keep their order. -1 for a rank beyond the number
    of points. As :func:`sort` otherwise."""
    return _rank("te.argsort", value, over, into, descending, where)[1]


def topk(
    value: Operand, *, over: Value, into: Value, largest: bool = True, where: Where = None
) -> tuple[Value, Value]:
    """(the largest values, their positions), best first: ``v[i, t], a[i, t] = te.topk(x[i, j], over=j, into=t)`` for as
    many as ``into`` has points.

    Ties take the lowest position; NaN counts as the greatest. ``largest=False``: the smallest values. As :func:`sort`
    otherwise.
    """
    values = _rank("te.topk", value, over, into, largest, where)
    return values[0], values[1]


def mean(value: Operand, *, over: Over, where: Where = None) -> Value:
    """The sum divided by the number of points (of those where ``where`` holds, if given); NaN for no points."""
    operand = computed(strong(coerce(value, "te.mean")))
    if not operand.dtype.is_float:
        refuse_operand("te.mean", operand.dtype, "cast it: .to('f32')")
    total = _reduce(ReduceOp.SUM, operand, over, where)
    if where is None and all_plain(_axes(ReduceOp.SUM, over)):
        count: Expr = DimRef(product(axis.extent for axis in _axes(ReduceOp.SUM, over)))
        return total / cast(Value(count), operand.dtype)
    return total / cast(_reduce(ReduceOp.SUM, 1, over, where), operand.dtype)


def all_plain(axes: tuple[Axis, ...]) -> bool:
    """Whether no axis is ragged: then the number of points is the product of the extents."""
    return not builtins.any(axis.ragged is not None for axis in axes)


def reduce(
    op: str | UserMonoid, value: Operand | tuple[Operand, ...], *, over: Over, where: Where = None
) -> Value | tuple[Value, ...]:
    """A reduction by name (``"or"``, ``"and"``, ``"xor"``, and the others' names) or by a :func:`texpr.monoid` on a
    tuple of values."""
    if isinstance(op, UserMonoid):
        return _reduce_monoid(op, value, over, where)
    names = {known.value: known for known in ReduceOp}
    if op not in names:
        raise ReductionError(
            op="te.reduce",
            problem=f"no operator {op!r}",
            hint=f"one of {', '.join(names)}, or a te.monoid",
            at=user_location(),
        )
    if isinstance(value, tuple):
        raise ReductionError(
            op="te.reduce",
            problem=f"'{op}' takes one value, got {len(value)}",
            hint="a te.monoid reduces tuples",
            at=user_location(),
        )
    if names[op] in (ReduceOp.ARGMAX, ReduceOp.ARGMIN):
        return _arg_reduce(names[op], value, over, where)
    return _reduce(names[op], value, over, where)


def _reduce(op: ReduceOp, value: Operand, over: Over, where: Where) -> Value:
    axes = _axes(op, over)
    coerced = coerce(value, f"te.{op.value}")
    operand = computed(strong(coerced))
    check_type(op, operand.dtype)
    (result,) = current_trace(op.value).add_reduction(op, (operand.expr,), axes, _where(op, where), coerced.weak)
    return result


def check_type(op: ReduceOp, dtype: DType) -> None:
    """Raise unless ``op`` is defined on values of this type."""
    match op:
        case ReduceOp.ANY | ReduceOp.ALL if dtype is not DType.BOOL:
            refuse_operand(f"te.{op.value}", dtype, "a condition: te.any(x[i, j] != 0, over=j)")
        case ReduceOp.AND | ReduceOp.OR | ReduceOp.XOR if dtype.is_float:
            refuse_operand(f"te.reduce('{op.value}')", dtype, "integers or conditions")
        case ReduceOp.SUM | ReduceOp.PROD | ReduceOp.MIN | ReduceOp.MAX if dtype is DType.BOOL:
            refuse_operand(f"te.{op.value}", dtype, "te.any or te.all; te.sum(condition.to('i32'), over=...) counts")
        case _:
            pass


def _arg_reduce(op: ReduceOp, value: Operand, over: Over, where: Where) -> tuple[Value, Value]:
    axes = _axes(op, over)
    key = computed(strong(coerce(value, f"te.{op.value}")))
    if key.dtype is DType.BOOL:
        refuse_operand(f"te.{op.value}", key.dtype, "cast it: .to('i32')")
    position: Expr = AxisRef(axes[0])
    for axis in axes[1:]:
        scaled = Op(OpName.MUL, (position, DimRef(axis.extent)), ir.INDEX)
        position = Op(OpName.ADD, (scaled, AxisRef(axis)), ir.INDEX)
    values = current_trace(op.value).add_reduction(op, (key.expr, position), axes, _where(op, where))
    return values[0], values[1]


def _rank(
    name: str, value: Operand, over: object, into: object, descending: bool, where: Where
) -> tuple[Value, ...]:
    if isinstance(over, tuple):
        fix = "sort along one axis: over=j"
        raise ReductionAxisError(op=name, axis="a tuple", problem="it is not an axis", fix=fix, at=user_location())
    op = Ranking(_one_axis(name, into), bool(descending))
    axis = _one_axis(name, over)
    if axis is op.into:
        fix = "a second axis for the ranks, of the same extent if all values are wanted"
        problem = "it is both sorted and the axis of the result"
        raise ReductionAxisError(op=name, axis=axis.name, problem=problem, fix=fix, at=user_location())
    key = strong(coerce(value, name))
    if key.dtype not in (DType.F16, DType.BF16):  # these sort as they are, in half the registers
        key = computed(key)
    if key.dtype is DType.BOOL:
        refuse_operand(name, key.dtype, "cast it: .to('i32')")
    if op.into in axes_in((key.expr,)):
        problem = "the sorted value varies along the axis of the result"
        fix = f"a value over {axis.name} and the axes that are kept"
        raise ReductionAxisError(op=name, axis=op.into.name, problem=problem, fix=fix, at=user_location())
    guard = None if where is None else condition(where, f"where= of {name}").expr
    return current_trace(name).add_reduction(op, (key.expr, AxisRef(axis)), (axis,), guard)


def _one_axis(name: str, part: object) -> Axis:
    axis = axis_of(part)
    if axis is None:
        found = part if isinstance(part, (str, int)) else type(part).__name__
        fix = "over=j, into=r, axes from te.axes"
        raise ReductionAxisError(op=name, axis=found, problem="it is not an axis", fix=fix, at=user_location())
    return axis


def _reduce_monoid(
    monoid: UserMonoid, value: Operand | tuple[Operand, ...], over: Over, where: Where
) -> Value | tuple[Value, ...]:
    operands = value if isinstance(value, tuple) else (value,)
    axes = _axes(monoid, over)
    coerced: Sequence[Value] = [computed(strong(coerce(operand, "te.reduce"))) for operand in operands]
    op = monoid.typed(tuple(operand.dtype for operand in coerced))
    exprs = tuple(operand.expr for operand in coerced)
    values = current_trace("reduce").add_reduction(op, exprs, axes, _where(monoid, where))
    return values if isinstance(value, tuple) else values[0]


def _name(op: ReduceOp | UserMonoid) -> str:
    return f"te.{op.value}" if isinstance(op, ReduceOp) else "te.reduce"


def _axes(op: ReduceOp | UserMonoid, over: object) -> tuple[Axis, ...]:
    parts: tuple[object, ...] = over if isinstance(over, tuple) else (over,)
    axes: list[Axis] = []
    for part in parts:
        axis = axis_of(part)
        if axis is None:
            _refuse_axis(op, part)
        if axis in axes:
            fix = "name each axis once"
            raise ReductionAxisError(
                op=_name(op), axis=axis.name, problem="it is named twice", fix=fix, at=user_location()
            )
        axes.append(axis)
    if not axes:
        raise ReductionError(
            op=_name(op), problem="over=() names no axis", hint="over=k or over=(r, s)", at=user_location()
        )
    return tuple(axes)


def _refuse_axis(op: ReduceOp | UserMonoid, part: object) -> NoReturn:
    found = (
        part if isinstance(part, (str, int)) else "an expression" if isinstance(part, Value) else type(part).__name__
    )
    raise ReductionAxisError(
        op=_name(op),
        axis=found,
        problem="it is not an axis",
        fix="over=k or over=(r, s), axes from te.axes",
        at=user_location(),
    )


def _where(op: ReduceOp | UserMonoid, where: object) -> Expr | None:
    return None if where is None else condition(where, f"where= of {_name(op)}").expr
