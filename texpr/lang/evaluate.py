"""The value of an expression at every point of a rectangle of iteration points, in NumPy.

Floats are float64 whatever their type says; a ``Cast`` rounds exactly. Integers wrap in NumPy's own types. A read
outside its source yields NaN, or for integers raises, unless the point is masked by an enclosing ``where=`` or
select.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import numpy as np

from texpr.dtypes import DType
from texpr.lang.arrays import Array, integer_range, round_float, to_integer, value_dtype
from texpr.lang.errors import ReferenceRangeError, ReferenceResultError
from texpr.lang.ir import (
    Axis,
    AxisRef,
    BoundaryMode,
    Cast,
    Const,
    DimRef,
    Expr,
    Func,
    Op,
    OpName,
    Present,
    Ptx,
    Ragged,
    Read,
    Scalar,
    ScalarRef,
    Select,
    Tensor,
    Var,
)
from texpr.math import expr as integer

Mask = Array | None
"""Which points count; None: all of them."""

CHUNK: Final = 1 << 20
"""Points evaluated at once, so that an intermediate result stays at 8 MB."""


@dataclass(slots=True)
class State:
    """What is known so far: tensors and funcs in logical shape (absent optional tensors are missing), scalars, and
    every dim."""

    arrays: dict[Tensor | Func, Array]
    scalars: dict[Scalar, Array]
    dims: Mapping[str, int]

    def extent(self, axis: Axis) -> int:
        return integer.evaluate(axis.extent, self.dims)


@dataclass(slots=True)
class Points:
    """A rectangle: array dimension ``d`` of every result runs over ``ranges[d]`` of ``axes[d]``."""

    axes: tuple[Axis, ...]
    ranges: tuple[range, ...]
    state: State
    variables: Mapping[str, Array] = field(default_factory=dict)
    memo: dict[tuple[int, int], tuple[Expr, Mask, Array]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(r) for r in self.ranges)


def whole(axes: tuple[Axis, ...], state: State) -> Points:
    """All points of ``axes``."""
    return Points(axes, tuple(range(state.extent(axis)) for axis in axes), state)


def rectangles(left: tuple[Axis, ...], over: tuple[Axis, ...], state: State) -> Iterator[Points]:
    """The points of ``left x over`` in rectangles of about ``CHUNK`` points that split only ``left``; a group of a
    ragged reduction axis is a rectangle with the points of that group."""
    all_left = tuple(range(state.extent(axis)) for axis in left)
    grouped = [axis.ragged for axis in over if axis.ragged is not None and axis.ragged.group in left]
    if grouped:
        at = left.index(grouped[0].group)
        for group in range(state.extent(grouped[0].group)):
            inner = tuple(_group_range(axis, grouped[0], group, state) for axis in over)
            yield from _split(left, over, (*all_left[:at], range(group, group + 1), *all_left[at + 1 :]), inner, state)
        return
    yield from _split(left, over, all_left, tuple(range(state.extent(axis)) for axis in over), state)


def _group_range(axis: Axis, ragged: Ragged, group: int, state: State) -> range:
    """The points of an axis in a group: all, unless the axis is ragged by the same offsets and group."""
    own = axis.ragged
    if own is None or own.offsets is not ragged.offsets or own.group is not ragged.group:
        return range(state.extent(axis))
    offsets = state.arrays[ragged.offsets]
    return range(int(offsets[group]), int(offsets[group + 1]))


def _split(
    left: tuple[Axis, ...],
    over: tuple[Axis, ...],
    whole_left: tuple[range, ...],
    inner: tuple[range, ...],
    state: State,
) -> Iterator[Points]:
    per_point = math.prod(len(r) for r in inner)
    pending = [whole_left]
    while pending:
        ranges = pending.pop()
        if math.prod(len(r) for r in ranges) * per_point <= CHUNK or all(len(r) <= 1 for r in ranges):
            yield Points((*left, *over), (*ranges, *inner), state)
            continue
        longest = max(range(len(ranges)), key=lambda d: len(ranges[d]))
        r = ranges[longest]
        middle = r.start + len(r) // 2
        for half in (range(r.start, middle), range(middle, r.stop)):
            pending.append((*ranges[:longest], half, *ranges[longest + 1 :]))


def evaluate(expr: Expr, points: Points, mask: Mask = None) -> Array:
    """The values of ``expr``, broadcastable to ``points.shape``. Subexpressions that are shared are evaluated once."""
    key = (id(expr), id(mask))
    if key not in points.memo:
        with np.errstate(all="ignore"):
            points.memo[key] = (expr, mask, _evaluate(expr, points, mask))
    return points.memo[key][2]


def _evaluate(expr: Expr, points: Points, mask: Mask) -> Array:
    match expr:
        case Const(value=value, dtype=dtype):
            return np.asarray(value, value_dtype(dtype))
        case ScalarRef(scalar=scalar):
            return points.state.scalars[scalar]
        case AxisRef(axis=axis) if axis not in points.axes:
            return group_of(axis, points)
        case AxisRef(axis=axis):
            d = points.axes.index(axis)
            return _along(np.arange(points.ranges[d].start, points.ranges[d].stop, dtype=np.int64), d, len(points.axes))
        case DimRef(value=value):
            return np.asarray(integer.evaluate(value, points.state.dims), np.int64)
        case Read(source=source, absent=absent):
            if source not in points.state.arrays and absent is not None:
                return evaluate(absent, points, mask)
            return gather(expr, points.state.arrays[source], points, mask)
        case Op(name=name, args=args):
            return np.asarray(OPERATIONS[name](*(evaluate(arg, points, mask) for arg in args)))
        case Select(condition=condition, then=then, otherwise=otherwise):
            chosen = evaluate(condition, points, mask)
            a = evaluate(then, points, both(mask, chosen))
            b = evaluate(otherwise, points, both(mask, ~chosen))
            return np.where(chosen, a, b)
        case Cast(value=value, dtype=dtype):
            return convert(evaluate(value, points, mask), value.dtype, dtype)
        case Ptx(args=args):
            return ptx_values(expr, [evaluate(arg, points, mask) for arg in args])
        case Present(tensor=tensor):
            return np.asarray(tensor in points.state.arrays)
        case Var(name=name):
            return points.variables[name]
        case _:
            assert_never(expr)


def ptx_values(expr: Ptx, operands: Sequence[Array]) -> Array:
    """What the reference of a PTX operation says of the result that ``expr`` is. Raises ReferenceResultError."""
    result: Any = expr.reference(*operands)
    count = len(expr.dtypes)
    if count > 1:
        if not isinstance(result, tuple) or len(result) != count:
            found = f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
            raise ReferenceResultError(what="te.ptx", found=found, expected=f"a tuple of {count} arrays")
        result = result[expr.component]
    return np.asarray(result).astype(value_dtype(expr.dtype))


def group_of(group: Axis, points: Points) -> Array:
    """The group that each point of a ragged axis belongs to: the last one that begins at or before it."""
    d, axis = next((d, a) for d, a in enumerate(points.axes) if a.ragged is not None and a.ragged.group is group)
    assert axis.ragged is not None
    here = np.arange(points.ranges[d].start, points.ranges[d].stop, dtype=np.int64)
    offsets = points.state.arrays[axis.ragged.offsets].astype(np.int64)
    return _along(np.searchsorted(offsets, here, side="right").astype(np.int64) - 1, d, len(points.axes))


def both(a: Mask, b: Array) -> Array:
    """The conjunction of a mask and a condition."""
    return b if a is None else a & b


def _along(values: Array, d: int, rank: int) -> Array:
    return values.reshape((1,) * d + (-1,) + (1,) * (rank - d - 1))


def convert(values: Array, source: DType, target: DType) -> Array:
    """The meaning of ``Cast``, and of storing a value in a func or output of another type."""
    if target.is_float:
        exact = source.is_float and source is not DType.F64 and target in (DType.F32, DType.F64)
        numbers = values.astype(np.float64)
        return numbers if exact or source is target else round_float(numbers, target)
    if source.is_float:
        return to_integer(values, target)
    return values.astype(value_dtype(target))


# Reads.


def gather(read: Read, array: Array, points: Points, mask: Mask) -> Array:
    """``array`` (the source's values, or its error bounds) at the read's indices."""
    if all(isinstance(index, AxisRef) for index in read.indices):
        axes = [index.axis for index in read.indices if isinstance(index, AxisRef)]
        known = all(axis in points.axes for axis in axes)
        ranges = [points.ranges[points.axes.index(axis)] for axis in axes] if known else []
        if known and len(set(axes)) == len(axes) and all(r.stop <= n for r, n in zip(ranges, array.shape, strict=True)):
            return _plain_read(array, axes, ranges, points)
    indices: list[Array] = []
    outside = np.asarray(False)
    for position, (index, extent) in enumerate(zip(read.indices, array.shape, strict=True)):
        wanted = evaluate(index, points, mask).astype(np.int64)
        inside, beyond = _resolve(wanted, extent, read.boundary.mode)
        if read.boundary.mode is BoundaryMode.NONE and array.dtype.kind != "f":
            _refuse_outside(read, position, wanted, beyond if mask is None else beyond & mask, extent)
        indices.append(inside)
        outside = outside | beyond
    if array.size == 0:
        found = np.zeros(np.broadcast_shapes(*(index.shape for index in indices)), array.dtype)
    else:
        found = array[tuple(indices)]
    if not outside.any():
        return found
    if read.boundary.mode is BoundaryMode.FILL:
        return np.where(outside, np.asarray(read.boundary.fill, array.dtype), found)
    return np.where(outside, np.asarray(np.nan if array.dtype.kind == "f" else 0, array.dtype), found)


def _plain_read(array: Array, axes: list[Axis], ranges: list[range], points: Points) -> Array:
    """A view: no copy for the reads that contractions are made of."""
    block = array[tuple(slice(r.start, r.stop) for r in ranges)]
    order = sorted(range(len(axes)), key=lambda k: points.axes.index(axes[k]))
    shape = tuple(len(r) if axis in axes else 1 for axis, r in zip(points.axes, points.ranges, strict=True))
    return block.transpose(order).reshape(shape)


def _resolve(index: Array, extent: int, mode: BoundaryMode) -> tuple[Array, Array]:
    """An index that exists (if any does), and where there is nothing to read."""
    nothing = np.broadcast_to(np.asarray(extent == 0), index.shape)
    match mode:
        case BoundaryMode.NONE | BoundaryMode.FILL:
            return np.clip(index, 0, max(extent - 1, 0)), (index < 0) | (index >= extent)
        case BoundaryMode.CLAMP:
            return np.clip(index, 0, max(extent - 1, 0)), nothing
        case BoundaryMode.WRAP:
            return index % max(extent, 1), nothing
        case BoundaryMode.MIRROR:
            period = max(2 * (extent - 1), 1)
            return np.minimum(index % period, -index % period), nothing
        case _:
            assert_never(mode)


def _refuse_outside(read: Read, position: int, index: Array, outside: Array, extent: int) -> None:
    if outside.any():
        first = int(np.broadcast_to(index, outside.shape)[outside][0])
        raise ReferenceRangeError(
            name=read.source.name, index=first, position=position, extent=extent, at=read.location
        )


# Operations.


def _shift_left(a: Array, count: Array) -> Array:
    bits = a.dtype.itemsize * 8
    valid = (count >= 0) & (count < bits)
    return np.where(valid, np.left_shift(a, np.where(valid, count, 0)), np.zeros_like(a))


def _shift_right(a: Array, count: Array) -> Array:
    """Arithmetic for signed types: a count of the width or more leaves the sign."""
    bits = a.dtype.itemsize * 8
    return (
        np.right_shift(a, np.where((count >= 0) & (count < bits), count, bits - 1))
        if a.dtype.kind == "i"
        else _logical(a, count)
    )


def _logical(a: Array, count: Array) -> Array:
    valid = count < a.dtype.itemsize * 8
    return np.where(valid, np.right_shift(a, np.where(valid, count, np.zeros_like(count))), np.zeros_like(a))


_erf: Final = np.vectorize(math.erf, otypes=[np.float64])

OPERATIONS: Final[dict[OpName, Callable[..., Any]]] = {
    OpName.ADD: np.add,
    OpName.SUB: np.subtract,
    OpName.MUL: np.multiply,
    OpName.DIV: np.divide,
    OpName.FLOORDIV: np.floor_divide,
    OpName.MOD: np.mod,
    OpName.NEG: np.negative,
    OpName.ABS: np.abs,
    OpName.MIN: np.minimum,
    OpName.MAX: np.maximum,
    OpName.POW: np.power,
    OpName.AND: np.bitwise_and,
    OpName.OR: np.bitwise_or,
    OpName.XOR: np.bitwise_xor,
    OpName.NOT: np.invert,
    OpName.SHL: _shift_left,
    OpName.SHR: _shift_right,
    OpName.LT: np.less,
    OpName.LE: np.less_equal,
    OpName.GT: np.greater,
    OpName.GE: np.greater_equal,
    OpName.EQ: np.equal,
    OpName.NE: np.not_equal,
    OpName.EXP: np.exp,
    OpName.EXP2: np.exp2,
    OpName.LOG: np.log,
    OpName.LOG2: np.log2,
    OpName.SQRT: np.sqrt,
    OpName.RSQRT: lambda a: 1.0 / np.sqrt(a),
    OpName.SIN: np.sin,
    OpName.COS: np.cos,
    OpName.TANH: np.tanh,
    OpName.ERF: lambda a: _erf(a) if np.size(a) else np.zeros_like(a),
    OpName.FLOOR: np.floor,
    OpName.CEIL: np.ceil,
    OpName.FMA: lambda a, b, c: a * b + c,
}


def extreme(dtype: DType, greatest: bool) -> Array:
    """The identity of min (``greatest``) or max: an infinity, or the integer type's limit."""
    if dtype.is_float:
        return np.asarray(np.inf if greatest else -np.inf)
    low, high = integer_range(dtype)
    return np.asarray(high if greatest else low, value_dtype(dtype))
