"""Error bounds of reductions, for every order in which a schedule may combine the terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from texpr.dtypes import DType
from texpr.lang import bounded
from texpr.lang.accuracy import unit
from texpr.lang.arrays import Array
from texpr.lang.bound_expr import Analysis, Rectangle, bound_expr
from texpr.lang.bounded import EXACT, NO_DOUBT, Bounded
from texpr.lang.errors import ReferenceRangeError
from texpr.lang.evaluate import Mask, Points, State, whole
from texpr.lang.ir import Axis, Expr, Monoid, OpName, Ranking, Reduce, ReduceOp
from texpr.lang.reduce import (
    FACTOR_LIMIT,
    at_ranks,
    axes_of_factor,
    einsum,
    factors_of,
    ranked,
    reduce_points,
    without_ranks,
)

_F32_LEAST_NORMAL: Final = 2.0**-126


@dataclass(frozen=True, slots=True)
class _Terms:
    """The terms of a reduction, last dimension = its points. ``kept``: the guard holds. ``doubtful``: it may or may
    not."""

    parts: Sequence[Bounded]
    kept: Array
    doubtful: Array

    @property
    def possible(self) -> Array:
        return self.kept | self.doubtful


def reduce_bound(reduce: Reduce, rectangle: Rectangle) -> list[Bounded]:
    """One result per component, over the leading axes of the rectangle."""
    values = reduce_points(reduce, rectangle.points)
    if isinstance(reduce.op, Ranking):
        with np.errstate(all="ignore"):
            return _ranking(reduce, reduce.op, values, rectangle)
    terms = _terms(reduce, rectangle)
    dtype = reduce.exprs[0].dtype
    with np.errstate(all="ignore"):
        if isinstance(reduce.op, Monoid):
            return _monoid(reduce.op, values, terms, rectangle)
        match reduce.op:
            case ReduceOp.SUM | ReduceOp.PROD if dtype.is_float:
                bound = (
                    _sum(terms, rectangle, dtype) if reduce.op is ReduceOp.SUM else _product(terms, rectangle, dtype)
                )
                return [bounded.overflow(Bounded(values[0], bound, _any_ambiguous(terms)), dtype)]
            case ReduceOp.MAX | ReduceOp.MIN:
                return [_extremum(reduce.op is ReduceOp.MAX, values[0], terms)]
            case ReduceOp.ARGMAX | ReduceOp.ARGMIN:
                best = _extremum(reduce.op is ReduceOp.ARGMAX, values[0], terms)
                return [best, _position(reduce.op is ReduceOp.ARGMAX, values, terms)]
            case ReduceOp.ANY | ReduceOp.ALL:
                return [Bounded(values[0], EXACT, _quantifier(reduce.op is ReduceOp.ANY, terms))]
            case _:
                doubt = _any_ambiguous(terms) | terms.doubtful.any(axis=-1)
                return [Bounded(values[0], EXACT, doubt)]


def _terms(reduce: Reduce, rectangle: Rectangle) -> _Terms:
    points = rectangle.points
    left = points.shape[: len(points.axes) - len(reduce.axes)]
    shape = (*left, math.prod(points.shape[len(left) :]))

    def flat(array: Array) -> Array:
        return np.broadcast_to(array, points.shape).reshape(shape)

    mask: Mask = None
    kept, doubtful = np.ones(shape, np.bool_), np.zeros(shape, np.bool_)
    if reduce.where is not None:
        guard = bound_expr(reduce.where, rectangle, None)
        mask = guard.value | guard.ambiguous
        kept, doubtful = flat(guard.value), flat(guard.ambiguous)
    parts = [bound_expr(expr, rectangle, mask) for expr in reduce.exprs]
    return _Terms([Bounded(flat(p.value), flat(p.bound), flat(p.ambiguous)) for p in parts], kept, doubtful)


def _any_ambiguous(terms: _Terms) -> Array:
    doubt = np.zeros(terms.kept.shape[:-1], np.bool_)
    for part in terms.parts:
        doubt = doubt | (part.ambiguous & terms.possible).any(axis=-1)
    return doubt


def gamma(count: Array | int, step: float) -> Array:
    """``n u / (1 - n u)``: the relative error of n roundings of relative error u; infinite where that is no bound."""
    total = np.asarray(count, np.float64) * step
    return np.where(total < 1, total / np.maximum(1 - total, 1e-300), np.inf)


def _sum(terms: _Terms, rectangle: Rectangle, dtype: DType) -> Array:
    part = terms.parts[0]
    error = np.where(terms.kept, part.bound, 0.0)
    reach = np.where(terms.doubtful, np.abs(part.value) + part.bound, 0.0)
    size = np.where(terms.kept, np.abs(part.value), 0.0) + error + reach
    carried = (error + reach).sum(axis=-1)
    count = terms.possible.sum(axis=-1)
    total = size.sum(axis=-1)
    committed = gamma(count, rectangle.analysis.accuracy.sum_ulps * unit(dtype)) * total
    # An infinite or NaN term is met by every order of summation; an unknown one (infinite bound) by none.
    return np.where(np.isfinite(total), carried + committed, np.where(np.isfinite(carried), 0.0, np.inf))


def _product(terms: _Terms, rectangle: Rectangle, dtype: DType) -> Array:
    part = terms.parts[0]
    size = np.where(terms.possible, np.abs(part.value), 1.0)
    reach = np.where(terms.doubtful, np.maximum(size, 1.0), size) + np.where(terms.possible, part.bound, 0.0)
    exact, largest = np.where(terms.kept, size, 1.0).prod(axis=-1), reach.prod(axis=-1)
    relative = gamma(terms.possible.sum(axis=-1), rectangle.analysis.accuracy.sum_ulps * unit(dtype))
    doubt = terms.doubtful.any(axis=-1) & (exact > 0)
    bound = np.where(doubt, largest + exact, largest - exact) + relative * largest
    unknown = np.isinf(np.where(terms.possible, part.bound, 0.0)).any(axis=-1) | _leaves_range(size, reach, dtype)
    return np.where(np.isfinite(largest) & ~unknown, bound, np.where(unknown, np.inf, 0.0))


def _leaves_range(size: Array, reach: Array, dtype: DType) -> Array:
    """Whether the product of some of the terms may overflow or become subnormal, whatever the product of all is."""
    largest, least = (1023.0, -1022.0) if dtype is DType.F64 else (127.9, -126.0)
    numbers = np.isfinite(size) & (size > 0)
    grown = np.log2(np.where(np.isfinite(reach) & (reach > 1), reach, 1.0)).sum(axis=-1)
    shrunk = np.log2(np.where(numbers & (size < 1), size, 1.0)).sum(axis=-1)
    return np.asarray((grown > largest) | (shrunk < least))


def _extremum(greatest: bool, value: Array, terms: _Terms) -> Bounded:
    """The result lies between the extremum of the certain terms' lower ends and that of all terms' upper ends."""
    part = terms.parts[0]
    doubt = _any_ambiguous(terms)
    if part.value.dtype.kind != "f":
        return Bounded(value, EXACT, doubt | terms.doubtful.any(axis=-1))
    sign = 1.0 if greatest else -1.0
    centre = sign * part.value
    unknown = np.isinf(part.bound)  # even where the value is infinite as well
    highest = np.where(unknown, np.inf, centre + part.bound)
    lowest = np.where(unknown, -np.inf, centre - part.bound)
    upper = np.where(terms.possible, highest, -np.inf).max(axis=-1, initial=-np.inf)
    lower = np.where(terms.kept & ~terms.doubtful, lowest, -np.inf).max(axis=-1, initial=-np.inf)
    above = np.where(upper == sign * value, 0.0, upper - sign * value)
    below = np.where(lower == sign * value, 0.0, sign * value - lower)
    bound = np.maximum(above, below)
    return Bounded(value, np.where(np.isnan(bound), 0.0, bound), doubt)


def _position(greatest: bool, values: Sequence[Array], terms: _Terms) -> Bounded:
    """The position is in doubt where another term could be the best."""
    part = terms.parts[0]
    best, position = values[0][..., None], values[1]
    doubt = _any_ambiguous(terms) | terms.doubtful.any(axis=-1)
    if part.value.dtype.kind == "f" and part.bound.any():
        sign = 1.0 if greatest else -1.0
        chosen = (terms.parts[1].value == position[..., None]) & terms.kept
        slack = np.where(chosen, part.bound, 0.0).max(axis=-1, initial=0.0)[..., None]
        near = terms.kept & ~chosen & (sign * part.value + part.bound >= sign * best - slack)
        doubt = doubt | (near & (part.bound + slack > 0)).any(axis=-1)
    return Bounded(position, EXACT, doubt)


def _ranking(reduce: Reduce, op: Ranking, values: Sequence[Array], rectangle: Rectangle) -> list[Bounded]:
    """A key of rank r lies between the r-th of the keys' lower ends and the r-th of their upper ends; its position is
    in doubt where a neighbour in the order may trade places with it."""
    points, place, ranks = without_ranks(op, rectangle.points)
    terms = _terms(reduce, Rectangle(points, rectangle.analysis))
    part, positions = terms.parts
    doubt = _any_ambiguous(terms) | terms.doubtful.any(axis=-1)
    everywhere = np.broadcast_to(np.expand_dims(doubt, place), values[0].shape)
    if part.value.dtype.kind != "f" or not part.bound.any():
        return [Bounded(values[0], EXACT, everywhere), Bounded(values[1], EXACT, everywhere)]
    found = ranked(op, part.value, positions.value, terms.kept)
    reach = np.zeros_like(part.value)
    for end in (part.value - part.bound, part.value + part.bound):
        moved = ranked(op, end, positions.value, terms.kept)
        apart = np.abs(moved.keys - found.keys)
        reach = np.maximum(reach, np.where(moved.keys == found.keys, 0.0, np.where(np.isnan(apart), np.inf, apart)))
    widest = np.where(terms.kept, part.bound, 0.0).max(axis=-1, keepdims=True, initial=0.0)
    gap = np.abs(np.diff(found.keys, axis=-1))
    close = (widest > 0) & ~(gap > 2.0 * widest) & found.kept[..., 1:]
    edge = np.zeros((*close.shape[:-1], 1), np.bool_)
    traded = np.concatenate([close, edge], axis=-1) | np.concatenate([edge, close], axis=-1)
    bound, uncertain = (
        at_ranks(array, np.zeros((), array.dtype), found.kept, ranks, place) for array in (reach, traded)
    )
    return [Bounded(values[0], bound, everywhere), Bounded(values[1], EXACT, everywhere | uncertain)]


def _quantifier(exists: bool, terms: _Terms) -> Array:
    """A certain witness settles "any"; a certain counterexample settles "all"."""
    part = terms.parts[0]
    witness = part.value == exists
    certain = (witness & ~part.ambiguous & terms.kept & ~terms.doubtful).any(axis=-1)
    possible = ((witness | part.ambiguous) & terms.possible).any(axis=-1)
    return np.asarray(possible & ~certain)


def _monoid(monoid: Monoid, values: Sequence[Array], terms: _Terms, rectangle: Rectangle) -> list[Bounded]:
    """The analysis of combining from left to right, doubled: other orders make other errors of about that size."""
    names = [var.name for var in (*monoid.left, *monoid.right)]
    shape = terms.kept.shape[:-1]
    state = [
        Bounded(
            np.broadcast_to(np.asarray(c.value, part.value.dtype), shape), np.zeros(shape), np.zeros(shape, np.bool_)
        )
        for c, part in zip(monoid.identity, terms.parts, strict=True)
    ]
    for k in range(terms.kept.shape[-1]):
        term = [Bounded(p.value[..., k], p.bound[..., k], p.ambiguous[..., k]) for p in terms.parts]
        variables = dict(zip(names, (*state, *term), strict=True))
        points = Points((), (), State({}, {}, {}), {name: part.value for name, part in variables.items()})
        step = Rectangle(points, rectangle.analysis, variables)
        combined = [bound_expr(expr, step, None) for expr in monoid.combine]
        state = [_keep(terms.kept[..., k], new, old) for new, old in zip(combined, state, strict=True)]
    doubt = terms.doubtful.any(axis=-1)
    return [Bounded(value, 2.0 * s.bound, s.ambiguous | doubt) for value, s in zip(values, state, strict=True)]


def _keep(kept: Array, new: Bounded, old: Bounded) -> Bounded:
    return Bounded(
        np.where(kept, new.value, old.value),
        np.where(kept, new.bound, old.bound),
        np.where(kept, new.ambiguous, old.ambiguous),
    )


# Contractions.


def contract_bound(reduce: Reduce, left: tuple[Axis, ...], analysis: Analysis) -> Bounded | None:
    """A float sum of products through ``einsum``, as :func:`texpr.lang.reduce.contract`; None where that does not
    apply.

    With factors f_k of bound b_k: the sum of the products of |f_k| + b_k, less that of |f_k|, is what the factors
    bring."""
    if reduce.op is not ReduceOp.SUM or not reduce.exprs[0].dtype.is_float:
        return None
    order = (*left, *reduce.axes)
    exprs = factors_of(reduce.exprs[0])
    if len(exprs) < 2:
        return None
    try:
        factors = [_factor(expr, reduce.where, order, analysis) for expr in exprs]
    except ReferenceRangeError:
        return None
    operands = [(factor, axes) for found in factors if found is not None for factor, axes in [found]]
    if len(operands) < len(factors) or not all(_is_plain(factor) for factor, _ in operands):
        return None
    small = reduce.exprs[0].dtype is not DType.F64 and _least_product(operands) < _F32_LEAST_NORMAL
    if small and len(operands) > 2:
        return None  # what is lost in one product is multiplied by the next factor
    if reduce.where is not None:
        guard = _factor(reduce.where, None, order, analysis)
        if guard is None or guard[0].ambiguous.any():
            return None
        operands.append((Bounded.exact(guard[0].value.astype(np.float64)), guard[1]))
    value = einsum([(factor.value, axes) for factor, axes in operands], left, reduce.axes, analysis.state)
    size = einsum([(np.abs(factor.value), axes) for factor, axes in operands], left, reduce.axes, analysis.state)
    largest = size
    if any(factor.bound.any() for factor, _ in operands):
        reach = [(np.abs(factor.value) + factor.bound, axes) for factor, axes in operands]
        largest = einsum(reach, left, reduce.axes, analysis.state)
    dtype = reduce.exprs[0].dtype
    count = math.prod(analysis.state.extent(axis) for axis in reduce.axes)
    roundings = gamma(count + len(exprs) - 1, analysis.accuracy.sum_ulps * unit(dtype))
    bound = (largest - size) + (roundings + 2.0**-50) * largest
    if small:  # every product is rounded to a multiple of the least number
        bound = bound + np.where(size > 0, count * analysis.accuracy.of(OpName.MUL).absolute, 0.0)
    return bounded.overflow(Bounded(value, bound, NO_DOUBT), dtype)


def _least_product(operands: Sequence[tuple[Bounded, tuple[Axis, ...]]]) -> float:
    """No product of elements that are not zero is smaller."""
    sizes = (np.abs(factor.value[factor.value != 0]) for factor, _ in operands)
    return math.prod(float(size.min(initial=np.inf)) for size in sizes)


def _is_plain(factor: Bounded) -> bool:
    finite = np.isfinite(factor.value).all() and np.isfinite(factor.bound).all()
    return bool(finite) and not factor.ambiguous.any()


def _factor(
    expr: Expr, where: Expr | None, order: tuple[Axis, ...], analysis: Analysis
) -> tuple[Bounded, tuple[Axis, ...]] | None:
    """As :func:`texpr.lang.reduce.evaluate_factor`, with bounds."""
    axes = axes_of_factor(expr, order)
    points = whole(axes, analysis.state)
    if math.prod(points.shape) > FACTOR_LIMIT:
        return None
    rectangle = Rectangle(points, analysis)
    mask: Mask = None
    if where is not None and set(axes_of_factor(where, order)) <= set(axes):
        guard = bound_expr(where, rectangle, None)
        if guard.ambiguous.any():
            return None
        mask = guard.value
    found = bound_expr(expr, rectangle, mask)
    kept = np.asarray(True) if mask is None else mask
    spread = [np.broadcast_to(part, points.shape) for part in (found.value, found.bound, found.ambiguous)]
    if mask is None:
        return Bounded(*spread), axes
    return Bounded(np.where(kept, spread[0], 0.0), np.where(kept, spread[1], 0.0), kept & spread[2]), axes
