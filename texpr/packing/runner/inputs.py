"""Inputs from a counter-based generator: element ``n`` of a tensor is a function of a key and ``n`` alone.

So a pack stores no inputs, any part of one can be made without the rest, and every machine makes the same bits: only
integer arithmetic and exact floating-point steps are used, no function that a library may round in its own way. The
generator is SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014) evaluated at
chosen counters. Inputs that no generator makes, such as the neighbours of scanned points, are arrays of the pack.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from texpr.dtypes import DType
from texpr.lang.arrays import Array, encode, storage_dtype
from texpr.packing.runner.records import Fill, Input, Style

_GAMMA: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB
_STREAMS: Final = 4
"""Independent words per element."""
_WORD: Final = (1 << 64) - 1

_SPECIALS: Final = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-310, 6e-8, -1e-40)
_SPECIAL_ONE_IN: Final = 512
_WIDEST: Final = 8
"""Magnitudes of wide values reach from 2**-8 to 2**8: their products still fit f16."""


def mix(value: int) -> int:
    """The finaliser of SplitMix64 on one number; also makes keys from keys."""
    value = ((value ^ (value >> 30)) * _MIX_1) & _WORD
    value = ((value ^ (value >> 27)) * _MIX_2) & _WORD
    return value ^ (value >> 31)


def words(key: int, index: Array, stream: int) -> Array:
    """64 random bits for every element number in ``index`` (uint64)."""
    z = index * np.uint64(_STREAMS * _GAMMA & _WORD) + np.uint64((key + (stream + 1) * _GAMMA) & _WORD)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    return np.asarray(z ^ (z >> np.uint64(31)))


def whole(tensor: Input, pack: Path = Path()) -> Array:
    """All elements, as a storage array in the storage shape; ``pack`` is the folder that given arrays lie in."""
    shape = tensor.layout.shape
    if tensor.fill.style is Style.GIVEN:
        return given(tensor, pack)
    size = math.prod(shape)
    period = tensor.fill.period
    count = min(size, period) if period else size
    values = elements(tensor.fill, tensor.layout.dtype, np.arange(count, dtype=np.uint64), size)
    return (np.resize(values, size) if count < size else values).reshape(shape)


def given(tensor: Input, pack: Path) -> Array:
    """An input that the pack holds. Raises ValueError where it is another array than the call wants."""
    with np.load(pack / tensor.fill.file, allow_pickle=False) as file:
        array = file["value"]
    layout = tensor.layout
    if array.shape != layout.shape or array.dtype != storage_dtype(layout.dtype):
        found = f"{array.dtype}{list(array.shape)}"
        raise ValueError(f"{tensor.fill.file} holds {found}, {layout.name} is {layout.dtype}{list(layout.shape)}")
    return np.asarray(array)


def part(tensor: Input, sample: tuple[tuple[int, ...] | None, ...], pack: Path = Path()) -> Array:
    """The elements at the cross product of some indices along each storage dim (None: all of them)."""
    shape = tensor.layout.shape
    chosen = [range(extent) if picked is None else picked for extent, picked in zip(shape, sample, strict=True)]
    if tensor.fill.style is Style.GIVEN:
        return np.asarray(given(tensor, pack)[np.ix_(*(np.asarray(picked, np.int64) for picked in chosen))])
    extents = tuple(len(picked) for picked in chosen)
    index = np.zeros(extents, np.uint64)
    for dim, picked in enumerate(chosen):
        step = math.prod(shape[dim + 1 :])
        along = np.asarray(picked, np.uint64) * np.uint64(step)
        index = index + along.reshape([-1 if other == dim else 1 for other in range(len(shape))])
    return elements(tensor.fill, tensor.layout.dtype, index.reshape(-1), math.prod(shape)).reshape(extents)


def elements(fill: Fill, dtype: DType, index: Array, size: int) -> Array:
    """Elements by number (uint64, one-dimensional) of a tensor with ``size`` elements, in storage form."""
    if index.size == 0:
        return np.zeros(index.shape, storage_dtype(dtype))
    if fill.period:
        index = index % np.uint64(fill.period)
        size = min(size, fill.period)
    match fill.style:
        case Style.INTEGERS if fill.contracts:
            return _contracted(fill, dtype, size)[index]
        case Style.INTEGERS:
            return _integers(fill, dtype, index, size)
        case Style.BOOLS:
            return (words(fill.key, index, 0) >> np.uint64(63)).astype(storage_dtype(dtype))
        case Style.NORMAL:
            values = _normal(fill.key, index)
        case Style.WIDE:
            values = _wide(fill.key, index)
        case Style.SPECIAL:
            values = _special(fill.key, index, size)
        case Style.GIVEN:
            raise ValueError("a given array has no generator")
    return encode(values, dtype)


def _normal(key: int, index: Array) -> Array:
    """The sum of four uniform numbers (standard deviation 1.15, at most 4), with 53 bits, exact in float64."""
    word = words(key, index, 0)
    total = np.full(index.shape, -2 * 65535, np.int64)
    for shift in (0, 16, 32, 48):
        total += ((word >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    fine = (words(key, index, 1) >> np.uint64(29)).astype(np.int64)
    return np.ldexp((total * (1 << 35) + fine).astype(np.float64), -50)


def _wide(key: int, index: Array) -> Array:
    """A random sign, a uniform exponent and a uniform mantissa."""
    word = words(key, index, 2)
    exponent = ((word >> np.uint64(60)).astype(np.int64) % (2 * _WIDEST)) - _WIDEST
    mantissa = 1.0 + np.ldexp(((word >> np.uint64(8)) & np.uint64((1 << 48) - 1)).astype(np.float64), -48)
    sign = np.where(word & np.uint64(1), -1.0, 1.0)
    return sign * np.ldexp(mantissa, exponent)


def _special(key: int, index: Array, size: int) -> Array:
    word = words(key, index, 3)
    chosen = (word % np.uint64(_SPECIAL_ONE_IN) == 0) | (index == np.uint64(mix(key) % size))
    kinds = ((word >> np.uint64(32)) % np.uint64(len(_SPECIALS))).astype(np.int64)
    return np.where(chosen, np.asarray(_SPECIALS)[kinds], _normal(key, index))


def _contracted(fill: Fill, dtype: DType, size: int) -> Array:
    """All elements of a tensor whose integers keep contracts."""
    index = np.arange(size, dtype=np.uint64)
    if "lists" in fill.contracts:  # rows that list all numbers there are
        place = (index % np.uint64(fill.high + 1)).astype(np.int64)
        return np.where(place == 0, fill.high, place - 1).astype(storage_dtype(dtype))
    plain = Fill(Style.INTEGERS, fill.key, fill.low, fill.high)
    if "permutation" in fill.contracts or "unique" in fill.contracts:
        step = (fill.high - fill.low + 1) // max(size, 1)
        order = np.argsort(words(fill.key, index, 4), kind="stable").astype(np.int64)
        values: Array = (fill.low + order * step).astype(storage_dtype(dtype))
    else:
        values = _integers(plain, dtype, index, size)
    if "sorted" in fill.contracts or "offsets" in fill.contracts:
        values = np.sort(values)
    if "offsets" in fill.contracts:
        values[:1], values[-1:] = fill.low, fill.high
    return values


def _integers(fill: Fill, dtype: DType, index: Array, size: int) -> Array:
    """Uniform up to a bias of 2**-64 times the range; both ends occur where there are two elements."""
    span = fill.high - fill.low + 1
    word = words(fill.key, index, 0)
    offset = word if span > _WORD else word % np.uint64(span)
    kind: Any = storage_dtype(dtype)
    values = (offset + np.uint64(fill.low & _WORD)).astype(kind)  # arithmetic modulo 2**64, then the low bits
    first = mix(fill.key) % size
    ends = ((first, fill.low), ((first + 1) % size, fill.high))
    for position, value in ends:
        values[index == np.uint64(position)] = np.asarray(value).astype(kind)
    return np.asarray(values)
