"""Which calls to make: few that cover all pairs of interesting choices and still reach the variant they are meant for.

Choices are the sizes of each dim (``tiles.py``), strides, integer scalars, alignment, absent optional tensors, aliasing
and the kind of values. Calls are found greedily: of some random ones, the call that covers most pairs of choices not
covered yet. All randomness comes from a seed, so a check is the same every time.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from texpr.checking.calls import (
    BOUNDARY,
    Candidate,
    Case,
    Values,
    chosen,
    integer_choices,
    is_legal,
    symbols_of,
)
from texpr.checking.tiles import dim_sizes, tile_sizes
from texpr.lang.ir import Algorithm, Axis, Def, Op, OpName, Ranking, Reduce, ReduceOp, Scalar, Tensor
from texpr.lang.reference import storage_shape
from texpr.math.bounds import Facts
from texpr.math.expr import FALSE, Atom, AtomKind, BoolExpr, atoms_of, conjunction, evaluate, negation, substitute
from texpr.math.model import Model, find_model
from texpr.schedule.records import Variant

_TRIES: Final = 120
"""Random calls looked at for each one chosen."""
_REFERENCE_PER_WORK: Final = 64
"""Points of what hand-written and inverted kernels compute, which only the reference does point by point, that cost as
much as one point of anything else."""
_PRODUCTS_PER_WORK: Final = 16
"""Multiply-adds of a contraction that cost as much as one point of anything else."""

_COSTLY: Final = 3
"""So many calls of a variant may cost more than others, if none of its calls that compute something would cost less."""
_EMPTY: Final = 3
"""One call out of so many may have an axis without a point."""


class Alignment(Enum):
    """How tensors are aligned beyond what the variant's guard asks for."""

    LEAST = "least"  # to their elements only, or to what the guard asks and not a byte more
    FULL = "full"  # to 256 bytes
    MIXED = "mixed"  # every other tensor as in LEAST


class Step(Enum):
    """A free stride relative to the row that it steps over."""

    DENSE = "dense"
    ODD = "odd"
    ROUND = "round"


class Filled(Enum):
    """What an input says that counts a dim of the device, relative to the room there is."""

    NONE = "none"
    ONE = "one"
    SOME = "some"
    ALL = "all"
    MORE = "more"  # which counts as all
    NEGATIVE = "negative"  # which counts as none


Choice = int | str | bool | Alignment | Step | Values | Filled
Choices = Mapping[str, Choice]
"""Factor to option: what a call was made from, and what coverage is counted in."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A variant to be reached: ``candidates`` are the variants of its target in order, ``facts`` what every call
    satisfies."""

    algorithm: Algorithm
    record: Variant
    wanted: Candidate
    candidates: Sequence[Candidate]
    facts: Facts
    multiprocessors: int
    most_work: int


def choose_cases(problem: Problem, count: int, seed: int) -> list[Case]:
    """At most ``count`` calls that reach the wanted variant; none if no such call was found."""
    factors = _factors(problem)
    rng = random.Random(seed)
    uncovered = {
        frozenset(((a, x), (b, y)))
        for a, b in itertools.combinations(factors, 2)
        for x in factors[a]
        for y in factors[b]
    } or {frozenset(((a, x),)) for a in factors for x in factors[a]}
    found: list[Case] = []
    sizes = _positive_sizes(problem, factors)
    costly = _roomy(problem, sizes, factors)
    while len(found) < count:
        best: tuple[int, Case, set[frozenset[tuple[str, Choice]]]] | None = None
        within = costly if sum(_work(problem, case) > problem.most_work for case in found) < _COSTLY else problem
        full = sum(_is_empty(problem, case) for case in found) * _EMPTY >= count
        for tried in _tries(factors, uncovered, rng):
            choices = _affordable(within, sizes, tried)
            case = None if choices is None else _reaching(within, choices)
            if choices is None or case is None or (full and _is_empty(problem, case)):
                continue
            covered = {frozenset(pair) for pair in itertools.combinations(choices.items(), 2)} & uncovered
            if best is None or len(covered) > best[0]:
                best = len(covered), case, covered
        if best is None or (best[0] == 0 and found):
            break
        found.append(best[1])
        uncovered -= best[2]
    return found or _by_model(problem)


def _tries(
    factors: Mapping[str, tuple[Choice, ...]], uncovered: Iterable[frozenset[tuple[str, Choice]]], rng: random.Random
) -> Iterable[dict[str, Choice]]:
    """Random choices, most of them with a pair that is not covered yet."""
    pairs = sorted(uncovered, key=_sorted_text)
    for number in range(_TRIES):
        choices = {name: rng.choice(options) for name, options in factors.items()}
        if pairs and number % 4:
            choices |= dict(rng.choice(pairs))
        yield choices


def _affordable(problem: Problem, sizes: Mapping[str, Sequence[int]], choices: Choices) -> Choices | None:
    """The choices, with dims made smaller, the largest first, until a call of them is small enough. Guards often demand
    several large dims at once; few random calls that have them are affordable."""
    choices = _shrunk(problem, sizes, choices, problem.most_work)
    case = _case(problem, choices)
    return None if case is not None and _work(problem, case) > problem.most_work else choices


def _shrunk(problem: Problem, sizes: Mapping[str, Sequence[int]], choices: Choices, work: int) -> Choices:
    """The choices, with dims made smaller, the largest first, until a call costs no more, or no dim can be smaller."""
    while True:
        case = _case(problem, choices)
        if case is None or _work(problem, case) <= work:
            return choices
        for name in sorted(sizes, key=lambda name: -_number(choices[name])):
            smaller = [size for size in sizes[name] if size < _number(choices[name])]
            if smaller:
                choices = {**choices, name: smaller[-1]}
                break
        else:
            return choices


def _roomy(problem: Problem, sizes: Mapping[str, Sequence[int]], factors: Mapping[str, tuple[Choice, ...]]) -> Problem:
    """The problem, with room for calls of two tiles if one tile of every axis is as much as a call may be."""
    choices = {name: max(sizes[name]) if sizes.get(name) else options[0] for name, options in factors.items()}
    case = _case(problem, _shrunk(problem, sizes, choices, 0))
    room = 0 if case is None else 2 * _work(problem, case)
    return problem if room <= problem.most_work else replace(problem, most_work=room)


def _positive_sizes(problem: Problem, factors: Mapping[str, tuple[Choice, ...]]) -> dict[str, list[int]]:
    """Per dim the sizes, ascending and without 0, at which the guard can hold, whatever the other dims are."""

    def may_be(dim: str, size: int) -> bool:
        return substitute(problem.wanted.guard, {dim: size}) is not FALSE

    dims = {name: sorted(map(_number, options)) for name, options in factors.items() if name.startswith("dim ")}
    return {
        name: [size for size in options if size > 0 and may_be(name.removeprefix("dim "), size)]
        for name, options in dims.items()
    }


def _sorted_text(pair: frozenset[tuple[str, Choice]]) -> list[str]:
    return sorted(f"{name}={option}" for name, option in pair)


def _factors(problem: Problem) -> dict[str, tuple[Choice, ...]]:
    algorithm = problem.algorithm
    factors: dict[str, tuple[Choice, ...]] = {
        f"dim {name}": sizes
        for name, sizes in dim_sizes(algorithm, problem.record, problem.wanted.guard, problem.facts).items()
    }
    for param in algorithm.params:
        match param:
            case Tensor():
                if param.optional:
                    factors[f"present {param.name}"] = (True, False)
                if param.may_alias is not None:
                    factors[f"aliased {param.name}"] = (False, True)
                for dim in param.strided:
                    factors[f"stride {param.name}_stride_{dim}"] = tuple(Step)
            case Scalar():
                if param.dtype.is_int:
                    factors[f"scalar {param.name}"] = (0, 1, 2)
    inputs = {tensor.name for tensor in algorithm.inputs}
    for count in algorithm.counts:
        if count.source in inputs:
            factors[f"count {count.source}"] = tuple(Filled)
    factors["alignment"] = tuple(Alignment)
    if any(param.dtype.is_float for param in algorithm.params):
        # Callers keep NaN and infinities away from what is assumed to be finite.
        special = () if problem.record.assume else (Values.SPECIAL,)
        factors["values"] = (Values.NORMAL, Values.NORMAL, Values.WIDE, *special)
    return factors


def _reaching(problem: Problem, choices: Choices) -> Case | None:
    """The call that these choices make, if it is legal, small enough and given to the wanted variant."""
    case = _case(problem, choices)
    symbols = None if case is None else symbols_of(problem.algorithm, case, problem.multiprocessors)
    if case is None or symbols is None or not is_legal(problem.algorithm, case, symbols):
        return None
    if work_of(problem.algorithm, problem.record, symbols) > problem.most_work:
        return None
    return case if chosen(problem.candidates, case, symbols) == problem.wanted else None


def _case(problem: Problem, choices: Choices) -> Case | None:
    algorithm = problem.algorithm
    dims = {name: _number(choices[f"dim {name}"]) for name in (d.name for d in algorithm.dims if d.value is None)}
    bare = Case(dims, {}, {}, {}, frozenset(), frozenset(), Values.NORMAL)
    symbols = symbols_of(algorithm, bare, problem.multiprocessors)
    if symbols is None:
        return None
    tensors = [param for param in algorithm.params if isinstance(param, Tensor)]
    alignment = choices["alignment"]
    absent = frozenset(t.name for t in tensors if t.optional and not choices[f"present {t.name}"])
    aliased = frozenset(t.name for t in tensors if t.may_alias is not None and choices[f"aliased {t.name}"])
    offsets = {
        tensor.name: 0
        if alignment is Alignment.FULL or (alignment is Alignment.MIXED and number % 2)
        else _least_offset(tensor, problem.wanted.guard)
        for number, tensor in enumerate(tensors)
    }
    strides = _strides(tensors, symbols, choices)
    for tensor in tensors:
        if tensor.name in aliased and tensor.may_alias is not None:  # the very same memory
            offsets[tensor.name] = offsets[tensor.may_alias]
            strides |= {f"{tensor.name}_stride_{d}": strides[f"{tensor.may_alias}_stride_{d}"] for d in tensor.strided}
    integers = {
        param.name: (options := integer_choices(param, symbols))[
            _number(choices[f"scalar {param.name}"]) % len(options)
        ]
        for param in algorithm.params
        if isinstance(param, Scalar) and param.dtype.is_int
    }
    style = choices.get("values", Values.NORMAL)
    assert isinstance(style, Values)
    counts = {
        count.source: _count(choices[f"count {count.source}"], evaluate(count.room, symbols), symbols)
        for count in algorithm.counts
        if f"count {count.source}" in choices
    }
    return Case(dims, strides, integers, offsets, absent, aliased, style, counts)


def _count(choice: Choice, room: int, symbols: Mapping[str, int]) -> int:
    """The number that an input holds. Somewhere in between differs from call to call."""
    some = room * (1 + sum(symbols.values()) % 7) // 8
    match choice:
        case Filled.NONE:
            return 0
        case Filled.ONE:
            return min(1, room)
        case Filled.SOME:
            return some
        case Filled.ALL:
            return room
        case Filled.MORE:
            return room + 3
        case _:
            return -2


def _number(choice: Choice) -> int:
    assert isinstance(choice, int)
    return choice


def _least_offset(tensor: Tensor, guard: BoolExpr) -> int:
    """The smallest address past a boundary that satisfies the ``aligned`` conditions of the guard on this tensor."""
    asked = [
        atom.number or 1
        for atom in atoms_of(guard)
        if isinstance(atom, Atom) and atom.kind is AtomKind.ALIGNED and atom.names == (tensor.name,)
    ]
    return max([tensor.dtype.bytes, *asked]) % BOUNDARY


def _strides(tensors: Sequence[Tensor], symbols: Mapping[str, int], choices: Choices) -> dict[str, int]:
    found: dict[str, int] = {}
    for tensor in tensors:
        extents = storage_shape(tensor.shape, tensor.groups, symbols)
        dense = 1
        for dim in reversed(range(len(extents))):
            stride = dense
            name = f"{tensor.name}_stride_{dim}"
            if dim in tensor.strided:
                step = choices[f"stride {name}"]
                stride = dense + 3 if step is Step.ODD else dense // 64 * 64 + 64 if step is Step.ROUND else dense
                found[name] = stride
            dense = stride * extents[dim]
    return found


def _work(problem: Problem, case: Case) -> int:
    """What a call costs; nothing if it is none."""
    symbols = symbols_of(problem.algorithm, case, problem.multiprocessors)
    return 0 if symbols is None else work_of(problem.algorithm, problem.record, symbols)


def _is_empty(problem: Problem, case: Case) -> bool:
    """Whether some definition has an axis without a point."""
    symbols = symbols_of(problem.algorithm, case, problem.multiprocessors) or {}
    axes = [axis for definition in problem.algorithm.defs for axis in _axes_of_work(definition)]
    return any(evaluate(axis.extent, symbols) == 0 for axis in axes)


def work_of(algorithm: Algorithm, record: Variant, symbols: Mapping[str, int]) -> int:
    """What a call costs, in points computed: extents rounded up to tiles, multiplied over the axes of each
    definition."""
    tiles = {name: max(sizes) for name, sizes in tile_sizes(record).items()}
    by_hand = {name for kernel in record.kernels if kernel.extern is not None for name in kernel.writes}
    by_hand |= {name for kernel in record.kernels for name, place in kernel.place.items() if place.invert}
    total = 0
    for definition in algorithm.defs:
        points = 1
        for axis in _axes_of_work(definition):
            tile = tiles.get(axis.name, 1)
            points *= -(-evaluate(axis.extent, symbols) // tile) * tile
        if any(func.name in by_hand for func in definition.funcs):
            points //= _REFERENCE_PER_WORK
        total += points // _PRODUCTS_PER_WORK if _is_contraction(definition) else points
    return total


def _axes_of_work(definition: Def) -> tuple[Axis, ...]:
    """The axes over which points are computed; a ranking takes every key once, whatever the number of ranks."""
    top = definition.top
    if not isinstance(top, Reduce):
        return definition.axes
    made = top.op.into if isinstance(top.op, Ranking) else None
    return (*(axis for axis in definition.axes if axis is not made), *top.axes)


def _is_contraction(definition: Def) -> bool:
    top = definition.top
    if not isinstance(top, Reduce) or top.op is not ReduceOp.SUM:
        return False
    return isinstance(top.exprs[0], Op) and top.exprs[0].name is OpName.MUL


def _by_model(problem: Problem) -> list[Case]:
    """A call found by solving the guards, where none was found by trying sizes."""
    before = [c.guard for c in problem.candidates if c.position < problem.wanted.position]
    model = find_model(problem.facts, conjunction(*(negation(guard) for guard in before)), problem.wanted.guard)
    if not isinstance(model, Model):
        return []
    factors = _factors(problem)
    for alignment in Alignment:
        choices = {name: options[0] for name, options in factors.items()} | {"alignment": alignment}
        choices |= {name: model.values[name.removeprefix("dim ")] for name in factors if name[4:] in model.values}
        case = _reaching(problem, choices)
        if case is not None:
            return [case]
    return []
