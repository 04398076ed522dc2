"""The default schedule: analytic, not tuned, for every algorithm that can be planned.

Every combination of types and every target gets variants that are tried in order: whole rows where the algorithm
reduces along rows, then loops for any length, first with 16-byte accesses under the guard that proves them, last
without a guard. Nothing is taken on trust: each variant is planned for its target, and tiles and pipelines shrink until
the plan fits.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.ir import Algorithm, Reduce
from texpr.math.coverage import unreachable
from texpr.math.expr import TRUE, BoolExpr, TypeIn, conjunction, le
from texpr.math.prove import is_proved
from texpr.plan.build import plan_variant
from texpr.plan.errors import NotLowered, PlanError
from texpr.plan.ir import VariantPlan
from texpr.plan.keyed import by_key, is_by_key
from texpr.plan.matrix import contractions, exact_sums
from texpr.plan.monoids import constant_extent
from texpr.plan.partition import Job, partition
from texpr.plan.ranking import MOST_ROUNDS, MOST_SORTED
from texpr.plan.resolve import variant_facts
from texpr.plan.scan_tiles import scanned
from texpr.plan.tiling import (
    Frame,
    elementwise,
    in_parts,
    looped,
    reads_rows_again,
    rows_extent,
    sorts_rows,
    sorts_rows_of,
    split_axis,
    whole_rows,
)
from texpr.plan.wide import wide_guard
from texpr.schedule.base import Map
from texpr.schedule.records import Kernel, Schedule, Variant
from texpr.targets import TARGETS, Target, target_named

_SHORT_ROW = 1024  # points of a row that one warp holds: 32 per lane
_LONG_ROW = 8192  # points of a row that a program of eight warps holds: 32 per thread


def default_schedule(
    definition: AlgorithmDef, targets: Sequence[str], statics: Mapping[str, int] | None = None
) -> Schedule:
    """A schedule of ``definition`` for all its types and all sizes on ``targets``.

    ``statics`` are compile-time values that differ from the signature's. Raises a ``PlanError`` if the algorithm needs
    something that has no lowering yet, or that does not fit a target at any size.
    """
    chosen = list(dict.fromkeys(target for target in map(target_named, targets) if target is not None))
    drafts: list[_Draft] = []
    for binding in definition.bindings():
        algorithm = definition.bind(binding, statics or {})
        known: dict[tuple[object, ...], list[_Draft]] = {}
        for target in chosen:
            units = (target.has_fp8_mma, target.has_wgmma)
            limits = (target.shared_limit, units, target.registers_per_thread, target.max_threads)
            if limits not in known:
                known[limits] = _reachable(list(_drafts(algorithm, target)), algorithm, target)
            drafts += [dataclasses.replace(draft, target=target.name) for draft in known[limits]]
    return Schedule(algorithm=definition.name, variants=tuple(_merged(drafts, definition, chosen)))


@dataclass(frozen=True, slots=True)
class _Draft:
    """One variant of one binding on one target. ``rank`` orders the kinds of variants."""

    rank: int
    name: str
    types: tuple[tuple[str, str], ...]
    target: str
    guard: BoolExpr
    kernels: tuple[Kernel, ...]


def _drafts(algorithm: Algorithm, target: Target) -> Iterator[_Draft]:
    """The variants of a binding on a target, the most special first."""
    types = tuple((name, str(dtype)) for name, dtype in algorithm.types)
    whole, looped = (partition(algorithm, target, whole=flag) for flag in (True, False))
    found = [row for job in whole if not is_by_key(job) and (row := rows_extent(job, TRUE)) is not None]
    rows = {(algorithm.with_room(extent), points) for extent, points in found}
    bounds = [_SHORT_ROW, _LONG_ROW] if any(reads_rows_again(job) for job in whole) else [_SHORT_ROW]
    sorting = any(sorts_rows(job) for job in whole)
    if sorting:
        bounds = [MOST_SORTED]
        _check_sorted(whole, _frame(algorithm, target, TRUE, wide=False))
    sums = [sum_ for job in looped for sum_ in exact_sums(job, _frame(algorithm, target, TRUE, wide=False))]
    exact = conjunction(*dict.fromkeys(sums))
    rank = 0
    for bound in bounds if rows else []:
        short = conjunction(*(le(extent, bound // points) for extent, points in sorted(rows, key=str)))
        guard = _wide(algorithm, target, whole, conjunction(exact, short), bound)
        fitting = _fitting(algorithm, target, whole, _frame(algorithm, target, guard, wide=True, bound=bound))
        yield _Draft(rank, f"rows_{bound}", types, target.name, guard, fitting[0])
        rank += 1
    if sorting and rank:  # there is no loop that sorts rows of any length
        fitting = _fitting(algorithm, target, whole, _frame(algorithm, target, short, wide=False, bound=bounds[0]))
        yield _Draft(rank, "short", types, target.name, short, fitting[0])
        return
    guard = _wide(algorithm, target, looped, exact, 0)
    if guard is not exact:
        fitting = _fitting(algorithm, target, looped, _frame(algorithm, target, guard, wide=True))
        yield _Draft(rank, "aligned", types, target.name, guard, fitting[0])
    if exact is not TRUE:
        fitting = _fitting(algorithm, target, looped, _frame(algorithm, target, exact, wide=False))
        yield _Draft(rank + 1, "exact", types, target.name, exact, fitting[0])
    fitting = _fitting(algorithm, target, looped, _frame(algorithm, target, TRUE, wide=False))
    yield _Draft(rank + 2, "any", types, target.name, TRUE, fitting[0])


def _check_sorted(jobs: Sequence[Job], frame: Frame) -> None:
    """Rows that are sorted fit in registers: no loop sorts longer ones."""
    for job in jobs:
        for definition in job.held:
            top = definition.top
            if not isinstance(top, Reduce) or not sorts_rows_of(definition):
                continue
            for axis in top.axes:
                if not is_proved(le(axis.extent, MOST_SORTED), frame.facts):
                    name = definition.name.partition(".")[0]  # of a rank that is kept beside others
                    bounded = f"require: {axis.extent} <= {MOST_SORTED}, " if constant_extent(axis) is None else ""
                    raise NotLowered(
                        what=f"a default schedule of {name}, which sorts along {axis.name}, where rows may "
                        f"have more than {MOST_SORTED} keys,",
                        instead=f"{bounded}at most {MOST_ROUNDS} ranks, or a sort in passes of one digit each, "
                        "written by hand (docs/language.md)",
                        at=definition.location,
                    )


def _wide(algorithm: Algorithm, target: Target, jobs: Sequence[Job], guard: BoolExpr, bound: int) -> BoolExpr:
    """``guard`` and what makes the accesses of the tiles chosen under it 16 bytes wide."""
    frame = _frame(algorithm, target, guard, wide=True, bound=bound)
    _, plan = _fitting(algorithm, target, jobs, frame)
    return conjunction(guard, wide_guard(plan, algorithm, frame.facts))


def _frame(algorithm: Algorithm, target: Target, guard: BoolExpr, *, wide: bool, bound: int = 0) -> Frame:
    variant = Variant(name="default", target=(target.name,), when=guard)
    return Frame(target, variant_facts(algorithm, variant, target), guard, wide, bound, algorithm.rooms)


def _fitting(
    algorithm: Algorithm, target: Target, jobs: Sequence[Job], frame: Frame
) -> tuple[tuple[Kernel, ...], VariantPlan]:
    """The first candidates of all jobs that can be planned together: whichever kernel is refused tries its next one."""
    named = zip(jobs, _kernel_names(algorithm, jobs), strict=True)
    rest = [_candidates(job, name, frame) for job, name in named]
    chosen = [next(one) for one in rest]
    while True:
        kernels = tuple(kernel for group in chosen for kernel in group)
        variant = Variant(name="default", target=(target.name,), when=frame.guard, kernels=kernels)
        try:
            return kernels, plan_variant(algorithm, variant, target)
        except PlanError as error:
            refused = [n for n, group in enumerate(chosen) if any(kernel.name == error.kernel for kernel in group)]
            for n in refused or range(len(jobs)):
                following = next(rest[n], None)
                if following is None:
                    raise
                chosen[n] = following


def _candidates(job: Job, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """Kernel records for a job, best first. Several records together: a reduction in pieces and their combination."""
    if is_by_key(job):
        yield from by_key(job, name)
    if any(d in job.sides for d in job.held):
        yield from contractions(job, name, frame)
    elif job.scan is not None:
        yield from scanned(job, job.scan, name, frame)
    elif not job.held:
        yield from elementwise(job, name, frame)
    elif frame.bound and rows_extent(job, frame.guard) is not None:
        yield from whole_rows(job, name, frame)
    elif split_axis(job, frame.guard) is not None:
        yield from in_parts(job, name, frame)
    else:
        yield from looped(job, name, frame)


def _kernel_names(algorithm: Algorithm, jobs: Sequence[Job]) -> list[str]:
    """A name for the kernel of every job, and room for the ``_parts`` of each."""
    if len(jobs) == 1:
        return [algorithm.name]
    taken: list[str] = []
    for job in jobs:
        plain = job.writes[0].name.replace(".", "_")
        options = (plain if n == 1 else f"{plain}_{n}" for n in itertools.count(1))
        used = {name for other in taken for name in (other, f"{other}_parts")}
        taken.append(next(name for name in options if not {name, f"{name}_parts"} & used))
    return taken


def _reachable(drafts: list[_Draft], algorithm: Algorithm, target: Target) -> list[_Draft]:
    """Without the variants whose guard holds only where an earlier one does."""
    facts = variant_facts(algorithm, Variant(name="default", target=(target.name,)), target)
    never = unreachable([draft.guard for draft in drafts], facts)
    return [draft for n, draft in enumerate(drafts) if n not in never]


# ---- drafts to variants ------------------------------------------------------------------------------------------


def _merged(drafts: Sequence[_Draft], definition: AlgorithmDef, chosen: Sequence[Target]) -> Iterator[Variant]:
    """One variant for all types and targets that have the same kernels under the same guard."""
    groups: dict[tuple[int, str, BoolExpr, tuple[Kernel, ...]], dict[tuple[tuple[str, str], ...], list[str]]] = {}
    for draft in drafts:
        key = (draft.rank, draft.name, draft.guard, draft.kernels)
        groups.setdefault(key, {}).setdefault(draft.types, []).append(draft.target)
    entries: list[tuple[_Draft, tuple[str, ...], list[dict[str, str]]]] = []
    for (rank, name, guard, kernels), targets_of in groups.items():
        shared: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for types, served in targets_of.items():
            shared.setdefault(tuple(t for t in TARGETS if t in served), []).append(dict(types))
        draft = _Draft(rank, name, (), "", guard, kernels)
        entries += [(draft, targets, bindings) for targets, bindings in shared.items()]
    taken: set[str] = set()
    for draft, targets, bindings in sorted(entries, key=lambda entry: entry[0].rank):
        for only, condition in _restrictions(bindings, definition.bindings()):
            label = _label(draft.name, only, condition, targets if len(targets) < len(chosen) else (), taken)
            taken.add(label)
            guard = conjunction(condition, draft.guard)
            yield Variant(name=label, target=targets, when=guard, types=only, kernels=draft.kernels)


def _restrictions(
    bindings: Sequence[Mapping[str, str]], every: Sequence[Mapping[str, str]]
) -> list[tuple[Map[str, DType], BoolExpr]]:
    """How a variant says which types it is for: not at all, by a condition on the one type variable, or one variant for
    every combination."""
    if len(bindings) == len(every):
        return [(Map(), TRUE)]
    if len(bindings[0]) == 1:
        (variable,) = bindings[0]
        return [(Map(), TypeIn(variable, tuple(binding[variable] for binding in bindings)))]
    return [(Map.of({name: DType(text) for name, text in binding.items()}), TRUE) for binding in bindings]


def _label(
    name: str, types: Mapping[str, DType], condition: BoolExpr, targets: Sequence[str], taken: Collection[str]
) -> str:
    """The name of a variant: its kind, the types that it is for, and the first of its targets, where it is not for
    all."""
    names = condition.names if isinstance(condition, TypeIn) else tuple(str(dtype) for dtype in types.values())
    label = "_".join([name, *names, *targets[:1]])
    return next(text for n in itertools.count(1) if (text := label if n == 1 else f"{label}_{n}") not in taken)
