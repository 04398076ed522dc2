"""What a user's function over tiles computes: its reference on whole lines, and how near the function comes to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from texpr.lang.arrays import Array, value_dtype
from texpr.lang.bound_expr import Rectangle, bound_expr
from texpr.lang.bounded import Bounded
from texpr.lang.errors import ReferenceResultError
from texpr.lang.evaluate import Points, evaluate
from texpr.lang.ir import Scan
from texpr.lang.promise import results_with_bounds
from texpr.lang.user_code import Operand, TileOp


def tile_values(scan: Scan, op: TileOp, points: Points) -> tuple[Array, ...]:
    """One array per result; the last dimension of ``points`` is the line. Raises ReferenceResultError."""
    operands = [Bounded.exact(np.asarray(evaluate(expr, points))) for expr in scan.exprs]
    calls = [
        (_results(op, [one.value for one in given], shape), shape) for given, shape in _calls(op, operands, points)
    ]
    return tuple(
        _gathered([_spread(op, n, results[n], shape) for results, shape in calls], value_dtype(result.dtype), points)
        for n, result in enumerate(op.results)
    )


def tile_bounds(scan: Scan, op: TileOp, rectangle: Rectangle) -> list[Bounded]:
    """The same with their bounds. An operand that could be another value makes all of its line doubtful. Raises
    UndeclaredErrorError."""
    points = rectangle.points
    names = [operand.name for operand in op.operands]
    dtypes = [result.dtype for result in op.results]
    calls: list[tuple[list[Bounded], tuple[int, ...]]] = []
    for given, shape in _calls(op, [bound_expr(expr, rectangle, None) for expr in scan.exprs], points):
        values = _results(op, [one.value for one in given], shape)
        doubt = np.zeros((*shape[:-1], 1), np.bool_)
        for one, operand in zip(given, op.operands, strict=True):
            unsure = one.ambiguous.any(axis=-1, keepdims=True) if operand.line else one.ambiguous[..., None]
            doubt = doubt | (unsure if op.rows and operand.rows else unsure.any())
        doubts = [doubt[..., 0] if per_line else doubt for per_line in op.per_line]
        what = f"gluon_op {op.name}"
        calls.append((results_with_bounds(what, op.promise, names, given, values, dtypes, doubts), shape))

    def part(n: int, of: Callable[[Bounded], Array], dtype: np.dtype[Any]) -> Array:
        arrays = [(np.broadcast_to(of(results[n]), results[n].value.shape), shape) for results, shape in calls]
        return _gathered([_spread(op, n, array, shape) for array, shape in arrays], dtype, points)

    return [
        Bounded(
            part(n, lambda one: one.value, value_dtype(dtype)),
            part(n, lambda one: one.bound, np.dtype(np.float64)),
            part(n, lambda one: one.ambiguous, np.dtype(np.bool_)),
        )
        for n, dtype in enumerate(dtypes)
    ]


def _calls(
    op: TileOp, operands: Sequence[Bounded], points: Points
) -> Iterator[tuple[list[Bounded], tuple[int, ...]]]:
    """The operands of every call of the reference, with the shape of its results: all lines at once, or one line each
    for a function that knows no rows."""
    rows, length = math.prod(points.shape[:-1]), points.shape[-1]
    if not rows or not length:
        return
    laid_out = [
        Bounded(*(_laid_out(part, np.shape(one.value), operand, points) for part in _parts(one)))
        for one, operand in zip(operands, op.operands, strict=True)
    ]
    if op.rows:
        yield laid_out, (rows, length)
        return
    for row in range(rows):
        yield [Bounded(*(part[row] for part in _parts(one))) for one in laid_out], (length,)


def _parts(one: Bounded) -> tuple[Array, Array, Array]:
    return one.value, one.bound, one.ambiguous


def _laid_out(part: Array, shape: tuple[int, ...], operand: Operand, points: Points) -> Array:
    """What is known at the points, over rows and the line where the operand varies along them. ``shape`` is that of the
    operand's values, which have one element along what they do not vary along."""
    rank = len(points.shape)
    full = np.broadcast_to(part, shape).reshape((1,) * (rank - len(shape)) + shape)
    length = points.shape[-1] if operand.line else 1
    left = points.shape[:-1] if operand.rows else (1,) * (rank - 1)
    rows = np.broadcast_to(full, (*left, length)).reshape((-1, length))
    if not operand.line:
        rows = rows[:, 0]
    return rows if operand.rows else rows[0]


def _results(op: TileOp, operands: Sequence[Array], shape: tuple[int, ...]) -> list[Array]:
    """What the reference returns, in the types of the results."""
    with np.errstate(all="ignore"):
        said: Any = op.reference(*(np.array(operand) for operand in operands), **dict(op.statics))
    results = said if isinstance(said, tuple) else (said,)
    what, count = f"gluon_op {op.name}", len(op.results)
    if len(results) != count:
        raise ReferenceResultError(what=what, found=f"{len(results)} arrays", expected=f"a tuple of {count} arrays")
    found = []
    for result, per_line, array in zip(op.results, op.per_line, map(np.asarray, results), strict=True):
        own = shape[:-1] if per_line else shape
        if array.shape != own:
            expected = f"{result.name} of shape {list(own)}"
            raise ReferenceResultError(
                what=what, found=f"{result.name} of shape {list(array.shape)}", expected=expected
            )
        if result.dtype.is_int and array.dtype.kind == "f":
            expected = f"{result.name} as integers"
            raise ReferenceResultError(what=what, found=f"{result.name} as {array.dtype}", expected=expected)
        found.append(array.astype(value_dtype(result.dtype)))
    return found


def _spread(op: TileOp, n: int, array: Array, shape: tuple[int, ...]) -> Array:
    """A result at all places of the lines."""
    return np.broadcast_to(array[..., None], shape) if op.per_line[n] else array


def _gathered(parts: Sequence[Array], dtype: np.dtype[Any], points: Points) -> Array:
    """The calls' results at all points."""
    if not parts:
        return np.zeros(points.shape, dtype)
    return np.concatenate([part.reshape((-1, points.shape[-1])) for part in parts]).reshape(points.shape)
