"""Which part of a large output the reference is computed of.

A dim is *independent* if an output element at position ``d`` of it depends only on input elements at position ``d``:
the rows of a softmax, the rows and the columns of a matrix product. Then the algorithm on some positions of the dim,
with the inputs at those positions, gives exactly the outputs at those positions, and neither the reference nor the
inputs need the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from texpr.checking.calls import Case, elements_of, is_legal, symbols_of
from texpr.lang.ir import (
    Algorithm,
    Axis,
    AxisRef,
    Def,
    DimRef,
    Expr,
    Extern,
    Func,
    Ranking,
    Read,
    Reduce,
    Scan,
    Tensor,
    Top,
    children,
    top_exprs,
)
from texpr.math.expr import Sym, free_symbols
from texpr.packing.runner.inputs import mix

_ELEMENTS: Final = 8192
"""About so many elements of all outputs are compared."""
_COUNTS: Final = (64, 32, 16, 8, 4, 2, 1)
"""How many positions of each independent dim, the most that the elements allow."""

Sample = Mapping[str, tuple[int, ...]]
"""Positions along each sampled dim, ascending."""


def choose_sample(
    algorithm: Algorithm, case: Case, seed: int, multiprocessors: int, small_enough: Callable[[Case], bool]
) -> Sample:
    """Few positions along the independent dims of a call, so few that the rest is ``small_enough`` if that can be;
    empty if it has none that the facts let shrink."""
    dims = [name for name in independent_dims(algorithm) if case.dims[name] > 1]
    sample: dict[str, tuple[int, ...]] = {}
    for count in _COUNTS:
        for number, name in enumerate(dims):
            fewer = sample | {name: _positions(case.dims[name], count, mix(seed ^ number))}
            if is_legal_part(algorithm, case, fewer, multiprocessors):
                sample = fewer
        rest = part_of(case, sample)
        if _output_elements(algorithm, rest, multiprocessors) <= _ELEMENTS and small_enough(rest):
            break
    return sample


def part_of(case: Case, sample: Sample) -> Case:
    """The call on the sampled positions only."""
    dims = {**case.dims, **{name: len(positions) for name, positions in sample.items()}}
    return Case(dims, case.strides, case.integers, case.offsets, case.absent, case.aliased, case.values)


def is_legal_part(algorithm: Algorithm, case: Case, sample: Sample, multiprocessors: int) -> bool:
    """Whether the algorithm takes the smaller sizes."""
    part = part_of(case, sample)
    symbols = symbols_of(algorithm, part, multiprocessors)
    return symbols is not None and is_legal(algorithm, part, symbols)


def thinned(
    known: tuple[tuple[int, ...] | None, ...], shape: tuple[int, ...], seed: int
) -> tuple[tuple[int, ...] | None, ...]:
    """Positions along the storage dims of an output of ``shape``, of which ``known`` are sampled already: so few of the
    others that the elements are no more than are compared of any output. None: all."""
    counts = list(shape)
    free = [dim for dim, positions in enumerate(known) if positions is None]
    while math.prod(counts) > _ELEMENTS and any(counts[dim] > 1 for dim in free):
        dim = max(free, key=lambda each: counts[each])
        counts[dim] = (counts[dim] + 1) // 2
    return tuple(
        positions if dim not in free or counts[dim] == shape[dim] else _positions(shape[dim], counts[dim], seed ^ dim)
        for dim, positions in enumerate(known)
    )


def positions_of(tensor: Tensor, sample: Sample) -> tuple[tuple[int, ...] | None, ...]:
    """Per storage dim of a tensor the sampled positions, None for all of them."""
    found: list[tuple[int, ...] | None] = []
    start = 0
    for width in tensor.groups:
        extent = tensor.shape[start]
        sampled = width == 1 and isinstance(extent, Sym) and extent.name in sample
        found.append(sample[extent.name] if sampled and isinstance(extent, Sym) else None)
        start += width
    return tuple(found)


def _positions(size: int, count: int, seed: int) -> tuple[int, ...]:
    """The first, the last, and random ones between; all of them where there are no more than ``count``."""
    if size <= count:
        return tuple(range(size))
    found = {0, size - 1} if count > 1 else {size - 1}
    step = 0
    while len(found) < count:
        found.add(mix(seed + step) % size)
        step += 1
    return tuple(sorted(found))


def _output_elements(algorithm: Algorithm, case: Case, multiprocessors: int) -> int:
    symbols = symbols_of(algorithm, case, multiprocessors)
    assert symbols is not None
    return sum(elements_of(output, symbols) for output in algorithm.outputs)


# ---- independence


def independent_dims(algorithm: Algorithm) -> list[str]:
    """The independent free dims, in the order of the signature."""
    return [dim.name for dim in algorithm.dims if dim.value is None and _is_independent(dim.name, algorithm)]


def _is_independent(dim: str, algorithm: Algorithm) -> bool:
    if any(d.value is not None and dim in free_symbols(d.value) for d in algorithm.dims):
        return False
    tensors = [param for param in algorithm.params if isinstance(param, Tensor)]
    ranges = [end for param in algorithm.params for end in (param.low, param.high) if end is not None]
    if any(dim in free_symbols(end) for end in ranges):
        return False
    return all(_is_plain(dim, tensor) for tensor in tensors) and all(_keeps(dim, each) for each in algorithm.defs)


def _is_plain(dim: str, tensor: Tensor) -> bool:
    """The dim is at most one storage dim of the tensor, and nothing else of its shape depends on it."""
    alone = set()
    start = 0
    for width in tensor.groups:
        if width == 1 and tensor.shape[start] == Sym(dim):
            alone.add(start)
        start += width
    mentioned = {position for position, extent in enumerate(tensor.shape) if dim in free_symbols(extent)}
    return len(mentioned) <= 1 and mentioned == alone


def _keeps(dim: str, definition: Def) -> bool:
    """The definition computes position ``d`` of the dim from positions ``d`` only, as far as is known."""
    if isinstance(definition.top, Extern):
        return not any(dim in free_symbols(axis.extent) for axis in (*definition.axes, *definition.top.call.over))
    if any(dim in free_symbols(axis.extent) for axis in _mixed(definition.top)):
        return False
    along = [axis for axis in definition.axes if dim in free_symbols(axis.extent)]
    if len(along) > 1 or any(axis.extent != Sym(dim) for axis in along):
        return False
    own = along[0] if along else None
    return all(_reads_keep(dim, own, expr) for expr in top_exprs(definition.top))


def _mixed(top: Top) -> tuple[Axis, ...]:
    """Axes of which the result at one point needs others."""
    match top:
        case Reduce(op=Ranking(into=into), axes=axes):
            return (*axes, into)
        case Reduce(axes=axes):
            return axes
        case Scan(axis=axis):
            return (axis,)
        case _:
            return ()


def _reads_keep(dim: str, own: Axis | None, expr: Expr) -> bool:
    """Reads of what has the dim are at ``own`` there, and ``own`` is used for nothing else."""
    match expr:
        case AxisRef(axis=axis):
            return axis is not own
        case DimRef(value=value):
            return dim not in free_symbols(value)
        case Read(source=source, indices=indices):
            at = _position_of(dim, source)
            rest = [index for position, index in enumerate(indices) if position != at]
            if at is not None:
                index = indices[at]
                if own is None or not (isinstance(index, AxisRef) and index.axis is own):
                    return False
            absent = [] if expr.absent is None else [expr.absent]
            return all(_reads_keep(dim, own, each) for each in (*rest, *absent))
        case _:
            return all(_reads_keep(dim, own, child) for child in children(expr))


def _position_of(dim: str, source: Tensor | Func) -> int | None:
    return next((position for position, extent in enumerate(_extents(source)) if extent == Sym(dim)), None)


def _extents(source: Tensor | Func) -> Iterator[object]:
    if isinstance(source, Tensor):
        yield from source.shape
    else:
        for axis in source.axes:
            yield axis.extent
