"""Where the values of integer tiles lie, as far as it is obvious: enough to see that an index is not negative."""

from __future__ import annotations

from texpr.dtypes import DType, Kind
from texpr.gluon.function import Function
from texpr.gluon.integers import range_of
from texpr.lang.ir import OpName
from texpr.math.intervals import ANY, Bounds
from texpr.tile.ir import Cast, Choose, Elementwise, Expr, Lane, Literal, Relayout, Uniform


def tile_range(f: Function, expr: Expr) -> Bounds:
    """Bounds of every element; those of the type where nothing is known. Remembered by value number until a symbol gets
    a new meaning."""
    number = f.values.number(expr)
    known = f.tile_ranges.get(number)
    if known is None:
        known = _fitting(_compute(f, expr), expr.dtype)
        f.tile_ranges[number] = known
    return known


def _compute(f: Function, expr: Expr) -> Bounds:
    if not expr.dtype.is_int:
        return ANY
    match expr:
        case Lane(space=space, dim=dim):
            return Bounds(0, space.dims[dim].size - 1)
        case Uniform(value=value):
            return range_of(value, f.ranges)
        case Literal(value=value):
            return Bounds(int(value), int(value))
        case Cast(value=value) if value.dtype.is_int:
            return tile_range(f, value)
        case Relayout(value=value):
            return tile_range(f, value)
        case Choose(then=then, otherwise=otherwise):
            return _hull(tile_range(f, then), tile_range(f, otherwise))
        case Elementwise(op=op, args=(left, right), dtype=dtype):
            return _operation(op, tile_range(f, left), tile_range(f, right), dtype)
        case _:
            return _whole(expr.dtype)


def _operation(op: OpName, left: Bounds, right: Bounds, dtype: DType) -> Bounds:
    match op:
        case OpName.ADD:
            return left + right
        case OpName.SUB:
            return left + right * Bounds(-1, -1)
        case OpName.MUL:
            return left * right
        case OpName.FLOORDIV:
            return left.floordiv(right)
        case OpName.MOD:
            return left.mod(right)
        case OpName.MAX:
            lows = [bound.lo for bound in (left, right) if bound.lo is not None]
            return Bounds(max(lows, default=None), _hull(left, right).hi)
        case OpName.AND if right.lo is not None and right.lo >= 0:
            return Bounds(0, right.hi)
        case _:
            return _whole(dtype)


def _hull(a: Bounds, b: Bounds) -> Bounds:
    lo = None if a.lo is None or b.lo is None else min(a.lo, b.lo)
    hi = None if a.hi is None or b.hi is None else max(a.hi, b.hi)
    return Bounds(lo, hi)


def _whole(dtype: DType) -> Bounds:
    """Every value of an integer type."""
    if dtype.kind is Kind.SIGNED:
        return Bounds(-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1)
    return Bounds(0, (1 << dtype.bits) - 1)


def _fitting(found: Bounds, dtype: DType) -> Bounds:
    """``found`` if the type holds all of it, since arithmetic wraps otherwise. An open end comes from a symbol of a
    launch, whose products with tile sizes are checked to fit."""
    if not dtype.is_int:
        return ANY
    whole = _whole(dtype)
    assert whole.lo is not None and whole.hi is not None
    if (found.lo is not None and found.lo < whole.lo) or (found.hi is not None and found.hi > whole.hi):
        return whole
    return Bounds(whole.lo if found.lo is None else found.lo, found.hi)
