"""Tile sizes for elementwise kernels and reductions: long runs along the axis that is contiguous in memory, and square
tiles through shared memory where reads and writes run along different axes.

Every function yields kernel records for a job, best first; the default schedule takes the first whose plan fits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from texpr.lang.ir import Axis, BoundaryMode, Def, Func, Monoid, Read, Reduce, Tensor
from texpr.math.bounds import Facts
from texpr.math.expr import BoolExpr, IntExpr, ceildiv, maximum, minimum, substitute
from texpr.math.integer import const, product
from texpr.plan.access import fastest_axis, memory_of
from texpr.plan.inline import axes_of, key_of, reads_of
from texpr.plan.monoids import constant_extent
from texpr.plan.partition import Job, contiguous_axes, is_symbolic, power_of_two
from texpr.plan.ranking import MOST_ROUNDS, rank_axes
from texpr.schedule.base import Map
from texpr.schedule.places import Group, Place, SplitReduction
from texpr.schedule.places import Stage as StageRecord
from texpr.schedule.records import Kernel
from texpr.schedule.words import LoopOf, Memory, Num, Tile
from texpr.targets import Target

WARPS = 4
_RUN = 2048  # elements of an elementwise or reduction tile: 16 per thread of four warps
_SMALLEST = 32  # elements below which no smaller tile is tried
_MANY_READS = 8  # an expression with more reads than this holds more values at a time: half the tile
_BOX = 16  # side of a tile whose reductions nest
_SQUARE = 64  # side of a tile that is read along one axis and written along the other
_FULL_PARTS = 256  # pieces of a reduction that few programs could do otherwise
_COLUMN_PARTS = 64
_COLUMN_PROGRAMS = 512  # programs that the pieces of a column reduction should come to
_MOST_POINTS = 32  # constant points of a row per point of its symbolic extent


@dataclass(frozen=True, slots=True)
class Frame:
    """What tile sizes depend on besides the job. ``wide``: 16-byte accesses are proved. ``bound``: the axes inside a
    program have at most this many points and are covered by one tile; 0 for loops. ``rooms``: the most that dims can be
    that no call knows."""

    target: Target
    facts: Facts
    guard: BoolExpr
    wide: bool
    bound: int = 0
    rooms: Mapping[str, IntExpr] = field(default_factory=dict)


# ---- axes --------------------------------------------------------------------------------------------------------


def memory_reads(job: Job) -> list[Read]:
    """What the job reads from global memory: arguments, and funcs that earlier kernels stored."""
    inside = {func for d in job.held for func in d.funcs} | set(job.writes)
    found = [r for exprs in job.expressions.values() for e in exprs for r in reads_of(e)]
    return [r for r in found if isinstance(r.source, Tensor) or r.source not in inside]


def weights_of(job: Job, guard: BoolExpr) -> dict[Axis, float]:
    """The axes along which the job's reads and writes are contiguous, with their weights."""
    return contiguous_axes(memory_reads(job), job.writes, guard)


def fastest(job: Job, guard: BoolExpr) -> Axis | None:
    """The axis along which most of the job's traffic is contiguous."""
    weights = weights_of(job, guard)
    return max(weights, key=lambda axis: (weights[axis], axis.name), default=None)


def reduced(definitions: Iterable[Def]) -> list[Axis]:
    """The axes that reductions run over, each once."""
    found: dict[Axis, None] = {}
    for definition in definitions:
        if isinstance(definition.top, Reduce):
            found.update(dict.fromkeys(definition.top.axes))
    return list(found)


def _width(job: Job) -> int:
    """1, or 2 where values take two registers."""
    dtypes = [e.dtype for exprs in job.expressions.values() for e in exprs] + [f.dtype for f in job.writes]
    return max(1, max(dtype.compute.bits for dtype in dtypes) // 32)


def fill(order: Sequence[Axis], budget: int, caps: Mapping[Axis, int] | None = None) -> dict[Axis, int]:
    """Tile sizes: every axis in turn takes as much of the budget as it can use."""
    sizes: dict[Axis, int] = {}
    left = budget
    for axis in order:
        size = min(left, power_of_two(axis), (caps or {}).get(axis, left))
        sizes[axis] = size
        left //= size
    return sizes


def named(sizes: Mapping[Axis, int], axes: Iterable[Axis]) -> Map[str, int]:
    """Tile sizes as a schedule spells them."""
    return Map.of({axis.name: sizes[axis] for axis in axes})


def budgets(job: Job, most: int) -> Iterator[int]:
    """Points of a tile to try, the most first: fewer where values are wide or many."""
    reads = max((len(reads_of(e)) for exprs in job.expressions.values() for e in exprs), default=0)
    budget = most // _width(job) // (2 if reads > _MANY_READS else 1)
    while budget >= _SMALLEST:
        yield budget
        budget //= 2


# ---- elementwise -------------------------------------------------------------------------------------------------


def elementwise(job: Job, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """Kernels without reductions: a tile that is long along the contiguous axis."""
    weights = weights_of(job, frame.guard)
    axes = job.programs
    last = axes[-1] if axes else None
    fast = max((a for a in axes if a in weights), key=lambda a: (weights[a], a.name), default=last)
    across = _crossing(job, fast, frame)
    for budget in budgets(job, 2 * _RUN if across else _RUN):
        if across and fast is not None:
            other = across[0][1]
            caps = {fast: _SQUARE, other: max(1, budget // _SQUARE)}
            order = [fast, other, *(a for a in reversed(axes) if a not in (fast, other))]
        else:
            caps = {} if fast is None or len(axes) < 2 else {fast: 256 if len(axes) == 2 else 64}
            order = [*([fast] if fast is not None else []), *(a for a in reversed(axes) if a is not fast)]
        sizes = fill(order, budget, caps)
        kernel = Kernel(name=name, writes=names(job.writes), grid=named(sizes, axes), warps=WARPS)
        if across:
            staged = {tensor: StageRecord(at=Tile(), where=Memory.SHARED) for tensor, _ in across}
            yield (dataclasses.replace(kernel, stage=Map.of(staged)),)
        yield (kernel,)


def _crossing(job: Job, fast: Axis | None, frame: Frame) -> list[tuple[str, Axis]]:
    """Tensors that are contiguous along another axis of the tile than the writes are, with that axis: they go through
    shared memory, so that both sides of global memory are accessed in long runs."""
    found: dict[str, Axis] = {}
    for tensor, reads in by_tensor(memory_reads(job)).items():
        moving = sorted(axes_of(reads[0]), key=lambda a: a.name)
        along = fastest_axis(memory_of(tensor, frame.guard), reads[0], moving)
        single = len({key_of(read) for read in reads}) == 1 and reads[0].boundary.mode is BoundaryMode.NONE
        if along is not None and along is not fast and fast in moving and single and not tensor.optional:
            found[tensor.name] = along
    return [(name, axis) for name, axis in found.items() if axis is next(iter(found.values()))]


def by_tensor(reads: Iterable[Read]) -> dict[Tensor, list[Read]]:
    """The reads of arguments, by argument."""
    found: dict[Tensor, list[Read]] = {}
    for read in reads:
        if isinstance(read.source, Tensor):
            found.setdefault(read.source, []).append(read)
    return found


def names(funcs: Sequence[Func]) -> tuple[str, ...]:
    """What a schedule calls the funcs."""
    return tuple(func.name for func in funcs)


# ---- reductions --------------------------------------------------------------------------------------------------


def rows_extent(job: Job, guard: BoolExpr) -> tuple[IntExpr, int] | None:
    """The one symbolic extent of the axes inside a program, and how many constant points there are for each of its
    own, if the job reduces along contiguous rows: a variant may then cover a row with one tile."""
    if job.nested or job.sides or not job.held or not is_symbolic(job.programs):
        return None
    inside = _inside(job)
    extents = {axis.extent for axis in inside if constant_extent(axis) is None}
    ranks = rank_axes(job.held)
    points = math.prod(power_of_two(a) for a in inside if constant_extent(a) is not None and a not in ranks)
    if len(extents) != 1 or points > _MOST_POINTS or not (fastest(job, guard) in inside or sorts_rows(job)):
        return None
    return next(iter(extents)), points


def _inside(job: Job) -> list[Axis]:
    """The axes inside a program: the inner ones of the writes, and the reduced ones."""
    return list(dict.fromkeys([*job.inner, *reduced(job.reductions)]))


def reads_rows_again(job: Job) -> bool:
    """Whether a row is needed more than once, so that holding it saves memory traffic."""
    return bool(job.inner) or len(job.reductions) > 1


def whole_rows(job: Job, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """Row kernels whose tile covers the row: what is needed more than once stays in registers."""
    found = rows_extent(job, frame.guard)
    assert found is not None
    bound = frame.bound // found[1]
    for rows in (max(1, 2 * _RUN // frame.bound // _width(job)), 1):
        warps = max(WARPS, frame.bound // 1024)
        sizes = fill(list(reversed(job.programs)), rows)
        whole = {a.name: min(bound, power_of_two(a)) for a in _inside(job)}
        yield (
            Kernel(
                name=name, writes=names(job.writes), grid=named(sizes, job.programs), whole=Map.of(whole),
                warps=warps,
                stage=Map.of({t: StageRecord(at=Tile(), where=Memory.REGISTERS) for t in _used_again(job)}),
            ),
        )  # fmt: skip


def _used_again(job: Job) -> list[str]:
    """Tensors that several definitions read at the same point of the tile: loaded once, into registers."""
    users: dict[Tensor, set[Def]] = {}
    keys: dict[Tensor, set[object]] = {}
    for definition, exprs in job.expressions.items():
        for expr in exprs:
            for tensor, reads in by_tensor(reads_of(expr)).items():
                users.setdefault(tensor, set()).add(definition)
                keys.setdefault(tensor, set()).update(key_of(read) for read in reads)
    tile = {*job.inner, *reduced(job.reductions)}
    return [
        tensor.name
        for tensor, definitions in users.items()
        if len(definitions) > 1 and len(keys[tensor]) == 1 and not tensor.optional and _spans(job, tensor, tile)
    ]


def _spans(job: Job, tensor: Tensor, inside: set[Axis]) -> bool:
    read = next(r for r in memory_reads(job) if r.source is tensor)
    return bool(axes_of(read) & inside)


def _loop_sizes(job: Job, frame: Frame, budget: int) -> dict[Axis, int]:
    """Tile sizes for a job whose reductions loop: long runs along the contiguous axis, the rest of the budget
    inside."""
    inside = list(dict.fromkeys([*job.inner, *reduced(job.held)]))
    fast = fastest(job, frame.guard)
    if job.nested:  # a box: lanes along the programs, the outer and the nested loop
        order = [*reversed(job.programs), *reversed(inside)]
        return fill(order, budget, {axis: _BOX for axis in order})
    if fast in inside and fast is not None:
        order = [fast, *(a for a in reversed(inside) if a is not fast), *reversed(job.programs)]
        return fill(order, budget)
    lanes = [*([fast] if fast is not None else []), *(a for a in reversed(job.programs) if a is not fast)]
    caps = {lanes[0]: 64} if lanes else {}
    return fill([*lanes[:1], *reversed(inside), *lanes[1:]], budget, caps)


def looped(job: Job, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """Reductions of any length: a loop for each, and one for outputs over the same axes."""
    for budget in budgets(job, _RUN):
        sizes = _loop_sizes(job, frame, budget)
        fast = fastest(job, frame.guard)
        place = _reduction_places(job, sizes, fast)
        whole = _ranked_whole(job)
        for func in job.writes:
            inner = [axis for axis in job.inner if axis in func.axes and axis not in whole]
            if inner:
                place[func.name] = Place(at=Tile(), loop=named(sizes, inner))
        grid = named(sizes, job.programs)
        kernel = Kernel(
            name=name, writes=names(job.writes), grid=grid, warps=WARPS, place=Map.of(place),
            whole=named(whole, whole),
        )  # fmt: skip
        group = _one_pass(job, place)
        if group is not None:
            rest = {func: record for func, record in place.items() if func not in group.funcs}
            yield (dataclasses.replace(kernel, place=Map.of(rest), online=group),)
        yield (kernel,)


def _one_pass(job: Job, places: Mapping[str, Place]) -> Group | None:
    """All reductions of a job in one pass, if they run over the same points in the same loop. Whether that is exact is
    for the plan to say."""
    tops = [d.top for d in job.reductions if isinstance(d.top, Reduce)]
    found = [places.get(definition.name) for definition in job.reductions]
    if len(tops) < 2 or len(tops) < len(found) or any(top.axes != tops[0].axes for top in tops):
        return None
    loops = {place.loop for place in found if place is not None and place.at == Tile()}
    plain = all(place is not None and place == Place(at=Tile(), loop=place.loop) for place in found)
    if len(loops) != 1 or not plain:
        return None
    return Group(tuple(definition.name for definition in job.reductions), Tile(), next(iter(loops)))


def sorts_rows(job: Job) -> bool:
    """Whether a ranking of the job has more ranks than a loop can find: its rows must be whole."""
    return any(sorts_rows_of(definition) for definition in job.held)


def sorts_rows_of(definition: Def) -> bool:
    """Whether that is so of one definition."""
    return any(power_of_two(axis) > MOST_ROUNDS for axis in rank_axes([definition]))


def _ranked_whole(job: Job) -> dict[Axis, int]:
    """The axes of rankings that one tile must cover: ranks, and the keys where there are many ranks."""
    whole: dict[Axis, int] = {}
    for definition in job.held:
        for into in rank_axes([definition]):
            whole[into] = power_of_two(into)
            if whole[into] > MOST_ROUNDS:
                whole.update({axis: power_of_two(axis) for axis in reduced([definition])})
    return whole


def _reduction_places(job: Job, sizes: Mapping[Axis, int], fast: Axis | None) -> dict[str, Place]:
    """The loops of the held reductions, the contiguous axis innermost; nested ones inside their reader's innermost
    loop."""
    place: dict[str, Place] = {}
    for definition in job.held:
        top = definition.top
        assert isinstance(top, Reduce)
        whole = _ranked_whole(job)
        loops = sorted((axis for axis in top.axes if axis not in whole), key=lambda axis: axis is fast)
        if not loops:
            continue
        reader = job.nested.get(definition)
        at = Tile() if reader is None else LoopOf(reader.name, _innermost(reader, fast).name)
        place[definition.name] = Place(at=at, loop=named(sizes, loops))
    return place


def _innermost(definition: Def, fast: Axis | None) -> Axis:
    top = definition.top
    assert isinstance(top, Reduce)
    return sorted(top.axes, key=lambda axis: axis is fast)[-1]


# ---- reductions in pieces ----------------------------------------------------------------------------------------


def split_axis(job: Job, guard: BoolExpr) -> Axis | None:
    """The reduction axis to divide among programs where the kept axes alone give too few of them: none that is known
    only at launch, or columns, of which one program takes many."""
    top = [d.top for d in job.reductions if isinstance(d.top, Reduce)]
    if not top or rank_axes(job.held) or job.inner or job.nested or any(t.axes != top[0].axes for t in top):
        return None
    if any(isinstance(t.op, Monoid) and not t.op.commutative and len(t.axes) > 1 for t in top):
        return None
    if len({d.axes for d in job.reductions}) > 1 or any(_reads_any(job, d, job.reductions) for d in job.reductions):
        return None
    fast = fastest(job, guard)
    if is_symbolic(job.programs) and fast not in job.programs:
        return None
    long = [axis for axis in top[0].axes if constant_extent(axis) is None]
    return next((axis for axis in long if axis.ragged is None), None)  # pieces of a ragged one would cut all groups


def _reads_any(job: Job, definition: Def, others: Sequence[Def]) -> bool:
    funcs = {func for other in others for func in other.funcs}
    return any(read.source in funcs for e in job.expressions[definition] for read in reads_of(e))


def in_parts(job: Job, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """Reductions in pieces, one program each, and a second kernel that combines the pieces."""
    axis = split_axis(job, frame.guard)
    assert axis is not None
    fast = fastest(job, frame.guard)
    for budget in budgets(job, _RUN):
        sizes = _loop_sizes(job, frame, budget)
        columns = is_symbolic(job.programs)
        most = _COLUMN_PARTS if columns else _FULL_PARTS
        if columns:
            tiles = product(ceildiv(substitute(a.extent, frame.rooms), sizes[a]) for a in job.programs)
            value = minimum(maximum(const(_COLUMN_PROGRAMS) // maximum(tiles, 1), 1), most)
        else:
            value = minimum(maximum(ceildiv(substitute(axis.extent, frame.rooms), sizes[axis]), 1), most)
        of = tuple(d.name for d in job.reductions)
        parts = tuple(f"{func.name}.part" for d in job.reductions for func in d.funcs)
        grid = {**named(sizes, job.programs), f"{axis.name}.part": 1}
        place = {f"{n}.part": p for n, p in _reduction_places(job, sizes, fast).items()}
        pieces = Kernel(
            name=f"{name}_parts", writes=parts, grid=Map.of(grid), warps=WARPS, place=Map.of(place),
            split_reduction=SplitReduction(of=of, over=axis.name, parts=Num(value=value, max=most)),
        )  # fmt: skip
        last = fill(list(reversed(job.programs)), max(1, min(budget, _RUN) // most))
        combine = Kernel(
            name=name, writes=names(job.writes), grid=named(last, job.programs), warps=WARPS,
            whole=Map.of({f"{axis.name}.part": most}),
        )  # fmt: skip
        yield pieces, combine
