"""Reductions over a rectangle of points, in NumPy; sums of products over whole arrays go through ``einsum``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from texpr.dtypes import DType
from texpr.lang.arrays import Array, value_dtype
from texpr.lang.errors import ReferenceRangeError
from texpr.lang.evaluate import Mask, Points, State, both, evaluate, extreme, whole
from texpr.lang.ir import Axis, AxisRef, Expr, Monoid, Op, OpName, Ranking, Reduce, ReduceOp, walk

FACTOR_LIMIT: Final = 1 << 26
"""Elements of one factor of a contraction; larger ones are evaluated piece by piece instead."""


def reduce_points(reduce: Reduce, points: Points) -> tuple[Array, ...]:
    """One array per component, over the leading axes of ``points``; its trailing ones are the reduction's."""
    if isinstance(reduce.op, Ranking):
        return rank_points(reduce, reduce.op, points)
    mask = None if reduce.where is None else evaluate(reduce.where, points)
    left = points.shape[: len(points.axes) - len(reduce.axes)]
    count = math.prod(points.shape[len(left) :])
    flat = [_spread(evaluate(expr, points, mask), points.shape).reshape(*left, count) for expr in reduce.exprs]
    kept = np.asarray(True) if mask is None else _spread(mask, points.shape).reshape(*left, count)
    if isinstance(reduce.op, Monoid):
        return reduce_monoid(reduce.op, flat, kept)
    with np.errstate(all="ignore"):
        return _reduce_named(reduce.op, flat, kept, reduce.exprs[0].dtype)


def _spread(values: Array, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(values, shape)


def _reduce_named(op: ReduceOp, flat: Sequence[Array], kept: Array, dtype: DType) -> tuple[Array, ...]:
    values = flat[0]
    match op:
        case ReduceOp.SUM:
            return (np.add.reduce(np.where(kept, values, np.zeros((), values.dtype)), axis=-1, dtype=values.dtype),)
        case ReduceOp.PROD:
            return (np.multiply.reduce(np.where(kept, values, np.ones((), values.dtype)), axis=-1, dtype=values.dtype),)
        case ReduceOp.MAX | ReduceOp.MIN:
            identity = extreme(dtype, op is ReduceOp.MIN)
            function = np.minimum if op is ReduceOp.MIN else np.maximum
            return (function.reduce(np.where(kept, values, identity), axis=-1, initial=identity),)
        case ReduceOp.ANY | ReduceOp.OR:
            return (np.bitwise_or.reduce(np.where(kept, values, np.zeros((), values.dtype)), axis=-1),)
        case ReduceOp.XOR:
            return (np.bitwise_xor.reduce(np.where(kept, values, np.zeros((), values.dtype)), axis=-1),)
        case ReduceOp.ALL | ReduceOp.AND:
            return (np.bitwise_and.reduce(np.where(kept, values, ~np.zeros((), values.dtype)), axis=-1),)
        case ReduceOp.ARGMAX | ReduceOp.ARGMIN:
            return _arg_reduce(op, values, flat[1], kept, dtype)


def _arg_reduce(op: ReduceOp, keys: Array, positions: Array, kept: Array, dtype: DType) -> tuple[Array, Array]:
    """The best key and the lowest position that has it; a NaN is the best of all."""
    (best,) = _reduce_named(ReduceOp.MAX if op is ReduceOp.ARGMAX else ReduceOp.MIN, [keys], kept, dtype)
    target = best[..., None]
    equal = (keys == target) | (np.isnan(keys) & np.isnan(target)) if dtype.is_float else keys == target
    winner = kept & equal
    sentinel = np.iinfo(np.int64).max
    lowest = np.where(winner, positions, sentinel).min(axis=-1, initial=sentinel)
    return best, np.where(lowest == sentinel, -1, lowest)


@dataclass(frozen=True, slots=True)
class Ranked:
    """The points of a ranking in order, along the last dimension. ``order`` are indices into the points as given."""

    order: Array
    keys: Array
    positions: Array
    kept: Array


def without_ranks(op: Ranking, points: Points) -> tuple[Points, int, range]:
    """The rectangle without the axis that the ranking makes, that axis' place, and the ranks in the rectangle."""
    place = points.axes.index(op.into)
    axes = tuple(axis for axis in points.axes if axis is not op.into)
    ranges = tuple(r for n, r in enumerate(points.ranges) if n != place)
    return Points(axes, ranges, points.state, points.variables), place, points.ranges[place]


def ranked(op: Ranking, keys: Array, positions: Array, kept: Array) -> Ranked:
    """Sort along the last dimension; points that do not count come last."""
    order = np.argsort(ordered(keys, op.descending), axis=-1, kind="stable")
    order = np.take_along_axis(order, np.argsort(~np.take_along_axis(kept, order, -1), axis=-1, kind="stable"), -1)
    return Ranked(order, *(np.take_along_axis(part, order, -1) for part in (keys, positions, kept)))


def ordered(keys: Array, descending: bool) -> Array:
    """Integers in the order of the keys: -0.0 before 0.0, every NaN last (first, if ``descending``)."""
    if keys.dtype.kind == "f":
        bits = np.where(np.isnan(keys), np.nan, keys).astype(np.float64).view(np.int64)
        bits = np.where(np.isnan(keys), np.iinfo(np.int64).max, bits)
        keys = bits ^ ((bits >> 63) & np.iinfo(np.int64).max)
    return ~keys if descending else keys


def at_ranks(values: Array, missing: Array, kept: Array, ranks: range, place: int) -> Array:
    """The wanted ranks of sorted values, as dimension ``place``."""
    values = np.where(kept, values, missing)
    extra = max(0, ranks.stop - values.shape[-1])
    values = np.concatenate([values, np.broadcast_to(missing, (*values.shape[:-1], extra))], axis=-1)
    return np.moveaxis(values[..., ranks.start : ranks.stop], -1, place).astype(values.dtype)


def rank_points(reduce: Reduce, op: Ranking, points: Points) -> tuple[Array, ...]:
    """The keys and positions of a ranking."""
    inner, place, ranks = without_ranks(op, points)
    mask = None if reduce.where is None else evaluate(reduce.where, inner)
    keys, positions = (_spread(evaluate(expr, inner, mask), inner.shape) for expr in reduce.exprs)
    kept = _spread(np.asarray(True) if mask is None else mask, inner.shape)
    found = ranked(op, keys, positions, kept)
    none = extreme(reduce.exprs[0].dtype, not op.descending)
    return (
        at_ranks(found.keys, none, found.kept, ranks, place),
        at_ranks(found.positions, np.asarray(-1), found.kept, ranks, place),
    )


def reduce_monoid(monoid: Monoid, flat: Sequence[Array], kept: Array) -> tuple[Array, ...]:
    """Neighbours are combined pairwise until one is left: order is kept, association is a tree."""
    parts = [np.where(kept, part, _identity(monoid, k)) for k, part in enumerate(flat)]
    while parts[0].shape[-1] > 1:
        odd = [part[..., -1:] if part.shape[-1] % 2 else part[..., :0] for part in parts]
        even = parts[0].shape[-1] // 2 * 2
        combined = combine(monoid, [part[..., 0:even:2] for part in parts], [part[..., 1:even:2] for part in parts])
        parts = [np.concatenate([a, b], axis=-1) for a, b in zip(combined, odd, strict=True)]
    if parts[0].shape[-1] == 0:
        return tuple(np.broadcast_to(_identity(monoid, k), part.shape[:-1]) for k, part in enumerate(parts))
    return tuple(part[..., 0] for part in parts)


def _identity(monoid: Monoid, k: int) -> Array:
    return np.asarray(monoid.identity[k].value, value_dtype(monoid.identity[k].dtype))


def combine(monoid: Monoid, left: Sequence[Array], right: Sequence[Array]) -> list[Array]:
    """The monoid's function on arrays."""
    names = [var.name for var in (*monoid.left, *monoid.right)]
    points = Points((), (), State({}, {}, {}), dict(zip(names, (*left, *right), strict=True)))
    return [np.broadcast_to(evaluate(expr, points), left[0].shape) for expr in monoid.combine]


# Contractions.


def factors_of(expr: Expr) -> tuple[Expr, ...]:
    """``a * b * c`` in floats as its factors."""
    match expr:
        case Op(name=OpName.MUL, args=(a, b)):
            return (*factors_of(a), *factors_of(b))
        case _:
            return (expr,)


def contract(reduce: Reduce, left: tuple[Axis, ...], state: State) -> Array | None:
    """A sum of products as one ``einsum``; None where that does not apply or could differ.

    Each factor is evaluated over its own axes only. A guard zeroes a factor that has its axes, or becomes a factor
    itself; since zero times infinity is NaN, that needs every factor to be finite.
    """
    if reduce.op is not ReduceOp.SUM or not reduce.exprs[0].dtype.is_float:
        return None
    order = (*left, *reduce.axes)
    try:
        factors = [evaluate_factor(factor, reduce.where, order, state) for factor in factors_of(reduce.exprs[0])]
    except ReferenceRangeError:
        return None  # the guard may exclude that point: decided point by point
    if len(factors) < 2 or any(factor is None for factor in factors):
        return None
    operands = [factor for factor in factors if factor is not None]
    if reduce.where is not None:
        guard = evaluate_factor(reduce.where, None, order, state)
        if guard is None or not all(np.isfinite(values).all() for values, _ in operands):
            return None
        operands.append((guard[0].astype(np.float64), guard[1]))
    return einsum(operands, left, reduce.axes, state)


Factor = tuple[Array, tuple[Axis, ...]]


def evaluate_factor(expr: Expr, where: Expr | None, order: tuple[Axis, ...], state: State) -> Factor | None:
    """``expr`` over the axes that it mentions, zero where a guard over the same axes fails; None if that is too
    large."""
    axes = axes_of_factor(expr, order)
    points = whole(axes, state)
    if math.prod(points.shape) > FACTOR_LIMIT:
        return None
    mask: Mask = None
    if where is not None and set(axes_of_factor(where, order)) <= set(axes):
        mask = both(None, evaluate(where, points))
    values = _spread(evaluate(expr, points, mask), points.shape)
    return (values if mask is None else np.where(mask, values, 0.0)), axes


def axes_of_factor(expr: Expr, order: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Those of ``order`` that a factor varies over; the group of a ragged axis is known by a point of that axis."""
    found = {node.axis for node in walk(expr) if isinstance(node, AxisRef)}
    found |= {axis for axis in order if axis.ragged is not None and axis.ragged.group in found - set(order)}
    return tuple(axis for axis in order if axis in found)


def einsum(operands: Sequence[Factor], left: tuple[Axis, ...], over: tuple[Axis, ...], state: State) -> Array:
    """The sum over ``over`` of the product, with every axis of ``left`` present in the result."""
    number = {axis: n for n, axis in enumerate((*left, *over))}
    covered = {axis for _, axes in operands for axis in axes}
    ones = [(np.ones(state.extent(axis)), (axis,)) for axis in (*left, *over) if axis not in covered]
    arguments: list[object] = []
    for values, axes in (*operands, *ones):
        arguments += [values, [number[axis] for axis in axes]]
    with np.errstate(all="ignore"):
        return np.asarray(np.einsum(*arguments, [number[axis] for axis in left], optimize=True))  # type: ignore[call-overload]
