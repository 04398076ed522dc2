"""Error bounds of scans, for every order in which a schedule may combine the points of a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from texpr.dtypes import DType
from texpr.lang import bounded
from texpr.lang.accuracy import unit
from texpr.lang.arrays import Array
from texpr.lang.bound_expr import Rectangle, bound_expr
from texpr.lang.bounded import EXACT, Bounded
from texpr.lang.evaluate import Points, State
from texpr.lang.ir import Monoid, ReduceOp, Scan
from texpr.lang.reduce_bound import gamma
from texpr.lang.scan import before, operation, prefixes, scan_points, starts_of, turned
from texpr.lang.tile_values import tile_bounds
from texpr.lang.user_code import TileOp

_LARGEST_RANGE: Final = 2.0**60
"""What no range of points comes to if every other way to combine them stays far from overflow as well."""
_LEAST_NORMAL: Final = 2.0**-126


def scan_bound(scan: Scan, rectangle: Rectangle) -> list[Bounded]:
    """One result per component; the last dimension of the rectangle is the scan's.

    A sum is bounded like a reduction of its prefix; a monoid by the analyses of combining one after the other and in a
    tree, added and doubled: other orders make other errors of about that size. After ranges of points that come to very
    large values nothing is said, since other ranges may overflow.
    """
    if isinstance(scan.op, TileOp):
        return tile_bounds(scan, scan.op, rectangle)
    points = rectangle.points
    values = scan_points(scan, points)
    starts = starts_of(scan, points)
    parts = [_in_scan_order(scan, bound_expr(expr, rectangle, None), points.shape) for expr in scan.exprs]
    doubt = np.zeros(points.shape, np.bool_)
    if scan.reset is not None:
        unsure = bound_expr(scan.reset, rectangle, None).ambiguous
        doubt = np.logical_or.accumulate(turned(np.broadcast_to(unsure, points.shape), scan), axis=-1)
    dtype = scan.exprs[0].dtype
    with np.errstate(all="ignore"):
        if isinstance(scan.op, Monoid):
            results = _monoid(scan.op, parts, starts, rectangle)
        else:
            results = [_named(scan, scan.op, parts[0], starts, rectangle)]
        found = []
        for value, result in zip(values, results, strict=True):
            bound, unsure = result.bound, result.ambiguous | doubt
            if scan.exclusive:
                bound = before(bound, starts, EXACT)
                unsure = before(result.ambiguous, starts, np.asarray(False)) | doubt
            exact = Bounded(value, turned(bound, scan), turned(unsure, scan))
            summed = scan.op in (ReduceOp.SUM, ReduceOp.PROD) and dtype.is_float
            found.append(bounded.overflow(exact, dtype) if summed else exact)
        return found


def _in_scan_order(scan: Scan, part: Bounded, shape: tuple[int, ...]) -> Bounded:
    spread = [np.broadcast_to(array, shape) for array in (part.value, part.bound, part.ambiguous)]
    return Bounded(turned(spread[0], scan), turned(spread[1], scan), turned(spread[2], scan))


def _sums(terms: Sequence[Array], starts: Array) -> list[Array]:
    return prefixes(terms, starts, lambda a, b: [x + y for x, y in zip(a, b, strict=True)])


def _named(scan: Scan, op: ReduceOp, part: Bounded, starts: Array, rectangle: Rectangle) -> Bounded:
    dtype = scan.exprs[0].dtype
    doubt = prefixes([part.ambiguous], starts, lambda a, b: [a[0] | b[0]])[0]
    (value,) = prefixes([part.value], starts, lambda a, b: operation(scan, a, b))
    if not dtype.is_float:
        return Bounded(value, np.zeros(value.shape), doubt)
    step = rectangle.analysis.accuracy.sum_ulps * unit(dtype)
    (count,) = _sums([np.ones(value.shape)], starts)
    match op:
        case ReduceOp.SUM:
            carried, total = _sums([part.bound, np.abs(part.value) + part.bound], starts)
            bound = carried + gamma(count, step) * total
            # An infinite or NaN term is met by every order of summation; an unknown one (infinite bound) by none.
            bound = np.where(np.isfinite(total), bound, np.where(np.isfinite(carried), 0.0, np.inf))
            return Bounded(value, bound, doubt)
        case ReduceOp.PROD:
            return Bounded(value, _product(part, starts, gamma(count, step)), doubt)
        case _:
            sign = 1.0 if op is ReduceOp.MAX else -1.0
            unknown = np.isinf(part.bound)
            centre = sign * part.value
            upper, lower = prefixes(
                [np.where(unknown, np.inf, centre + part.bound), np.where(unknown, -np.inf, centre - part.bound)],
                starts,
                lambda a, b: [np.maximum(x, y) for x, y in zip(a, b, strict=True)],
            )
            above = np.where(upper == sign * value, 0.0, upper - sign * value)
            below = np.where(lower == sign * value, 0.0, sign * value - lower)
            bound = np.maximum(above, below)
            return Bounded(value, np.where(np.isnan(bound), 0.0, bound), doubt)


def _product(part: Bounded, starts: Array, relative: Array) -> Array:
    """As for a reduction: what the factors bring, the roundings, and no bound where a product of some of the factors
    may leave the range of normal numbers."""
    size = np.abs(part.value)
    reach = size + part.bound
    exact, largest = prefixes([size, reach], starts, lambda a, b: [x * y for x, y in zip(a, b, strict=True)])
    numbers = np.isfinite(size) & (size > 0)
    grown, shrunk, unbounded = _sums(
        [
            np.log2(np.where(np.isfinite(reach) & (reach > 1), reach, 1.0)),
            np.log2(np.where(numbers & (size < 1), size, 1.0)),
            np.isinf(part.bound).astype(np.float64),
        ],
        starts,
    )
    unknown = (unbounded > 0) | (grown > 127.9) | (shrunk < -126.0)
    bound = (largest - exact) + relative * largest
    return np.where(np.isfinite(largest) & ~unknown, bound, np.where(unknown, np.inf, 0.0))


def _monoid(monoid: Monoid, parts: Sequence[Bounded], starts: Array, rectangle: Rectangle) -> list[Bounded]:
    flat = [array for part in parts for array in (part.value, part.bound, part.ambiguous)]
    peak = _largest(parts, starts.shape)

    def longer_ranges(a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
        combined = _combined(monoid, _bounded(a), _bounded(b), rectangle)
        tail = peak[..., starts.shape[-1] - combined[0].value.shape[-1] :]
        np.maximum(tail, _largest(combined, tail.shape), out=tail)
        return _flat(combined)

    tree = prefixes(flat, starts, longer_ranges)
    peak = np.maximum.accumulate(peak, axis=-1)
    limit = _LARGEST_RANGE if all(c.dtype is not DType.F64 for c in monoid.identity) else _LARGEST_RANGE**8
    unknown = np.isnan(peak) | (peak > limit)
    line: list[list[Array]] = []
    state = [array[..., 0] for array in flat] if starts.shape[-1] else []
    for k in range(starts.shape[-1]):
        term = [array[..., k] for array in flat]
        if k:
            longer = _flat(_combined(monoid, _bounded(state), _bounded(term), rectangle))
            state = [np.where(starts[..., k], new, old) for new, old in zip(term, longer, strict=True)]
        line.append(state)
    found = []
    for n, result in enumerate(_bounded(tree)):
        if not line:
            found.append(result)
            continue
        sequential = np.stack([step[3 * n + 1] for step in line], axis=-1)
        doubt = result.ambiguous | np.stack([step[3 * n + 2] for step in line], axis=-1).astype(np.bool_)
        flushed = _LEAST_NORMAL * np.where(unknown, 0.0, peak) * starts.shape[-1]
        bound = np.where(unknown, np.inf, 2.0 * (result.bound + sequential) + flushed)
        found.append(Bounded(result.value, bound, doubt))
    return found


def _largest(parts: Sequence[Bounded], shape: tuple[int, ...]) -> Array:
    """The largest magnitude that a component may have, NaN where one is NaN."""
    found = np.zeros(shape)
    for part in parts:
        found = np.maximum(found, np.abs(part.value.astype(np.float64)) + part.bound)
    return found


def _bounded(flat: Sequence[Array]) -> list[Bounded]:
    triples = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
    return [Bounded(value, bound, ambiguous.astype(np.bool_)) for value, bound, ambiguous in triples]


def _flat(parts: Sequence[Bounded]) -> list[Array]:
    return [
        np.broadcast_to(array, part.value.shape) for part in parts for array in (part.value, part.bound, part.ambiguous)
    ]


def _combined(
    monoid: Monoid, left: Sequence[Bounded], right: Sequence[Bounded], rectangle: Rectangle
) -> list[Bounded]:
    names = [var.name for var in (*monoid.left, *monoid.right)]
    variables = dict(zip(names, (*left, *right), strict=True))
    points = Points((), (), State({}, {}, {}), {name: part.value for name, part in variables.items()})
    step = Rectangle(points, rectangle.analysis, variables)
    shape = np.broadcast_shapes(*(part.value.shape for part in (*left, *right)))
    results = [bound_expr(expr, step, None) for expr in monoid.combine]
    return [
        Bounded(*(np.broadcast_to(a, shape) for a in (result.value, result.bound, result.ambiguous)))
        for result in results
    ]
