"""``split_reduction`` of reductions that read each other: they are split and combined together.

``m = max_j s(j)``, ``l = sum_j exp(s(j) - m)`` split over j in P parts become

    m.part[p] = max_j' s.part(p, j')        l.part[p] = sum_j' exp(s.part(p, j') - m.part[p])
    m         = max_p m.part[p]             l         = sum_p l.part[p] * exp(m.part[p] - m)

The combination is the rescaling of ``plan.online`` with the parts' values as the old ones and the final values as the
new ones: the same monoid that carries a group from tile to tile, written as ordinary reductions over the parts. Funcs
in between that run over the split axis become ``<func>.part`` over ``(<axis>.part, <axis>)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.ir import (
    INDEX,
    Algorithm,
    Axis,
    AxisRef,
    Const,
    Def,
    DimRef,
    Expr,
    Extern,
    Func,
    Op,
    OpName,
    Ranking,
    Read,
    Reduce,
    Scan,
    Select,
    Var,
    components,
    top_exprs,
)
from texpr.math.expr import IntExpr
from texpr.plan.errors import SplitNotAssociative
from texpr.plan.inline import conjunction, plain_read, reads_of, rewrite
from texpr.plan.monoids import is_arg
from texpr.plan.online import Member, OnlineGroup, online_group, starts_of


@dataclass(frozen=True, slots=True)
class Cut:
    """How the axis is divided: ``axis`` at ``part * chunk + inner``."""

    axis: Axis
    part: Axis
    inner: Axis
    chunk: IntExpr
    at: Location | None

    @property
    def position(self) -> Expr:
        start = Op(OpName.MUL, (AxisRef(self.part), chunk_of(self.inner, self.chunk)), INDEX)
        return Op(OpName.ADD, (start, AxisRef(self.inner)), INDEX)


def chunk_of(inner: Axis, chunk: IntExpr) -> DimRef:
    """How many points of an axis are in a part, by a name: the expression is long."""
    return DimRef(chunk, name=f"{inner.name}.chunk")


def reads_members(definition: Def, members: Sequence[Func], algorithm: Algorithm) -> bool:
    """Whether a definition reads one of ``members``, directly or through funcs that are none."""
    for expr in top_exprs(definition.top):
        for read in reads_of(expr):
            if read.source in members:
                return True
            if isinstance(read.source, Func) and reads_members(
                algorithm.definition(read.source), members, algorithm
            ):
                return True
    return False


def split_group(
    algorithm: Algorithm, definitions: Sequence[Def], cut: Cut, may_round: Callable[[str], bool]
) -> dict[int, tuple[Def, ...]]:
    """For each definition of the group (by identity) those that take its place; funcs in between come before the first
    that needs them. Raises ``NotOnline`` or ``SplitNotAssociative``."""

    def body_of(func: Func) -> tuple[Def, Expr]:
        definition = algorithm.definition(func)
        top = definition.top
        return definition, components(top)[0 if isinstance(top, Reduce) else definition.funcs.index(func)]

    group = online_group(definitions, body_of, may_round, "split_reduction", cut.at)
    if group.seen is not None or any(len(m.parts) > len(m.definition.funcs) for m in group.members):
        member = next(m for m in group.members if m.shift_of is not None or group.seen is not None)
        why = "it is a polynomial in an earlier reduction; parts of helper sums are not lowered yet"
        raise SplitNotAssociative(func=member.func.name, why=why, at=cut.at)
    return _Rewriting(algorithm, group, cut, cut.position, {}, {}).run()


@dataclass(slots=True)
class _Rewriting:
    """``parts`` are the funcs over parts by the funcs that they stand for; ``made`` their definitions, those of funcs
    in between first."""

    algorithm: Algorithm
    group: OnlineGroup
    cut: Cut
    position: Expr
    parts: dict[Func, Func]
    between: dict[Func, Def]

    def run(self) -> dict[int, tuple[Def, ...]]:
        found: dict[int, tuple[Def, ...]] = {}
        for member in self.group.members:
            known = set(self.between)
            partial = self._partial(member)
            fresh = [definition for func, definition in self.between.items() if func not in known]
            found[id(member.definition)] = (*fresh, partial, self._combined(member))
        return found

    # ---- over the parts ---------------------------------------------------------------------------------------------

    def _partial(self, member: Member) -> Def:
        definition = member.definition
        top = definition.top
        assert isinstance(top, Reduce)
        exprs = member.exprs if member.result is not None else top.exprs
        axes = (self.cut.part, *definition.axes)
        summands = tuple(self._in_part(expr) for expr in exprs)
        inside: Expr = Op(OpName.LT, (self.position, DimRef(self.cut.axis.extent)), DType.BOOL)
        where = inside if top.where is None else conjunction([inside, self._in_part(top.where)])
        funcs = tuple(
            Func(f"{func.name}.part", summand.dtype, axes, location=func.location)
            for func, summand in zip(definition.funcs, summands, strict=True)
        )
        self.parts.update(zip(definition.funcs, funcs, strict=True))
        reduced = tuple(self.cut.inner if axis is self.cut.axis else axis for axis in top.axes)
        return Def(funcs, axes, Reduce(top.op, summands, reduced, where), definition.location)

    def _in_part(self, expr: Expr) -> Expr:
        """``expr`` at the points of a part, reading the part's own values."""

        def change(node: Expr) -> Expr | None:
            if isinstance(node, AxisRef):
                return self.position if node.axis is self.cut.axis else None
            if not isinstance(node, Read) or not isinstance(node.source, Func):
                return None
            func = node.source
            if any(func in member.definition.funcs for member in self.group.members):
                return Read(self.parts[func], (AxisRef(self.cut.part), *node.indices), node.boundary)
            part = self._between(func)
            return None if part is None else Read(part, self._indices(func, node), node.boundary)

        return rewrite(expr, change)

    def _indices(self, func: Func, read: Read) -> tuple[Expr, ...]:
        indices: list[Expr] = []
        for axis, index in zip(func.axes, read.indices, strict=True):
            if axis is not self.cut.axis:
                indices.append(index)
            elif index is self.position:
                indices += [AxisRef(self.cut.part), AxisRef(self.cut.inner)]
            else:
                why = f"it reads {func.name} at another point of {axis.name} than its own"
                raise SplitNotAssociative(func=self.group.members[0].func.name, why=why, at=self.cut.at)
        return tuple(indices)

    def _between(self, func: Func) -> Func | None:
        """The func over parts that stands for one in between; None for one that does not run over the axis."""
        members = [f for member in self.group.members for f in member.definition.funcs]
        definition = self.algorithm.definition(func)
        if self.cut.axis not in func.axes:
            if reads_members(definition, members, self.algorithm):
                why = f"{func.name}, which does not run over {self.cut.axis.name}, stands between its reductions"
                raise SplitNotAssociative(func=self.group.members[0].func.name, why=why, at=self.cut.at)
            return None
        if func not in self.parts:
            axes: list[Axis] = []
            for axis in func.axes:
                axes += [self.cut.part, self.cut.inner] if axis is self.cut.axis else [axis]
            self.parts[func] = Func(f"{func.name}.part", func.dtype, tuple(axes), location=func.location)
            self.between[func] = self._between_definition(func, definition, tuple(axes))
        return self.parts[func]

    def _between_definition(self, func: Func, definition: Def, axes: tuple[Axis, ...]) -> Def:
        if len(definition.funcs) > 1 or isinstance(definition.top, Scan | Extern):
            what = "a tuple definition"
            if isinstance(definition.top, Scan | Extern):
                what = "a scan" if isinstance(definition.top, Scan) else "a kernel of your own"
            why = f"{func.name}, {what}, stands between its reductions"
            raise SplitNotAssociative(func=self.group.members[0].func.name, why=why, at=self.cut.at)
        top = definition.top
        assert not isinstance(top, Scan | Extern)
        if not isinstance(top, Reduce):
            return Def((self.parts[func],), axes, tuple(self._in_part(e) for e in top), definition.location)
        exprs = tuple(self._in_part(expr) for expr in top.exprs)
        where = None if top.where is None else self._in_part(top.where)
        return Def((self.parts[func],), axes, Reduce(top.op, exprs, top.axes, where), definition.location)

    # ---- over all ---------------------------------------------------------------------------------------------------

    def _combined(self, member: Member) -> Def:
        definition = member.definition
        top = definition.top
        assert isinstance(top, Reduce)
        axes = (self.cut.part, *definition.axes)
        reads = tuple(plain_read(self.parts[func], axes) for func in definition.funcs)
        where = None
        if not isinstance(top.op, Ranking) and is_arg(top.op):  # a piece without points has no position
            where = Op(OpName.GE, (reads[1], Const(0, INDEX)), DType.BOOL)
        exprs: tuple[Expr, ...] = reads
        if member.between:
            exprs = (self._carried(member, reads[0]),)
        return Def(
            definition.funcs, definition.axes, Reduce(top.op, exprs, (self.cut.part,), where), definition.location
        )

    def _carried(self, member: Member, part: Read) -> Expr:
        """The part's value carried over from its own running values to the final ones."""
        values: dict[Var, Expr] = {member.parts[0]: part}
        for func, var in self.group.old:
            values[var] = plain_read(self.parts[func], self.parts[func].axes)

        def change(node: Expr) -> Expr | None:
            return values.get(node) if isinstance(node, Var) else None

        if member.factor_of is not None:
            values[member.factor] = rewrite(member.factor_of, change)
        if member.shift_of is not None:
            values[member.shift] = rewrite(member.shift_of, change)
        carried = rewrite(member.rescaled[0], change)
        if member.reset is not None:
            carried = Select(rewrite(member.reset, change), starts_of(member)[0], carried)
        if member.result is not None:
            values[member.parts[0]] = carried
            carried = rewrite(member.result, change)
        return carried
