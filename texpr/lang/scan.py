"""Scans over rectangles of points, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from texpr.lang.arrays import Array, value_dtype
from texpr.lang.evaluate import Points, State, evaluate, extreme, rectangles
from texpr.lang.ir import Def, Monoid, ReduceOp, Scan
from texpr.lang.reduce import combine
from texpr.lang.tile_values import tile_values
from texpr.lang.user_code import TileOp

Combine = Callable[[Sequence[Array], Sequence[Array]], Sequence[Array]]
"""``left . right`` of tuples of arrays."""


def lines(definition: Def, scan: Scan, state: State) -> Iterator[tuple[Points, tuple[slice, ...]]]:
    """The points of a definition by a scan in rectangles that hold whole lines along its axis, the last dimension,
    and where each lies among the other axes."""
    left = tuple(axis for axis in definition.axes if axis is not scan.axis)
    for points in rectangles(left, (scan.axis,), state):
        yield points, tuple(slice(r.start, r.stop) for r in points.ranges[: len(left)])


def scan_points(scan: Scan, points: Points) -> tuple[Array, ...]:
    """One array per component; the last dimension of ``points`` is the scan's."""
    if isinstance(scan.op, TileOp):
        return tile_values(scan, scan.op, points)
    parts = [np.broadcast_to(evaluate(expr, points), points.shape) for expr in scan.exprs]
    starts = starts_of(scan, points)
    neutral = identities(scan, parts)
    with np.errstate(all="ignore"):
        inclusive = prefixes([turned(part, scan) for part in parts], starts, lambda a, b: operation(scan, a, b))
        return tuple(
            turned(before(part, starts, e) if scan.exclusive else part, scan)
            for part, e in zip(inclusive, neutral, strict=True)
        )


def turned(array: Array, scan: Scan) -> Array:
    """From index order to scan order or back."""
    return array[..., ::-1] if scan.reverse else array


def starts_of(scan: Scan, points: Points) -> Array:
    """Where the scan starts anew, in scan order."""
    found = np.zeros(points.shape, np.bool_)
    if scan.reset is not None:
        found = turned(np.broadcast_to(evaluate(scan.reset, points), points.shape), scan)
    if scan.every:
        position = np.asarray(points.ranges[-1], np.int64)
        found = found | turned((position + 1 if scan.reverse else position) % scan.every == 0, scan)
    return found


def identities(scan: Scan, parts: Sequence[Array]) -> list[Array]:
    """The neutral element, one number per component."""
    if isinstance(scan.op, Monoid):
        return [np.asarray(c.value, value_dtype(c.dtype)) for c in scan.op.identity]
    dtype = scan.exprs[0].dtype
    match scan.op:
        case ReduceOp.MAX | ReduceOp.MIN:
            return [extreme(dtype, scan.op is ReduceOp.MIN)]
        case ReduceOp.PROD:
            return [np.ones((), parts[0].dtype)]
        case ReduceOp.ALL | ReduceOp.AND:
            return [~np.zeros((), parts[0].dtype)]
        case _:
            return [np.zeros((), parts[0].dtype)]


def operation(scan: Scan, left: Sequence[Array], right: Sequence[Array]) -> Sequence[Array]:
    """``left . right`` as the scan's operator."""
    if isinstance(scan.op, Monoid):
        return combine(scan.op, left, right)
    match scan.op:
        case ReduceOp.SUM:
            return [np.add(left[0], right[0])]
        case ReduceOp.PROD:
            return [np.multiply(left[0], right[0])]
        case ReduceOp.MAX:
            return [np.maximum(left[0], right[0])]
        case ReduceOp.MIN:
            return [np.minimum(left[0], right[0])]
        case ReduceOp.ANY | ReduceOp.OR:
            return [np.bitwise_or(left[0], right[0])]
        case ReduceOp.ALL | ReduceOp.AND:
            return [np.bitwise_and(left[0], right[0])]
        case ReduceOp.XOR:
            return [np.bitwise_xor(left[0], right[0])]
        case ReduceOp.ARGMAX | ReduceOp.ARGMIN | TileOp():
            raise AssertionError(f"{scan.op} has no prefixes")


def prefixes(parts: Sequence[Array], starts: Array, combined: Combine) -> list[Array]:
    """Every prefix along the last dimension, by doubling (Hillis and Steele, Data parallel algorithms, 1986)."""
    found = [np.array(part) for part in parts]
    begun = np.array(starts)
    step = 1
    while step < begun.shape[-1]:
        longer = combined([part[..., :-step] for part in found], [part[..., step:] for part in found])
        stop = begun[..., step:]
        found = [
            np.concatenate([part[..., :step], np.where(stop, part[..., step:], new)], axis=-1)
            for part, new in zip(found, longer, strict=True)
        ]
        begun = np.concatenate([begun[..., :step], stop | begun[..., :-step]], axis=-1)
        step *= 2
    return found


def before(inclusive: Array, starts: Array, neutral: Array) -> Array:
    """The prefix that ends before each point: nothing before the first one and where the scan starts anew."""
    first = np.broadcast_to(neutral, (*inclusive.shape[:-1], min(1, inclusive.shape[-1]))).astype(inclusive.dtype)
    moved = np.concatenate([first, inclusive[..., :-1]], axis=-1)
    return np.where(starts, neutral, moved).astype(inclusive.dtype)
