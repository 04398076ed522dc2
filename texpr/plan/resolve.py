"""What one kernel is about: its written funcs, the funcs it must compute for them, the axes in play and the facts
that hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from texpr.errors import Location
from texpr.lang.ir import Algorithm, Axis, Def, Expr, Func, Reduce, Scalar, Scan, components, top_exprs, with_groups
from texpr.math.bounds import Facts, bounds, divisor
from texpr.math.expr import BoolExpr, IntExpr, Sym, eq, ge, le, sym
from texpr.math.expr import Const as IntConst
from texpr.math.prove import Proved, prove
from texpr.plan.errors import ReadBeforeWritten, UnknownAxis, UnknownFunc, near
from texpr.plan.inline import axes_of, reads_of
from texpr.plan.ir import Update
from texpr.plan.monoids import expanded, is_small
from texpr.schedule.records import Kernel, Variant
from texpr.schedule.words import Memory
from texpr.targets import Target


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that planning one kernel may look at. ``stored`` are the funcs that earlier kernels left in global
    memory; ``needed`` the
    definitions this kernel computes, in definition order. Under ``split``/``fuse`` the algorithm is over the new axes:
    ``originals`` maps its funcs back, and ``store_indices`` are the old axes of a written func."""

    algorithm: Algorithm
    variant: Variant
    record: Kernel
    target: Target
    facts: Facts
    stored: frozenset[Func]
    writes: tuple[Func, ...]
    needed: tuple[Def, ...]
    axes: Mapping[str, Axis]
    originals: Mapping[Func, Func]
    store_indices: Mapping[Func, tuple[Expr, ...]]
    updates: Mapping[Func, Update] = field(default_factory=dict)

    def body_of(self, func: Func) -> tuple[Def, Expr]:
        """The right-hand side of a func that is not kept: its expression, or its small reduction written out."""
        definition = self.algorithm.definition(func)
        component = definition.funcs.index(func)
        if isinstance(definition.top, Reduce):
            return definition, expanded(definition)[component]
        return definition, components(definition.top)[component]

    def axis(self, name: str, directive: str, at: Location | None) -> Axis:
        """The axis called ``name`` among those this kernel iterates."""
        found = self.axes.get(name)
        if found is None:
            raise UnknownAxis(
                directive=directive, name=name, owner=f"kernel {self.record.name}", near=near(name, self.axes), at=at
            )
        return found


def variant_facts(algorithm: Algorithm, variant: Variant, target: Target) -> Facts:
    """What may be assumed inside a variant: dims are not negative, derived dims have their values, ``require`` and
    ``when`` hold."""
    free = [dim.name for dim in algorithm.dims if dim.value is None]
    facts = Facts.nonnegative([*free, "sms"]).assume(ge(sym("sms"), 1), *algorithm.facts, variant.when)
    for param in algorithm.params:
        if isinstance(param, Scalar):
            if param.low is not None:
                facts = facts.assume(ge(sym(param.name), param.low))
            if param.high is not None:
                facts = facts.assume(le(sym(param.name), param.high - 1))
    for dim in algorithm.dims:
        if dim.value is not None:
            facts = facts.assume(*_derived_facts(dim.name, dim.value, facts))
    for count in algorithm.counts:
        facts = facts.assume(ge(sym(count.name), 0), le(sym(count.name), count.room))
    return facts


def _derived_facts(name: str, value: IntExpr, facts: Facts) -> list[BoolExpr]:
    symbol = sym(name)
    found: list[BoolExpr] = [eq(symbol, value)]
    limits = bounds(value, facts)
    if limits.lo is not None:
        found.append(ge(symbol, limits.lo))
    if limits.hi is not None:
        found.append(le(symbol, limits.hi))
    step = divisor(value, facts)
    if step > 1:
        found.append(eq(symbol % step, 0))
    return found


def func_named(algorithm: Algorithm, name: str, directive: str, at: Location | None) -> Func:
    """The func (or output) that a schedule calls ``name``."""
    funcs = {func.name: func for definition in algorithm.defs for func in definition.funcs}
    if name not in funcs:
        raise UnknownFunc(directive=directive, name=name, algorithm=algorithm.name, near=near(name, funcs), at=at)
    return funcs[name]


def needed_definitions(
    algorithm: Algorithm, writes: Sequence[Func], stored: frozenset[Func], later: Mapping[Func, str], record: Kernel
) -> tuple[Def, ...]:
    """The definitions a kernel must compute: those of ``writes`` and, transitively, of every func they read that is
    not stored yet."""
    wanted: dict[int, Def] = {}

    def visit(func: Func, reader: Func) -> None:
        if func in stored:
            return
        if func in later and func not in writes:
            raise ReadBeforeWritten(kernel=record.name, name=func.name, later=later[func], at=record.location)
        definition = algorithm.definition(func)
        if id(definition) in wanted:
            return
        wanted[id(definition)] = definition
        for source in funcs_read(definition):
            visit(source, func)

    for func in writes:
        visit(func, func)
    return tuple(definition for definition in algorithm.defs if id(definition) in wanted)


def funcs_read(definition: Def) -> list[Func]:
    """The funcs a definition reads, each once."""
    found: dict[Func, None] = {}
    for expr in top_exprs(definition.top):
        for read in reads_of(expr):
            if isinstance(read.source, Func):
                found[read.source] = None
    return list(found)


def axes_in_play(needed: Iterable[Def]) -> dict[str, Axis]:
    """Axes by name over all needed definitions: free ones, the groups that these determine, and reduced ones."""
    found: dict[str, Axis] = {}
    for definition in needed:
        own = [*with_groups(definition.axes)]
        if isinstance(definition.top, Reduce):
            own += definition.top.axes
        for axis in own:
            found.setdefault(axis.name, axis)
    return found


def constant(value: IntExpr) -> int | None:
    """The value of a literal extent."""
    return value.value if isinstance(value, IntConst) else None


def full_tiles(axis: Axis, size: int, context: Context, *, whole: bool) -> tuple[bool, str]:
    """Whether every tile of the axis is full, and otherwise the fact that would prove it."""
    goal = eq(axis.extent, size) if whole else eq(axis.extent % size, 0)
    if isinstance(prove(goal, context.facts), Proved):
        return True, ""
    return False, str(goal)


def origin(axis: Axis) -> Sym:
    """The symbol of the first index of the current tile along ``axis``; no argument can have its name."""
    return Sym(f"{axis.name}.0")


def mentioned(exprs: Iterable[Expr]) -> frozenset[Axis]:
    """Axes mentioned by any of ``exprs``."""
    found: frozenset[Axis] = frozenset()
    for expr in exprs:
        found |= axes_of(expr)
    return found


def held_by(needed: Sequence[Def], record: Kernel, writes: Sequence[Func]) -> Callable[[Func], bool]:
    """Which funcs are kept as values instead of being recomputed where they are read: reductions, funcs the schedule
    places, and written funcs that others read."""
    kept: set[Func] = set()
    read: set[Func] = set()
    for definition in needed:
        read.update(funcs_read(definition))
    for definition in needed:
        reduction = isinstance(definition.top, Reduce | Scan) and not written_out(definition, record)
        for func in definition.funcs:
            placed = func not in writes and func.name in record.place and record.place[func.name].at is not None
            if reduction or placed or (func in writes and func in read):
                kept.add(func)
    return lambda func: func in kept


def written_out(definition: Def, record: Kernel) -> bool:
    """Whether a reduction is expanded into an expression: small, constant, and not looped over by the schedule. One
    that is kept over a window in shared memory is expanded point by point."""
    top = definition.top
    if not isinstance(top, Reduce) or any(axis.name in record.whole for axis in top.axes):
        return False
    places = [record.place[func.name] for func in definition.funcs if func.name in record.place]
    in_window = any(place.where is Memory.SHARED and not place.loop for place in places)
    return is_small(definition) and (not places or in_window)
