"""Which kernels an algorithm falls into when nobody says so: the first half of the default schedule.

A *sink* is a func that goes to global memory: every output, and every func that cannot stay on chip because it is read
at other points than its own, or by kernels with other axes. Sinks that run over the same axes and share reductions
share a kernel. All other funcs are inlined, and the reductions among them held where they are used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from texpr.lang.ir import (
    Algorithm,
    Axis,
    AxisRef,
    BoundaryMode,
    Def,
    Expr,
    Func,
    Read,
    Reduce,
    Scan,
    Tensor,
    components,
    top_exprs,
)
from texpr.math.expr import TRUE, BoolExpr
from texpr.plan.access import fastest_axis, memory_of
from texpr.plan.contraction import match_dot
from texpr.plan.extern import check_externs
from texpr.plan.inline import axes_of, inline, plain_read, reads_of
from texpr.plan.ir import Dot
from texpr.plan.monoids import constant_extent, expanded, is_small
from texpr.plan.ranking import rank_axes
from texpr.schedule.places import Mma
from texpr.targets import Target

_LEAST_SIDE = 8  # rows, columns and steps below which a sum of products is not worth a contraction
_TRIAL_SIZE = 64  # tile size that stands for any symbolic extent when the sides of a contraction are looked for


@dataclass(frozen=True, slots=True)
class Sides:
    """How the kept axes of a contraction divide: ``batch`` axes occur in both operands and get tiles of one."""

    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    cols: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What one kernel does.

    Every combination of tiles of ``programs`` is a program; ``inner`` are the other axes of the written funcs. ``held``
    are the reductions kept on chip, in definition order; those in ``nested`` are computed inside the loop of another
    one. ``expressions`` are what the kernel evaluates, inlined, by definition.
    """

    writes: tuple[Func, ...]
    held: tuple[Def, ...]
    nested: Mapping[Def, Def]
    programs: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    sides: Mapping[Def, Sides]
    expressions: Mapping[Def, tuple[Expr, ...]]

    @property
    def scan(self) -> Def | None:
        """The scan that the job stores; it stores nothing else."""
        return next((d for d in self.expressions if isinstance(d.top, Scan)), None)

    @property
    def reductions(self) -> tuple[Def, ...]:
        """The held reductions that are computed at the level of the tile."""
        return tuple(d for d in self.held if d not in self.nested)


def partition(algorithm: Algorithm, target: Target, *, whole: bool) -> tuple[Job, ...]:
    """The kernels of an algorithm in launch order. ``whole``: axes inside a program are covered by one tile, so that
    elementwise outputs over them may be read again in the same kernel. Raises ``ExternNeeded``."""
    check_externs(algorithm, None)
    stored = {func for definition in algorithm.defs for func in definition.funcs if func.output is not None}
    scans = [definition for definition in algorithm.defs if isinstance(definition.top, Scan)]
    read = {read.source for d in algorithm.defs for expr in top_exprs(d.top) for read in reads_of(expr)}
    stored |= {func for definition in scans for func in definition.funcs if func in read}
    while True:
        view = View(algorithm, target, frozenset(stored))
        more = _first_to_store(view, whole)
        if more is None:
            return tuple(_job(view, group) for group in _groups(view, whole))
        wanted = {func for func in view.definition(more).funcs if func in read} - stored
        assert wanted, f"{more.name} cannot stay on chip, and nothing of it is left to be stored"
        stored |= wanted


# ---- looking at the algorithm ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edge:
    """``reader`` reads ``func``; ``plain``: exactly at the func's own axes."""

    reader: Def
    func: Func
    plain: bool


class View:
    """An algorithm in which ``stored`` funcs are in memory, heavy reductions are held, and the rest is inlined."""

    def __init__(self, algorithm: Algorithm, target: Target, stored: frozenset[Func]) -> None:
        self.algorithm = algorithm
        self.stored = stored
        self._edges: dict[Def, list[Edge]] = {}
        read_again = {
            read.source for d in algorithm.defs for expr in top_exprs(d.top) for read in reads_of(expr)
        }  # fmt: skip
        self.sides: dict[Def, Sides] = {}
        self.heavy: set[Def] = set()
        for definition in algorithm.defs:
            if isinstance(definition.top, Reduce):
                self.heavy.add(definition)  # until its inlined summand is known, it is kept
        for definition in algorithm.defs:
            if definition not in self.heavy:
                continue
            sides = contraction_sides(definition, self.expressions(definition), target)
            if sides is not None:
                self.sides[definition] = sides
            elif is_small(definition) and not any(f in stored and f in read_again for f in definition.funcs):
                self.heavy.discard(definition)

    def definition(self, func: Func) -> Def:
        return self.algorithm.definition(func)

    def keep(self, func: Func) -> bool:
        return func in self.stored or self.algorithm.definition(func) in self.heavy

    def body_of(self, func: Func) -> tuple[Def, Expr]:
        definition = self.algorithm.definition(func)
        component = definition.funcs.index(func)
        if isinstance(definition.top, Reduce):
            return definition, expanded(definition)[component]
        return definition, components(definition.top)[component]

    def expressions(self, definition: Def) -> tuple[Expr, ...]:
        """The right-hand side (guard last), inlined."""
        top = definition.top
        if isinstance(top, Reduce) and definition not in self.heavy:
            return tuple(inline(expr, self.keep, self.body_of) for expr in expanded(definition))
        return tuple(inline(expr, self.keep, self.body_of) for expr in top_exprs(top))

    def edges(self, definition: Def) -> list[Edge]:
        """The kept funcs that a definition reads."""
        if definition in self._edges:
            return self._edges[definition]
        found: dict[tuple[Func, bool], Edge] = {}
        for expr in self.expressions(definition):
            for read in reads_of(expr):
                if isinstance(read.source, Func):
                    plain = _is_plain(read, read.source.axes)
                    found[read.source, plain] = Edge(definition, read.source, plain)
        self._edges[definition] = list(found.values())
        return self._edges[definition]

    def cluster(self, sink: Def) -> list[Def]:
        """The sink and, transitively, the held reductions that it needs; in definition order."""
        found = {sink}
        pending = [sink]
        while pending:
            for edge in self.edges(pending.pop()):
                writer = self.definition(edge.func)
                if edge.func not in self.stored and writer not in found:
                    found.add(writer)
                    pending.append(writer)
        return [d for d in self.algorithm.defs if d in found]

    def sinks(self) -> list[Def]:
        """Definitions that go to memory; those that overwrite an argument come last, when everyone has read it."""
        found = [d for d in self.algorithm.defs if any(f in self.stored for f in d.funcs)]
        return sorted(found, key=lambda d: _overwrites(d) is not None and not self._read_later(d))

    def _read_later(self, definition: Def) -> bool:
        return any(edge.func in definition.funcs for d in self.algorithm.defs for edge in self.edges(d))

    def writes(self, sink: Def) -> tuple[Func, ...]:
        return tuple(f for f in sink.funcs if f in self.stored)


def contraction_sides(definition: Def, exprs: Sequence[Expr], target: Target) -> Sides | None:
    """The batch, row and column axes of a contraction: as few batch axes as possible. None if it is none."""
    top = definition.top
    assert isinstance(top, Reduce)
    where = exprs[-1] if top.where is not None else None
    summands = exprs if top.where is None else exprs[:-1]
    for count in range(min(3, len(definition.axes) + 1)):
        for batch in itertools.combinations(definition.axes, count):
            sizes = {a: 1 if a in batch else _trial(a) for a in (*definition.axes, *top.axes)}
            found = match_dot(top, summands, where, sizes, definition.axes, Mma(), target)
            if isinstance(found, Dot):
                sides = (_points(found.rows), _points(found.cols), _points(top.axes))
                return Sides(batch, found.rows, found.cols) if min(sides) >= _LEAST_SIDE else None
    return None


def _trial(axis: Axis) -> int:
    return min(_TRIAL_SIZE, power_of_two(axis))


def power_of_two(axis: Axis) -> int:
    """The smallest power of two that covers a constant extent; a large one for a symbolic extent."""
    extent = constant_extent(axis)
    return 1 << 20 if extent is None else 1 << max(0, extent - 1).bit_length()


def _points(axes: Iterable[Axis]) -> int:
    total = 1
    for axis in axes:
        total *= min(1 << 10, power_of_two(axis))
    return total


def _is_plain(read: Read, axes: tuple[Axis, ...]) -> bool:
    if read.boundary.mode is not BoundaryMode.NONE:
        return False
    pairs = zip(read.indices, axes, strict=True)
    return all(isinstance(index, AxisRef) and index.axis is axis for index, axis in pairs)


def is_symbolic(axes: Iterable[Axis]) -> bool:
    """Whether any of the axes has an extent that is known only at launch."""
    return any(constant_extent(axis) is None for axis in axes)


def _overwrites(definition: Def) -> str | None:
    """The argument that an output may overlap."""
    return next((f.output.may_alias for f in definition.funcs if f.output is not None and f.output.may_alias), None)


def _reads_tensor(view: View, definition: Def, name: str) -> bool:
    reads = (read for expr in view.expressions(definition) for read in reads_of(expr))
    return any(isinstance(read.source, Tensor) and read.source.name == name for read in reads)


# ---- what must go to memory --------------------------------------------------------------------------------------


def _first_to_store(view: View, whole: bool) -> Func | None:
    """A func that cannot stay on chip, or None if all is well."""
    for sink in view.sinks():
        found = _unheld(view, sink)
        if found is not None:
            return _or_its_reader(view, found)
    seen: set[Def] = set()
    for group in _groups(view, whole):
        held = {d for sink in group for d in view.cluster(sink) if d in view.heavy and d not in group}
        again = [d for d in view.algorithm.defs if d in held & seen]
        if again:
            return _or_its_reader(view, again[0].funcs[0])
        seen |= held
    return None


def _unheld(view: View, sink: Def) -> Func | None:
    """A reduction of the sink's cluster that cannot be held on chip while the sink is computed."""
    cluster = view.cluster(sink)
    if isinstance(sink.top, Scan):  # a kernel of its own, whose loop runs along its axis
        return next((d.funcs[0] for d in cluster if d is not sink), None)
    for member in cluster:
        for edge in view.edges(member):
            if not edge.plain and edge.func not in view.stored:
                return edge.func
    overwritten = _overwrites(sink)
    held = [d for d in cluster if d in view.heavy]
    for definition in held:
        if definition is sink:
            continue
        if overwritten is not None and _reads_tensor(view, definition, overwritten):
            return definition.funcs[0]
        if set(definition.axes) - set(sink.axes) and _nest(view, definition, cluster) is None:
            return definition.funcs[0]
    top = [d for d in held if not set(d.axes) - set(sink.axes)]
    programs = _programs(sink, top)
    partial = [d for d in top if set(d.axes) != set(sink.axes)]
    inside = set(sink.axes) - set(programs)
    if partial:
        crowded = any(inside & set(d.axes) or d in view.sides for d in top)
        if crowded or not is_symbolic(programs) or _down_columns(view, [sink], programs):
            return min(partial, key=lambda d: len(d.axes)).funcs[0]
    others = [d for d in top if d is not sink]
    if others and len(top) > 1:
        mixed = {d in view.sides for d in top} == {True, False}
        if not is_symbolic(programs):
            return others[0].funcs[0]
        if mixed:
            return next((d for d in others if d not in view.sides), others[0]).funcs[0]
    return None


def contiguous_axes(expressions: Iterable[Expr], writes: Iterable[Func], guard: BoolExpr) -> dict[Axis, float]:
    """The axes along which reads and writes of memory are contiguous, with the weight of the accesses they serve."""
    accesses = [(read, 1.0) for expr in expressions for read in reads_of(expr)]
    accesses += [(plain_read(func, func.axes), 1.5) for func in writes]
    weights: dict[Axis, float] = {}
    for read, bonus in accesses:
        moving = sorted(axes_of(read), key=lambda axis: axis.name)
        memory = memory_of(read.source, guard)
        fast = fastest_axis(memory, read, moving)
        if fast is not None:
            weights[fast] = weights.get(fast, 0.0) + bonus * memory.dtype.bits * 8.0 ** len(moving)
    return weights


def _down_columns(view: View, members: Iterable[Def], programs: tuple[Axis, ...]) -> bool:
    """Whether programs that divide ``programs`` among themselves would each walk down a few columns of memory: too few
    of them have work for the device."""
    members = list(members)
    expressions = [e for m in members for d in view.cluster(m) for e in view.expressions(d)]
    weights = contiguous_axes(expressions, [f for m in members for f in view.writes(m)], TRUE)
    return max(weights, key=lambda axis: (weights[axis], axis.name), default=None) in programs


def _nest(view: View, definition: Def, cluster: Sequence[Def]) -> Def | None:
    """The reduction in whose loop a reduction over more axes than the tile has can be computed."""
    readers = [d for d in cluster if any(edge.func in definition.funcs for edge in view.edges(d))]
    if len(readers) != 1:
        return None
    (reader,) = readers
    if reader not in view.heavy or reader in view.sides or not set(reader.axes) <= set(definition.axes):
        return None
    top = reader.top
    assert isinstance(top, Reduce)
    return reader if set(definition.axes) - set(reader.axes) <= set(top.axes) else None


def _programs(sink: Def, top: Sequence[Def]) -> tuple[Axis, ...]:
    ranks = rank_axes(top)
    return tuple(axis for axis in sink.axes if axis not in ranks and all(axis in d.axes for d in top))


def _or_its_reader(view: View, func: Func) -> Func:
    """``func``, or the elementwise func over the same axes that is all that reads it: it is as easy to store and saves
    its readers the arithmetic."""
    readers = [d for d in view.algorithm.defs if any(r.source is func for e in top_exprs(d.top) for r in reads_of(e))]
    if len(readers) == 1 and len(view.definition(func).funcs) == 1:
        (reader,) = readers
        reads = [r for e in top_exprs(reader.top) for r in reads_of(e) if r.source is func]
        elementwise = not isinstance(reader.top, Reduce) and len(reader.funcs) == 1
        same = set(reader.axes) == set(func.axes) and all(_is_plain(r, func.axes) for r in reads)
        if elementwise and same and reader.funcs[0] not in view.stored:
            return reader.funcs[0]
    return func


# ---- which sinks share a kernel ----------------------------------------------------------------------------------


def _groups(view: View, whole: bool) -> list[list[Def]]:
    """The sinks of each kernel, kernels in launch order."""
    groups: list[list[Def]] = []
    for sink in view.sinks():
        sources = {view.definition(e.func) for d in view.cluster(sink) for e in view.edges(d) if e.func in view.stored}
        sources.discard(sink)
        earliest = max((n for n, group in enumerate(groups) if sources & set(group)), default=0)
        fitting = (group for group in groups[earliest:] if _may_join(view, group, sink, whole))
        home = next(fitting, None)
        if home is None:
            groups.append([sink])
        else:
            home.append(sink)
    return groups


def _may_join(view: View, group: Sequence[Def], sink: Def, whole: bool) -> bool:
    """Whether a sink can be and had better be computed by the programs that compute the group."""
    members = [*group, sink]
    if any(isinstance(member.top, Scan) for member in members):
        return False
    if any(_overwrites(member) is not None for member in members):
        return False
    heavy = {member: {d for d in view.cluster(member) if d in view.heavy} for member in members}
    programs = _shared_programs(members, heavy)
    if programs is None or not _reads_fit(view, members, programs, whole):
        return False
    mine = heavy[sink]
    others = set().union(*(heavy[member] for member in group))
    if not others and not mine:
        return sink.axes == group[0].axes
    reads = {view.definition(e.func) for d in view.cluster(sink) for e in view.edges(d)}
    if reads & {*group, *others}:
        return is_symbolic(programs) and not _down_columns(view, members, programs)
    return len(mine) == 1 and bool(others) and all(_same_reduction(view, next(iter(mine)), other) for other in others)


def _shared_programs(members: Sequence[Def], heavy: Mapping[Def, set[Def]]) -> tuple[Axis, ...] | None:
    """The axes that programs divide among themselves if the members share a kernel, or None if they cannot.

    Members with reductions decide; elementwise members join them if what is left of their axes is what the reductions
    run over, so that a program passes over the same rows again.
    """
    deciding = [member for member in members if heavy[member]]
    own = [_programs(m, [d for d in heavy[m] if not set(d.axes) - set(m.axes)]) for m in deciding or members]
    programs = own[0]
    if any(other != programs for other in own):
        return None
    inner = {frozenset(member.axes) - set(programs) for member in members} - {frozenset()}
    if len(inner) > 1 or any(not set(programs) <= set(member.axes) for member in members):
        return None
    reduced: set[Axis] = set()
    for definition in set().union(*heavy.values()):
        if isinstance(definition.top, Reduce):
            reduced |= set(definition.top.axes)
    elementwise = [member for member in members if deciding and not heavy[member]]
    if any(set(member.axes) - set(programs) - reduced for member in elementwise):
        return None
    looped = set().union(*inner) - rank_axes(set().union(*heavy.values()))
    return None if looped and not is_symbolic(programs) else programs


def _reads_fit(view: View, members: Sequence[Def], programs: tuple[Axis, ...], whole: bool) -> bool:
    """Whether what members read of one another is at hand: at the same point, and not written in a loop of its own."""
    for member in members:
        for edge in (e for d in view.cluster(member) for e in view.edges(d)):
            writer = view.definition(edge.func)
            if writer in members and writer is not member and edge.func in view.stored:
                looped = not whole and set(writer.axes) != set(programs)
                if not edge.plain or looped:
                    return False
    return True


def _same_reduction(view: View, a: Def, b: Def) -> bool:
    """Whether two reductions run over the same points, so that one pass serves both."""
    if a in view.sides or b in view.sides or not (isinstance(a.top, Reduce) and isinstance(b.top, Reduce)):
        return False
    return a.axes == b.axes and a.top.axes == b.top.axes and len(view.cluster(a)) == len(view.cluster(b)) == 1


def _job(view: View, group: Sequence[Def]) -> Job:
    held = {d for sink in group for d in view.cluster(sink) if d in view.heavy}
    nested: dict[Def, Def] = {}
    for sink in group:
        cluster = view.cluster(sink)
        for definition in cluster:
            if definition in held and set(definition.axes) - set(sink.axes):
                reader = _nest(view, definition, cluster)
                assert reader is not None
                nested[definition] = reader
    largest = max(group, key=lambda d: len(d.axes))
    heavy = {sink: {d for d in view.cluster(sink) if d in view.heavy} for sink in group}
    programs = _shared_programs(group, heavy)
    if isinstance(largest.top, Scan):
        programs = tuple(axis for axis in largest.axes if axis is not largest.top.axis)
    assert programs is not None
    return Job(
        writes=tuple(f for sink in group for f in view.writes(sink)),
        held=tuple(d for d in view.algorithm.defs if d in held),
        nested=nested,
        programs=programs,
        inner=tuple(axis for axis in largest.axes if axis not in programs),
        sides={d: view.sides[d] for d in held if d in view.sides},
        expressions={d: view.expressions(d) for sink in group for d in view.cluster(sink)},
    )
