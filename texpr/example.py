"""Demo data for a bundle: one call a little larger than a tile, with its inputs, the reference's result and the error
bound.

The sizes reach the entry's first variant that takes such a call; inputs are the same in every build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from texpr.aot.ir import Entry, Example
from texpr.checking.bound import accuracy_of, expected_outputs
from texpr.checking.calls import Candidate, Case, Values, chosen, integer_choices, is_legal, symbols_of
from texpr.checking.cases import work_of
from texpr.checking.inputs import make_inputs
from texpr.checking.tiles import axes_of, expanded, inverted
from texpr.lang.accuracy import Accuracy
from texpr.lang.ir import Algorithm, Scalar, Tensor
from texpr.lang.reference import storage_shape
from texpr.math.bounds import Facts, divisor
from texpr.math.expr import BoolExpr, sym
from texpr.schedule.records import Variant

_MOST_WORK: Final = 2_000_000
"""Points (see ``work_of``): the reference takes well under a second, the emulator a few."""
_STEPS: Final = (10, 4, 2, 1)
"""Loop steps that a reduction takes, the most that the work allows."""
_UNTILED: Final = 37
"""The size of a dim that no tile covers."""
_SEED: Final = 2026
_MULTIPROCESSORS: Final = 4


def example_for(
    entry: Entry, algorithm: Algorithm, records: Sequence[Variant], facts: Facts, targets: Sequence[str]
) -> Example | None:
    """An example for ``entry``, which was compiled from ``algorithm`` under the schedule's ``records`` for ``targets``;
    ``facts`` is what every call satisfies. None if no variant takes a call of such sizes."""
    by_name = {record.name: record for record in records}
    candidates = [Candidate(n, variant.name, variant.guard) for n, variant in enumerate(entry.variants)]
    for wanted in candidates:
        for steps in _STEPS:
            sizes = _sizes(algorithm, by_name[wanted.name], wanted.guard, facts, steps)
            case = _dense_call(algorithm, sizes)
            symbols = symbols_of(algorithm, case, _MULTIPROCESSORS)
            if symbols is None or not is_legal(algorithm, case, symbols):
                continue
            small = work_of(algorithm, by_name[wanted.name], symbols) <= _MOST_WORK
            reached = chosen(candidates, case, symbols)
            if (small or steps == _STEPS[-1]) and reached is not None and reached.name == wanted.name:
                return _filled(entry, algorithm, case, symbols, accuracy_of(algorithm, targets, records))
    return None


def _sizes(algorithm: Algorithm, record: Variant, guard: BoolExpr, facts: Facts, steps: int) -> dict[str, int]:
    """A size for every free dim: the first axis of the grid one and a half tiles and a bit, the others a bit over one
    tile, reductions ``steps`` steps, an axis that one tile holds not quite all of it."""
    extents = _extents(record, steps)
    free = [dim.name for dim in algorithm.dims if dim.value is None]
    derived = {dim.name: dim.value for dim in algorithm.dims if dim.value is not None} | algorithm.rooms
    found: dict[str, int] = {}
    for name, axis in axes_of(algorithm).items():
        if name in extents:
            for dim, size in inverted(expanded(axis.extent, derived), [extents[name]], free):
                found.setdefault(dim, size)
    assumed = facts.assume(guard)
    rounded = {}
    for name in free:
        step = max(divisor(sym(name), assumed), 1)
        rounded[name] = -(-found.get(name, _UNTILED) // step) * step
    return rounded


def _extents(record: Variant, steps: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for kernel in record.kernels:
        for position, (name, tile) in enumerate(kernel.grid.items()):
            generous = tile * 3 // 2 + 8 if position == 0 and tile >= 16 else tile + max(tile // 8, 1)
            found.setdefault(name, generous)
        for name, tile in kernel.whole.items():
            found.setdefault(name, max(tile * 7 // 8, 1))
        for place in kernel.place.values():
            for name, step in place.loop.items():
                found.setdefault(name, steps * step if step <= 64 else step + step // 8)
    return found


def _dense_call(algorithm: Algorithm, sizes: Mapping[str, int]) -> Case:
    """A call with everything present, aligned, dense and apart."""
    bare = Case(sizes, {}, {}, {}, frozenset(), frozenset(), Values.NORMAL)
    symbols = symbols_of(algorithm, bare, _MULTIPROCESSORS) or {}
    strides: dict[str, int] = {}
    offsets: dict[str, int] = {}
    integers: dict[str, int] = {}
    for param in algorithm.params:
        if isinstance(param, Scalar):
            if param.dtype.is_int:
                integers[param.name] = integer_choices(param, symbols)[-1]
            continue
        offsets[param.name] = 0
        strides |= _dense_strides(param, symbols)
    return Case(sizes, strides, integers, offsets, frozenset(), frozenset(), Values.NORMAL)


def _dense_strides(tensor: Tensor, symbols: Mapping[str, int]) -> dict[str, int]:
    if not tensor.strided:
        return {}
    extents = storage_shape(tensor.shape, tensor.groups, symbols)
    return {f"{tensor.name}_stride_{dim}": int(np.prod(extents[dim + 1 :])) for dim in tensor.strided}


def _filled(
    entry: Entry, algorithm: Algorithm, case: Case, symbols: Mapping[str, int], accuracy: Accuracy
) -> Example:
    inputs = make_inputs(algorithm, case, symbols, _SEED)
    outputs = expected_outputs(algorithm, inputs, case.dims, accuracy)
    expected = []
    for tensor in algorithm.outputs:
        found = outputs[tensor.name]
        values = found.value.astype(np.float64 if tensor.dtype.is_float else np.int64)
        spread = np.broadcast_to(found.limits, values.shape).astype(np.float64)
        expected.append((tensor.name, np.ascontiguousarray(values).tobytes(), spread.tobytes()))
    return Example(
        entry.symbol,
        tuple((name, case.dims[name]) for name in entry.dims),
        tuple(inputs.scalars.items()),
        tuple((name, np.ascontiguousarray(values).tobytes()) for name, values in inputs.arrays.items()),
        tuple(expected),
    )
