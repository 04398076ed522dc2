"""A call of an algorithm as numbers: sizes, strides, scalars, alignment, what is absent; and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from texpr.contracts import ContractKind
from texpr.lang.arrays import integer_range
from texpr.lang.ir import Algorithm, Role, Scalar, Tensor
from texpr.lang.reference import storage_shape
from texpr.math.expr import Atom, AtomKind, BoolExpr, TypeIn, evaluate

BOUNDARY: Final = 256
"""Bytes: what an address is a multiple of when nothing is said of its alignment."""


class Values(Enum):
    """What the floats of a call look like."""

    NORMAL = "normal"  # a normal distribution around 0
    WIDE = "wide"  # magnitudes over many powers of two
    SPECIAL = "special"  # normal, with some NaN, infinities, signed zeros and subnormal numbers


@dataclass(frozen=True, slots=True)
class Case:
    """One call. ``offsets`` are the bytes by which each tensor's address exceeds a multiple of 256; ``aliased`` names
    the outputs that are given the very memory of the input that they may alias, ``counts`` are what inputs hold that
    say how large a dim is."""

    dims: Mapping[str, int]
    strides: Mapping[str, int]
    integers: Mapping[str, int]
    offsets: Mapping[str, int]
    absent: frozenset[str]
    aliased: frozenset[str]
    values: Values
    counts: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """``M=129 N=8 K=0, x_stride_0=24, without b, w at 2 mod 256, special values``."""
        parts = [" ".join(f"{name}={value}" for name, value in self.dims.items())]
        numbers = (*self.counts.items(), *self.strides.items(), *self.integers.items())
        parts += [f"{name}={value}" for name, value in numbers]
        parts += [f"without {name}" for name in sorted(self.absent)]
        parts += [f"{name} in place" for name in sorted(self.aliased)]
        parts += [f"{name} at {offset} mod {BOUNDARY}" for name, offset in self.offsets.items() if offset]
        if self.values is not Values.NORMAL:
            parts.append(f"{self.values.value} values")
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant as the launcher sees it: its position in the manifest, its name and its guard."""

    position: int
    name: str
    guard: BoolExpr


def symbols_of(algorithm: Algorithm, case: Case, multiprocessors: int) -> dict[str, int] | None:
    """The value of every integer symbol; None where a derived dim, or the room for one that the device counts, is
    undefined or negative."""
    values: dict[str, int] = {**case.dims, **case.strides, **case.integers, "sms": multiprocessors}
    for dim in algorithm.dims:
        if dim.value is not None:
            try:
                values[dim.name] = evaluate(dim.value, values)
            except ZeroDivisionError:
                return None
            if values[dim.name] < 0:
                return None
    for count in algorithm.counts:  # of an output, the most that it can say
        room = evaluate(count.room, values)
        if room < 0:
            return None
        values[count.name] = count.value_of(case.counts.get(count.source, room), values)
    return values


def is_legal(algorithm: Algorithm, case: Case, symbols: Mapping[str, int]) -> bool:
    """Whether the launcher must take the call: shapes and facts hold, and no value range is empty where values are
    needed."""
    for param in algorithm.params:
        if isinstance(param, Tensor) and any(evaluate(extent, symbols) < 0 for extent in param.shape):
            return False
        needs_values = isinstance(param, Scalar) or (
            param.role is Role.INPUT and param.name not in case.absent and elements_of(param, symbols) > 0
        )
        if needs_values and _is_empty_range(param, symbols):
            return False
        if needs_values and isinstance(param, Tensor) and not can_keep(param, symbols):
            return False
    return all(evaluate(fact, symbols) for fact in algorithm.facts)


def can_keep(tensor: Tensor, symbols: Mapping[str, int]) -> bool:
    """Whether there are values that keep the contracts of a tensor: the offsets of no groups end at 0, and different
    values need a range that holds as many."""
    size = elements_of(tensor, symbols)
    offsets = tensor.contract(ContractKind.OFFSETS)
    if offsets is not None and offsets.limit is not None:
        limit = evaluate(offsets.limit, symbols)
        return limit >= 0 and (size > 1 or limit == 0)
    if tensor.contract(ContractKind.UNIQUE) is not None:
        least, greatest = integer_range(tensor.dtype)
        low = least if tensor.low is None else max(least, evaluate(tensor.low, symbols))
        high = greatest if tensor.high is None else min(greatest, evaluate(tensor.high, symbols) - 1)
        return high - low + 1 >= size
    return True


def _is_empty_range(param: Tensor | Scalar, symbols: Mapping[str, int]) -> bool:
    if param.low is None or param.high is None:
        return False
    return evaluate(param.low, symbols) >= evaluate(param.high, symbols)


def elements_of(tensor: Tensor, symbols: Mapping[str, int]) -> int:
    """The number of elements that have a value."""
    return math.prod(evaluate(extent, symbols) for extent in tensor.shape)


def storage_of(tensor: Tensor, symbols: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Extents and strides (in elements) of the storage dims."""
    extents = storage_shape(tensor.shape, tensor.groups, symbols)
    strides = [0] * len(extents)
    dense = 1
    for dim in reversed(range(len(extents))):
        strides[dim] = symbols[f"{tensor.name}_stride_{dim}"] if dim in tensor.strided else dense
        dense = strides[dim] * extents[dim]
    return extents, tuple(strides)


def chosen(candidates: Sequence[Candidate], case: Case, symbols: Mapping[str, int]) -> Candidate | None:
    """The first variant whose guard holds, as the launcher chooses."""

    def holds(atom: Atom | TypeIn) -> bool:
        if isinstance(atom, TypeIn):
            raise ValueError(f"{atom} should have been decided for a binding")
        name = atom.names[0]
        match atom.kind:
            case AtomKind.ALIGNED:
                return name in case.absent or case.offsets[name] % (atom.number or 1) == 0
            case AtomKind.PRESENT:
                return name not in case.absent
            case AtomKind.DISJOINT:
                return not case.aliased.intersection(atom.names)

    for candidate in candidates:
        if evaluate(candidate.guard, symbols, holds):
            return candidate
    return None


def integer_choices(scalar: Scalar, symbols: Mapping[str, int]) -> tuple[int, ...]:
    """Values worth trying for an integer scalar: the ends of its range and one inside."""
    least, greatest = integer_range(scalar.dtype)
    low = evaluate(scalar.low, symbols) if scalar.low is not None else max(least, -3)
    high = evaluate(scalar.high, symbols) - 1 if scalar.high is not None else min(greatest, low + 10)
    return tuple(dict.fromkeys((low, high, (low + high) // 2)))
