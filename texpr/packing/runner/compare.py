"""The pass rule, as in ``texpr.checking.bound`` but from stored numbers: a result is right if it is within its bound.

Bounds are stored as the upper half of a float32, rounded up, which makes them at most 0.8% wider; infinity says that
nothing is known of the element.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from texpr.dtypes import DType
from texpr.lang.arrays import Array, decode


def encode_bound(bound: Array) -> Array:
    """Bounds as uint16, never smaller than they are."""
    with np.errstate(over="ignore"):
        narrow = bound.astype(np.float32)
    narrow = np.where(narrow < bound, np.nextafter(narrow, np.float32(np.inf)), narrow).astype(np.float32)
    return ((narrow.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)


def decode_bound(stored: Array) -> Array:
    """Bounds as float64."""
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``worst`` is the largest error in units of its bound (infinite where an exact element differs); ``text`` tells of
    the worst element and is empty if nothing is wrong."""

    elements: int
    worst: float
    undecided: int
    wrong: int
    text: str


def compare(name: str, actual: Array, expected: Array, bound: Array | None, dtype: DType) -> Comparison:
    """Storage arrays of the same shape; ``bound`` in float64, None for outputs that must be exact."""
    if actual.size == 0:
        return Comparison(0, 0.0, 0, 0, "")
    given, wanted = decode(actual, dtype), decode(expected, dtype)
    limit = np.zeros(actual.shape) if bound is None else bound
    with np.errstate(all="ignore"):
        same = (given == wanted) | ((given != given) & (wanted != wanted))
        error = np.abs(given.astype(np.float64) - wanted.astype(np.float64))
        ratio = np.where(np.isfinite(error) & (limit > 0), error / limit, np.inf)
    unknown = np.isinf(limit)
    ratio = np.where(same | unknown, 0.0, ratio)
    wrong = int(np.count_nonzero(~(ratio <= 1)))
    text = ""
    if wrong:
        at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
        place = ", ".join(str(int(i)) for i in at)
        text = (
            f"{name}[{place}] is {float(given[at]):.9g}, the reference {float(wanted[at]):.9g} "
            f"(bound {float(limit[at]):.3g}); {wrong} of {ratio.size} elements are wrong"
        )
    return Comparison(ratio.size, float(ratio.max()), int(np.count_nonzero(unknown)), wrong, text)


def different_bits(actual: Array, expected: Array, dtype: DType) -> Array:
    """Where two storage arrays differ in bits. Any NaN of a float type equals any other: hardware does not keep the
    payload of one."""
    word = np.dtype(f"u{dtype.bytes}")
    differs = np.ascontiguousarray(actual).view(word) != np.ascontiguousarray(expected).view(word)
    if dtype.is_float and differs.any():
        given, wanted = decode(actual, dtype), decode(expected, dtype)
        differs &= ~(np.isnan(given) & np.isnan(wanted))
    return np.asarray(differs)
