"""A call becomes a case of a pack: how its inputs are made, and what its outputs must be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from texpr.checking.bound import expected_outputs
from texpr.checking.calls import Case as Call
from texpr.checking.calls import Values, elements_of, storage_of, symbols_of
from texpr.checking.cases import work_of
from texpr.checking.execute import MULTIPROCESSORS
from texpr.checking.inputs import Inputs
from texpr.contracts import ContractKind
from texpr.dtypes import DType
from texpr.lang.accuracy import Accuracy
from texpr.lang.arrays import Array, decode, encode, integer_range
from texpr.lang.bounded import Bounded
from texpr.lang.ir import Algorithm, Scalar, Tensor
from texpr.math.expr import IntExpr, evaluate
from texpr.packing.requests import SizeRequest
from texpr.packing.runner.compare import encode_bound
from texpr.packing.runner.inputs import mix, part, whole
from texpr.packing.runner.records import Expected, Fill, Input, Layout, Output, Style
from texpr.packing.sampling import Sample, choose_sample, part_of, positions_of, thinned
from texpr.schedule.records import Variant

_PERIOD: Final = 1_048_573
"""A prime: large tensors repeat after so many elements, which aligns with no row, and are made quickly."""
_PERIODIC_FROM: Final = 1 << 22
_REFERENCE_WORK: Final = 1 << 25
"""Points of a reference that are computed while packing; a call that needs more is timed but not compared."""
_SCALARS: Final = (0.75, 1e-5, 2.0)
"""Float scalars: divisors, scales and epsilons, where a negative number would only give NaN everywhere."""
_STYLES: Final = {Values.NORMAL: Style.NORMAL, Values.WIDE: Style.WIDE, Values.SPECIAL: Style.SPECIAL}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call with its tensors; ``arrays`` holds what the outputs' records name."""

    call: Call
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    scalars: Mapping[str, int | float]
    arrays: Mapping[str, Array]
    work: int


def key_of(*words: object) -> int:
    """A 64-bit key from anything printable."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, words)).encode()).digest()[:8], "little")


def prepare(
    algorithm: Algorithm, record: Variant, call: Call, key: int, accuracy: Accuracy, pack: Path,
    wanted: SizeRequest | None = None, *, large: bool,
) -> Prepared:  # fmt: skip
    """Inputs from ``key``, apart from what is ``wanted`` of them, and the reference of the outputs: of all elements, or
    of a sample of a large call. ``pack`` is the folder of given arrays."""
    symbols = symbols_of(algorithm, call, MULTIPROCESSORS)
    assert symbols is not None
    inputs = {
        tensor.name: Input(_layout(tensor, call, symbols), _fill(tensor, call.values, symbols, mix(key ^ position + 1)))
        for position, tensor in enumerate(algorithm.inputs)
        if tensor.name not in call.absent
    }
    scalars = {scalar.name: _scalar(scalar, call, mix(key ^ ~n & 0xFF)) for n, scalar in enumerate(algorithm.scalars)}
    if wanted is not None:
        inputs |= {name: replace(inputs[name], fill=fill) for name, fill in _wanted_fills(wanted).items()}
        scalars |= {name: _rounded(value, _scalar_named(algorithm, name)) for name, value in wanted.scalars.items()}

    def affordable(smaller: Call) -> bool:
        found = symbols_of(algorithm, smaller, MULTIPROCESSORS)
        return found is not None and work_of(algorithm, record, found) <= _REFERENCE_WORK

    expected: dict[str, Expected] = {}
    arrays: dict[str, Array] = {}
    if wanted is None or wanted.reference:
        sample = choose_sample(algorithm, call, key, MULTIPROCESSORS, affordable) if large else {}
        expected, arrays = _reference(algorithm, record, call, inputs, scalars, sample, accuracy, pack)
    if large:
        expected, arrays = _thinned(expected, arrays, key)
    outputs = tuple(
        Output(
            _layout(tensor, call, symbols),
            tensor.may_alias if tensor.name in call.aliased else None,
            expected.get(tensor.name),
        )
        for tensor in algorithm.outputs
    )
    return Prepared(call, tuple(inputs.values()), outputs, scalars, arrays, work_of(algorithm, record, symbols))


def values_of(prepared: Prepared, pack: Path) -> Inputs:
    """The inputs themselves, as the checker wants them."""
    return Inputs({tensor.layout.name: whole(tensor, pack) for tensor in prepared.inputs}, prepared.scalars)


def _layout(tensor: Tensor, call: Call, symbols: Mapping[str, int]) -> Layout:
    shape, strides = storage_of(tensor, symbols)
    return Layout(tensor.name, tensor.dtype, shape, strides, call.offsets[tensor.name])


def _fill(tensor: Tensor, values: Values, symbols: Mapping[str, int], key: int) -> Fill:
    size = elements_of(tensor, symbols)
    period = _PERIOD if size >= _PERIODIC_FROM else 0
    if tensor.dtype.is_float:
        finite = tensor.contract(ContractKind.FINITE) is not None and values is Values.SPECIAL
        return Fill(_STYLES[Values.WIDE if finite else values], key, period=period)
    if tensor.dtype is DType.BOOL:
        return Fill(Style.BOOLS, key, period=period)
    low, high = _range(tensor.dtype, tensor.low, tensor.high, symbols) if size else (0, 0)
    contracts = tuple(contract.kind.value for contract in tensor.contracts)
    return Fill(Style.INTEGERS, key, low, high, 0 if contracts else period, contracts)


def _range(dtype: DType, low: IntExpr | None, high: IntExpr | None, symbols: Mapping[str, int]) -> tuple[int, int]:
    """Least and greatest value that the type and the contract allow."""
    least, greatest = integer_range(dtype)
    first = least if low is None else max(least, evaluate(low, symbols))
    last = greatest if high is None else min(greatest, evaluate(high, symbols) - 1)
    return first, last


def _scalar(scalar: Scalar, call: Call, key: int) -> int | float:
    if scalar.dtype.is_int:
        return call.integers[scalar.name]
    if scalar.dtype is DType.BOOL:
        return key & 1
    return _rounded(_SCALARS[key % len(_SCALARS)], scalar)


def _rounded(value: int | float, scalar: Scalar) -> int | float:
    """To the scalar's type."""
    if not scalar.dtype.is_float:
        return value
    return float(decode(encode(np.asarray(float(value)), scalar.dtype), scalar.dtype))


def _scalar_named(algorithm: Algorithm, name: str) -> Scalar:
    return next(scalar for scalar in algorithm.scalars if scalar.name == name)


def _wanted_fills(wanted: SizeRequest) -> dict[str, Fill]:
    constants = {name: Fill(Style.INTEGERS, 0, value, value) for name, value in wanted.constants.items()}
    return constants | {name: Fill(Style.GIVEN, 0, file=file) for name, file in wanted.arrays.items()}


def _reference(
    algorithm: Algorithm, record: Variant, call: Call, inputs: Mapping[str, Input], scalars: Mapping[str, int | float],
    sample: Sample, accuracy: Accuracy, pack: Path,
) -> tuple[dict[str, Expected], dict[str, Array]]:  # fmt: skip
    """Per output what is expected, and the arrays that this names; nothing where the reference would take too long."""
    smaller = part_of(call, sample)
    symbols = symbols_of(algorithm, smaller, MULTIPROCESSORS)
    assert symbols is not None
    if work_of(algorithm, record, symbols) > _REFERENCE_WORK:
        return {}, {}  # the caller sees outputs without an expectation
    tensors = {tensor.name: tensor for tensor in algorithm.inputs}
    given = {name: part(each, positions_of(tensors[name], sample), pack) for name, each in inputs.items()}
    results = expected_outputs(algorithm, Inputs(given, scalars), smaller.dims, accuracy)
    expected: dict[str, Expected] = {}
    arrays: dict[str, Array] = {}
    for tensor in algorithm.outputs:
        stored, bound = _stored(results[tensor.name], tensor.dtype)
        arrays[f"{tensor.name}.value"] = stored
        if bound is not None:
            arrays[f"{tensor.name}.bound"] = bound
        key = None if bound is None else f"{tensor.name}.bound"
        expected[tensor.name] = Expected(f"{tensor.name}.value", key, positions_of(tensor, sample))
    return expected, arrays


def _thinned(
    expected: Mapping[str, Expected], arrays: Mapping[str, Array], key: int
) -> tuple[dict[str, Expected], dict[str, Array]]:
    """Of outputs that could only be computed as a whole, as many elements as are kept of others."""
    fewer: dict[str, Expected] = {}
    kept: dict[str, Array] = {}
    for name, each in expected.items():
        sample = thinned(each.sample, arrays[each.value].shape, mix(key))
        picked = [
            slice(None) if now is before or now is None else np.asarray(now, np.int64)
            for now, before in zip(sample, each.sample, strict=True)
        ]
        for stored in filter(None, (each.value, each.bound)):
            array = arrays[stored]
            for dim, positions in enumerate(picked):
                array = array if isinstance(positions, slice) else np.take(array, positions, axis=dim)
            kept[stored] = array
        fewer[name] = replace(each, sample=sample)
    return fewer, kept


def _stored(result: Bounded, dtype: DType) -> tuple[Array, Array | None]:
    """The reference in storage form, and its bounds (infinite where it is ambiguous) unless all are exact.

    Outputs are rounded to their type by the reference, so storing them loses nothing; where it would, the bound grows.
    """
    stored = encode(result.value, dtype)
    bound = np.broadcast_to(result.limits, result.value.shape).astype(np.float64)
    if dtype.is_float:
        with np.errstate(all="ignore"):
            moved = np.abs(decode(stored, dtype) - result.value)
        bound = bound + np.where(np.isfinite(moved), moved, 0.0)
    return stored, encode_bound(bound) if bound.any() else None
