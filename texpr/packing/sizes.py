"""Large calls, for timing: sizes grown from a small call that reaches a variant, as far as the variant still takes them
and memory and work allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from texpr.checking.calls import Candidate, Case, Values, chosen, elements_of, integer_choices, is_legal, symbols_of
from texpr.checking.cases import Problem, work_of
from texpr.lang.ir import Algorithm, Scalar, Tensor
from texpr.lang.reference import storage_shape

_BASES: Final = (64, 128, 256, 32, 16, 1024, 8, 4, 1)
"""Sizes of all dims from which growth begins, in the order tried."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a large call may take: ``bytes`` of tensors, and ``work`` in points computed (see ``work_of``)."""

    bytes: int = 256 << 20
    work: int = 1 << 32


@dataclass(frozen=True, slots=True)
class Manner:
    """How a call is made apart from its sizes."""

    offsets: Mapping[str, int]
    absent: frozenset[str]


def large_case(problem: Problem, small: Sequence[Case], limits: Limits) -> Case | None:
    """A large call that reaches the problem's variant; ``small`` are calls that do. None if none is found.

    Of the calls that grow in each manner, the one whose smallest dim is largest: a variant that takes what others leave
    can be reached with one tiny dim, or with unaligned pointers and sizes like everybody's.
    """
    found: list[Case] = []
    for manner in _manners(problem.algorithm, small):
        start = next((d for d in _starts(problem.algorithm, small) if _reaching(problem, d, manner, limits)), None)
        if start is not None:
            found.append(_grown(problem, start, manner, limits))
    return max(found, key=lambda case: min(case.dims.values(), default=0), default=None)


def is_empty(algorithm: Algorithm, case: Case) -> bool:
    """Whether some output has no elements."""
    symbols = symbols_of(algorithm, case, 1)
    return symbols is None or not all(elements_of(output, symbols) for output in algorithm.outputs)


def sized_case(algorithm: Algorithm, dims: Mapping[str, int], absent: Iterable[str] = ()) -> Case | None:
    """A call with these sizes, everything aligned, dense and, but for ``absent``, given; None where a derived dim is
    undefined."""
    aligned = dict.fromkeys((tensor.name for tensor in _tensors(algorithm)), 0)
    return _case(algorithm, dims, Manner(aligned, frozenset(absent)))


def reached(
    candidates: Sequence[Candidate], algorithm: Algorithm, case: Case, multiprocessors: int
) -> Candidate | None:
    """The variant that takes a call; None if the call is not legal or no variant takes it."""
    symbols = symbols_of(algorithm, case, multiprocessors)
    if symbols is None or not is_legal(algorithm, case, symbols):
        return None
    return chosen(candidates, case, symbols)


def _manners(algorithm: Algorithm, small: Sequence[Case]) -> Iterator[Manner]:
    """Everything aligned and given first, then as the small calls are."""
    names = [tensor.name for tensor in _tensors(algorithm)]
    found = [Manner(dict.fromkeys(names, 0), frozenset())]
    found += [Manner(case.offsets, frozenset()) for case in small]
    found += [Manner(case.offsets, case.absent) for case in small]
    for number, manner in enumerate(found):
        if manner not in found[:number]:
            yield manner


def _starts(algorithm: Algorithm, small: Sequence[Case]) -> Iterator[dict[str, int]]:
    """Equal powers of two, then the small calls' sizes as powers of two above or below, then these sizes."""
    free = [dim.name for dim in algorithm.dims if dim.value is None]
    for base in _BASES:
        yield dict.fromkeys(free, base)
    for case in small:
        above = {name: 1 << max(size - 1, 0).bit_length() for name, size in case.dims.items()}
        yield above
        yield {name: max(size // 2, 1) for name, size in above.items()}
    for case in small:
        yield dict(case.dims)


def _grown(problem: Problem, dims: Mapping[str, int], manner: Manner, limits: Limits) -> Case:
    """Double the smallest dim that can be doubled, until none can."""
    sizes = dict(dims)
    found = _reaching(problem, sizes, manner, limits)
    assert found is not None
    open_dims = {name for name, size in sizes.items() if size > 0}
    while open_dims:
        name = min(open_dims, key=lambda each: (sizes[each], each))
        larger = _reaching(problem, sizes | {name: 2 * sizes[name]}, manner, limits)
        if larger is None:
            open_dims.remove(name)
        else:
            found, sizes[name] = larger, 2 * sizes[name]
    return found


def _reaching(problem: Problem, dims: Mapping[str, int], manner: Manner, limits: Limits) -> Case | None:
    algorithm = problem.algorithm
    case = _case(algorithm, dims, manner)
    symbols = None if case is None else symbols_of(algorithm, case, problem.multiprocessors)
    if case is None or symbols is None or not is_legal(algorithm, case, symbols):
        return None
    if bytes_of(algorithm, case, symbols) > limits.bytes or work_of(algorithm, problem.record, symbols) > limits.work:
        return None
    if not all(elements_of(output, symbols) for output in algorithm.outputs):
        return None
    return case if chosen(problem.candidates, case, symbols) == problem.wanted else None


def bytes_of(algorithm: Algorithm, case: Case, symbols: Mapping[str, int]) -> int:
    """Of the tensors that a call gives."""
    given = [tensor for tensor in _tensors(algorithm) if tensor.name not in case.absent]
    return sum(elements_of(tensor, symbols) * tensor.dtype.bytes for tensor in given)


def _case(algorithm: Algorithm, dims: Mapping[str, int], manner: Manner) -> Case | None:
    bare = Case(dims, {}, {}, {}, frozenset(), frozenset(), Values.NORMAL)
    symbols = symbols_of(algorithm, bare, 1)
    if symbols is None:
        return None
    strides: dict[str, int] = {}
    for tensor in _tensors(algorithm):
        dense = 1
        for dim, extent in reversed(list(enumerate(storage_shape(tensor.shape, tensor.groups, symbols)))):
            if dim in tensor.strided:
                strides[f"{tensor.name}_stride_{dim}"] = dense
            dense *= extent
    integers = {}
    for param in algorithm.params:
        if isinstance(param, Scalar) and param.dtype.is_int:
            options = integer_choices(param, symbols)
            integers[param.name] = options[-1]
    return Case(dims, strides, integers, manner.offsets, manner.absent, frozenset(), Values.NORMAL)


def _tensors(algorithm: Algorithm) -> list[Tensor]:
    return [param for param in algorithm.params if isinstance(param, Tensor)]
