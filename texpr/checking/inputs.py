"""Inputs for a call: storage arrays and scalars that respect every contract and are hard on a kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from texpr.checking.calls import Case, Values, elements_of
from texpr.contracts import ContractKind
from texpr.domains import holds_at, mentioned
from texpr.dtypes import DType
from texpr.lang.arrays import Array, decode, encode, integer_range, storage_dtype
from texpr.lang.ir import Algorithm, Domain, Scalar, Tensor
from texpr.lang.reference import storage_shape
from texpr.math.expr import IntExpr, evaluate

_SPECIALS: Final = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-310, 6e-8, -1e-40)
_POSITIVE_SCALARS: Final = (0.75, 1e-5, 2.0)
"""Float scalars: divisors, scales and epsilons, where a negative number would only give NaN everywhere."""
_WIDEST: Final = 8.0
"""Magnitudes of wide values reach from 2**-8 to 2**8: their products still fit f16."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Input arrays in storage shape and form (absent optional ones are missing), and scalars as Python numbers."""

    arrays: Mapping[str, Array]
    scalars: Mapping[str, int | float]


def make_inputs(algorithm: Algorithm, case: Case, symbols: Mapping[str, int], seed: int) -> Inputs:
    """Inputs for a call; the same for the same seed. ``symbols`` holds every dim and integer scalar."""
    rng = np.random.default_rng(seed)
    arrays = {
        tensor.name: tensor_values(tensor, case.values, symbols, rng)
        for tensor in algorithm.inputs
        if tensor.name not in case.absent
    }
    for count in algorithm.counts:
        if count.source in arrays:
            given = case.counts.get(count.source, symbols[count.name])
            arrays[count.source] = np.asarray(given, arrays[count.source].dtype)
    for tensor in algorithm.inputs:
        if tensor.domain is not None and tensor.name in arrays and arrays[tensor.name].size:
            inside = _in_domain(tensor.domain, tensor, algorithm, arrays, symbols)
            _spoil(arrays[tensor.name], ~inside.reshape(arrays[tensor.name].shape), tensor, symbols, rng)
    for tensor in algorithm.inputs:
        if tensor.valid is not None and tensor.name in arrays:
            arrays[tensor.name] = poisoned(tensor, arrays[tensor.name], symbols)
    scalars = {scalar.name: _scalar(scalar, case, rng) for scalar in algorithm.scalars}
    return Inputs(arrays, scalars)


def poisoned(tensor: Tensor, values: Array, symbols: Mapping[str, int]) -> Array:
    """The same values where there are any, and beyond what shows in a result: NaN, or the greatest integer."""
    shape = tuple(evaluate(extent, symbols) for extent in tensor.shape)
    valid = tuple(slice(evaluate(extent, symbols)) for extent in tensor.extents)
    worst = encode(np.asarray(math.nan), tensor.dtype) if tensor.dtype.is_float else _greatest(tensor.dtype)
    whole = np.full(shape, worst, values.dtype)
    whole[valid] = values.reshape(shape)[valid]
    return whole.reshape(values.shape)


def _greatest(dtype: DType) -> int:
    return 1 if dtype is DType.BOOL else integer_range(dtype)[1]


def tensor_values(tensor: Tensor, style: Values, symbols: Mapping[str, int], rng: np.random.Generator) -> Array:
    """A storage array of random values within the tensor's contract."""
    shape = storage_shape(tensor.shape, tensor.groups, symbols)
    if tensor.dtype.is_float:
        finite = tensor.contract(ContractKind.FINITE) is not None and style is Values.SPECIAL
        return encode(_floats(shape, Values.WIDE if finite else style, rng), tensor.dtype)
    if tensor.dtype is DType.BOOL:
        return rng.integers(0, 2, shape).astype(storage_dtype(DType.BOOL))
    low, high = _range(tensor.dtype, tensor.low, tensor.high, symbols)
    if elements_of(tensor, symbols) == 0:
        return np.zeros(shape, storage_dtype(tensor.dtype))
    if tensor.contracts:
        kinds = frozenset(contract.kind for contract in tensor.contracts)
        if ContractKind.LISTS in kinds:  # all numbers there are: a list that leaves out nothing is never wrong
            row = np.arange(-1, high, dtype=storage_dtype(tensor.dtype))
            row[0] = high
            return np.tile(row, (shape[0], 1))
        return contracted(kinds, shape[0], low, high, rng).astype(storage_dtype(tensor.dtype))
    values: Any = rng.integers(low, high, shape, dtype=storage_dtype(tensor.dtype), endpoint=True)
    flat = values.reshape(-1)
    for position, value in zip(rng.permutation(flat.size)[:2], (low, high), strict=False):
        flat[position] = value  # the ends of the range always occur
    return np.asarray(values)


def _in_domain(
    domain: Domain, tensor: Tensor, algorithm: Algorithm, arrays: Mapping[str, Array], symbols: Mapping[str, int]
) -> Array:
    """Where the range of a tensor's values holds, over its logical dims."""

    def logical(other: Tensor) -> tuple[int, ...]:
        return tuple(evaluate(extent, symbols) for extent in other.shape)

    wanted = {name for name, _ in mentioned(domain.named.text).reads}
    read = {t.name: arrays[t.name].reshape(logical(t)) for t in algorithm.inputs if t.name in wanted}
    return holds_at(domain.named, logical(tensor), symbols, read)


def _spoil(
    array: Array, outside: Array, tensor: Tensor, symbols: Mapping[str, int], rng: np.random.Generator
) -> None:
    """What nobody promises anything of: values just beyond the range, the ends of the type, and some in the range."""
    least, greatest = integer_range(tensor.dtype)
    low, high = _range(tensor.dtype, tensor.low, tensor.high, symbols)
    garbage = [max(low - 1, least), min(high + 1, greatest), least, greatest, low]
    array[outside] = rng.choice(np.asarray(garbage, array.dtype), int(outside.sum()))


def contracted(kinds: frozenset[ContractKind], size: int, low: int, high: int, rng: np.random.Generator) -> Array:
    """``size`` integers from ``low`` to ``high``, both included, that keep contracts; where it can be, some groups of
    offsets are empty and some values occur often."""
    if ContractKind.OFFSETS in kinds:
        cuts = np.sort(rng.integers(low, high, max(size - 2, 0), dtype=np.int64, endpoint=True))
        for position in rng.permutation(max(cuts.size - 1, 0))[: cuts.size // 4]:
            cuts[position + 1] = cuts[position]
        cuts.sort()
        return np.concatenate([[low], cuts, [high]])[-size:]
    if ContractKind.PERMUTATION in kinds:
        values = rng.permutation(np.arange(size, dtype=np.int64))
    elif ContractKind.UNIQUE in kinds:
        step = (high - low + 1) // size
        first = low + int(rng.integers(0, high - low + 1 - (size - 1) * step))
        values = rng.permutation(np.asarray([first + step * n for n in range(size)], np.int64))
    else:
        values = rng.integers(low, high, size, dtype=np.int64, endpoint=True)
    return np.sort(values) if ContractKind.SORTED in kinds else values


def _range(dtype: DType, low: IntExpr | None, high: IntExpr | None, symbols: Mapping[str, int]) -> tuple[int, int]:
    """Least and greatest value that the type and the contract allow."""
    least, greatest = integer_range(dtype)
    first = least if low is None else max(least, evaluate(low, symbols))
    last = greatest if high is None else min(greatest, evaluate(high, symbols) - 1)
    return first, last


def _floats(shape: tuple[int, ...], style: Values, rng: np.random.Generator) -> Array:
    values = rng.standard_normal(shape)
    match style:
        case Values.NORMAL:
            return values
        case Values.WIDE:
            return np.sign(values) * np.exp2(rng.uniform(-_WIDEST, _WIDEST, shape))
        case Values.SPECIAL:
            flat = values.reshape(-1)
            count = min(flat.size, 1 + flat.size // 512)
            flat[rng.permutation(flat.size)[:count]] = rng.choice(_SPECIALS, count)
            return values


def _scalar(scalar: Scalar, case: Case, rng: np.random.Generator) -> int | float:
    if scalar.dtype.is_int:
        return case.integers[scalar.name]
    if scalar.dtype is DType.BOOL:
        return int(rng.integers(0, 2))
    chosen = float(rng.choice(_POSITIVE_SCALARS))
    return float(decode(encode(np.asarray(chosen), scalar.dtype), scalar.dtype))
