"""Several dependent reductions in one pass over their points: the algebra of ``online`` and ``merge``.

Members ``R_1 .. R_n`` of a group reduce over the same points in definition order; ``r`` are the values of earlier
members that a summand ``f(k; r)`` reads. One pass is exact if what was summed at the old values can be carried over to
the new ones without seeing its points again:

    A(r') = M(r, r') A(r)          M free of k; it distributes over the reduction

``separate`` finds the normal form ``h(k) g(r) exp(a(k)+b(r)) P(k, u(r))``. From it follows how one member is kept:

    g               hoisted: accumulated without it, multiplied at the end
    exp             rescaled by exp(b(r') - b(r))
    P               helper sums of its derivatives in u, shifted by d = u(r') - u(r) (Taylor, exact up to degree 2):
                    A0' = A0 + d A1 + d^2/2 A2,   A1' = A1 + d A2,   A2' = A2
    max and min     also a(k) + b(r): shifted by b(r') - b(r)

A mean S/N that a summand reads is the mean of the points seen so far: for the variance this is the pairwise update of
Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing sample variances", 1979), and never
the cancelling E[x^2] - mu^2. A state at which nothing was seen has the identity for a maximum, and exp(-inf - -inf) is
not a number: there the components start afresh. The state is a monoid (``as_monoid``), so that tiles, lanes, warps and
parts may be combined in any order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.ir import (
    INDEX,
    Axis,
    Cast,
    Const,
    Def,
    DimRef,
    Expr,
    Func,
    Monoid,
    Op,
    OpName,
    Ranking,
    Read,
    Reduce,
    ReduceOp,
    Select,
    Var,
)
from texpr.lang.show import expr_text
from texpr.math.integer import product
from texpr.plan.errors import NotOnline
from texpr.plan.inline import conjunction, key_of, plain_read, reads_of, rewrite
from texpr.plan.monoids import as_monoid as as_tuple_monoid
from texpr.plan.monoids import combine, identity, is_arg
from texpr.plan.separate import Depends, Form, Inseparable, Jet, Separation, Term, jet_product, multiplied
from texpr.plan.separate import times as _times

_EXTREMA: Final = (ReduceOp.MAX, ReduceOp.MIN)
SEEN: Final = "points.seen"
"""The func (without axes) that stands for the number of points seen so far where a mean is read."""


@dataclass(frozen=True, slots=True)
class Member:
    """How one reduction of a group is kept while its points go by.

    ``exprs`` are the summands of its components, at running values: the sum itself (without hoisted factors), then its
    helpers. Between tiles the components ``parts`` become ``rescaled``, an expression over ``parts`` and the variables
    ``factor`` and ``shift``, whose values (over old and new running values) are ``factor_of`` and ``shift_of``; where
    ``reset`` holds they start at the identity instead. In the end ``result``, over the first component and final
    values, is the sum where factors were hoisted (None: the first component is).
    ``running``: later summands read its value while it runs.
    """

    definition: Def
    exprs: tuple[Expr, ...]
    parts: tuple[Var, ...]
    rescaled: tuple[Expr, ...]
    factor: Var
    shift: Var
    factor_of: Expr | None = None
    shift_of: Expr | None = None
    reset: Expr | None = None
    result: Expr | None = None
    running: bool = False

    @property
    def func(self) -> Func:
        return self.definition.funcs[0]

    @property
    def op(self) -> ReduceOp | Monoid:
        top = self.definition.top
        assert isinstance(top, Reduce) and not isinstance(top.op, Ranking)
        return top.op

    @property
    def between(self) -> tuple[Expr, ...]:
        """What is evaluated besides the summands."""
        return tuple(e for e in (self.factor_of, self.shift_of, self.reset, self.result) if e is not None)


@dataclass(frozen=True, slots=True)
class OnlineGroup:
    """Members in definition order; ``old`` are the variables that hold a running value from before the current tile,
    ``seen`` the func for the number of points seen (and its variable before the tile), if a mean is read."""

    members: tuple[Member, ...]
    axes: tuple[Axis, ...]
    old: tuple[tuple[Func, Var], ...]
    seen: tuple[Func, Var] | None

    def running(self, expr: Expr) -> Expr:
        """``expr`` with every mean over the group's points taken over the points seen so far."""
        if self.seen is None:
            return expr

        def closed(func: Func) -> tuple[Def, Expr]:
            raise KeyError(func.name)

        setting = Separation(tuple(m.definition for m in self.members), self.axes, closed, lambda _: True)
        return _running_means(expr, setting, self.seen[0])


@dataclass(slots=True)
class _Builder:
    """One group under construction."""

    setting: Separation
    directive: str
    at: Location | None
    old: dict[Func, Var]
    seen: Func
    seen_old: Var

    def reaches(self, source: Func, member: Func) -> bool:
        """Whether ``source``, which is not a member, reads ``member`` directly or not."""
        if self.setting.depends(plain_read(source, source.axes)) is Depends.NOTHING:
            return False
        definition, body = self.setting.body_of(source)
        if isinstance(definition.top, Reduce):
            return False
        inner = {read.source for read in reads_of(body) if isinstance(read.source, Func)}
        return any(
            other is member or (self.setting.member(other) is None and self.reaches(other, member)) for other in inner
        )

    def refuse(self, member: Def, error: Inseparable) -> NotOnline:
        others = ", ".join(d.name for d in self.setting.members)
        place = f"leave {member.name} out of {self.directive} and place it after {others} (two passes)"
        return NotOnline(
            directive=self.directive,
            func=member.name,
            others=others,
            summand=_summand(member),
            factor=expr_text(error.factor),
            why=error.why,
            at=self.at,
            hint=f"{error.hint}, or {place}" if error.hint else place,
        )

    def plain(self, expr: Expr) -> Expr:
        """``expr`` with funcs that depend on running values replaced by their definitions, and running means."""

        return _running_means(self.opened(expr), self.setting, self.seen)

    def opened(self, expr: Expr) -> Expr:
        """``expr`` with funcs that depend on running values replaced by their definitions."""

        def change(node: Expr) -> Expr | None:
            if not isinstance(node, Read) or not isinstance(node.source, Func):
                return None
            if self.setting.member(node.source) is not None or Depends.STATE not in self.setting.depends(node):
                return None
            return self.opened(self.setting.opened(node))

        return rewrite(expr, change)

    def summand(self, expr: Expr) -> Expr:
        """A summand as it is accumulated: as written, unless it reads a running mean."""
        opened = self.opened(expr)
        plain = _running_means(opened, self.setting, self.seen)
        return expr if plain is opened else plain

    def before(self, expr: Expr) -> Expr:
        """A plain expression at the values from before the tile."""

        def change(node: Expr) -> Expr | None:
            if isinstance(node, Read):
                if node.source is self.seen:
                    return self.seen_old
                if isinstance(node.source, Func):
                    return self.old.get(node.source)
            return None

        return rewrite(expr, change)


def _summand(member: Def) -> str:
    top = member.top
    assert isinstance(top, Reduce)
    op = top.op.value if isinstance(top.op, ReduceOp) else top.op.name
    return f"{op} over {', '.join(axis.name for axis in top.axes)} of {', '.join(expr_text(e) for e in top.exprs)}"


def _running_means(expr: Expr, setting: Separation, seen: Func) -> Expr:
    def change(node: Expr) -> Expr | None:
        mean = setting.mean_of(node)
        if mean is None:
            return None
        _, counter = mean
        count: Expr = Read(seen, ()) if counter is None else plain_read(counter.funcs[0], counter.axes)
        count = Cast(count, node.dtype) if count.dtype is not node.dtype else count
        least = Op(OpName.MAX, (count, Const(1.0, node.dtype)), node.dtype)
        assert isinstance(node, Op)
        return Op(OpName.DIV, (node.args[0], least), node.dtype)

    return rewrite(expr, change)


def online_group(
    definitions: Sequence[Def],
    body_of: Callable[[Func], tuple[Def, Expr]],
    may_round: Callable[[str], bool],
    directive: str = "online",
    at: Location | None = None,
) -> OnlineGroup:
    """The members of a group in definition order, each with how it is carried from tile to tile. ``may_round`` says
    for which funcs the schedule relaxes rounding. Raises ``NotOnline`` (TX0360), naming the factor in the way."""
    first = definitions[0].top
    assert isinstance(first, Reduce)
    old: dict[Func, Var] = {}
    for definition in definitions:
        top = definition.top
        assert isinstance(top, Reduce)
        if len(definition.funcs) == 1:
            func = definition.funcs[0]
            old[func] = Var(f"{func.name}.old", top.exprs[0].dtype)
    seen = Func(SEEN, DType.I32, ())
    setting = Separation((), first.axes, body_of, may_round)
    builder = _Builder(setting, directive, at, old, seen, Var(f"{SEEN}.old", DType.I32))
    members: list[Member] = []
    for definition in definitions:
        try:
            _check_alike(definition, first, setting)
            members.append(_member(definition, builder))
        except Inseparable as error:
            raise builder.refuse(definition, error) from None
        builder.setting = setting = Separation((*setting.members, definition), first.axes, body_of, may_round)
    read = _read_while_running(members, builder)
    found = tuple(dataclasses.replace(m, running=m.func in read) for m in members)
    for member in found:
        if member.running and member.func.dtype is not member.exprs[0].dtype:
            why = f"is rounded to {member.func.dtype} before the later members read it"
            raise builder.refuse(member.definition, Inseparable(plain_read(member.func, member.definition.axes), why))
        if member.running and member.result is not None:
            why = "has factors that are multiplied at the end only, but a later member reads it while it runs"
            raise builder.refuse(member.definition, Inseparable(plain_read(member.func, member.definition.axes), why))
    means = any(seen in _sources(member) for member in found)
    group_old = tuple((m.func, old[m.func]) for m in found if m.running)
    return OnlineGroup(found, first.axes, group_old, (seen, builder.seen_old) if means else None)


def _read_while_running(members: Sequence[Member], builder: _Builder) -> set[Func]:
    """The members whose running values others need, directly or through funcs that are not members. What is hoisted
    needs final values only."""
    found: set[Func] = set()
    for member in members:
        for source in _sources(member):
            if builder.setting.member(source) is not None:
                found.add(source)
            elif isinstance(source, Func) and source is not builder.seen:
                found |= {func for func in builder.old if builder.reaches(source, func)}
    return found


def _sources(member: Member) -> set[Func]:
    """The funcs whose running values a member needs. What is hoisted needs final values only."""
    needed = (*member.exprs, member.factor_of, member.shift_of, member.reset)  # not the result
    reads = [read for expr in needed if expr is not None for read in reads_of(expr)]
    return {read.source for read in reads if isinstance(read.source, Func)}


def _check_alike(definition: Def, first: Reduce, setting: Separation) -> None:
    top = definition.top
    assert isinstance(top, Reduce)
    shown = plain_read(definition.funcs[0], definition.axes)
    if isinstance(top.op, Ranking):
        raise Inseparable(shown, "ranks its points instead of combining them")
    if top.axes != first.axes:
        raise Inseparable(shown, "runs over other axes than the group")
    guards = [None if guard is None else key_of(guard) for guard in (top.where, first.where)]
    if guards[0] != guards[1]:
        raise Inseparable(shown, "has another where= than the group")
    if top.where is not None and Depends.STATE in setting.depends(top.where):
        raise Inseparable(top.where, "uses the group's values in a condition")
    for member in setting.members:
        missing = set(member.axes) - set(definition.axes)
        if missing and any(Depends.STATE in setting.depends(e) for e in top.exprs):
            names = ", ".join(sorted(axis.name for axis in missing))
            raise Inseparable(shown, f"does not vary along {names}, as {member.name} does")


def _member(definition: Def, builder: _Builder) -> Member:
    top = definition.top
    assert isinstance(top, Reduce) and not isinstance(top.op, Ranking)
    setting = builder.setting
    dtypes = tuple(e.dtype for e in top.exprs)
    name = definition.name
    factor, shift = Var(f"{name}.factor", dtypes[0]), Var(f"{name}.shift", dtypes[0])
    parts = tuple(Var(f"{name}.{n}.old", dtype) for n, dtype in enumerate(dtypes))
    if all(Depends.STATE not in setting.depends(e) for e in top.exprs):
        return Member(definition, top.exprs, parts, parts, factor, shift)
    if isinstance(top.op, Monoid) or is_arg(top.op) or top.op not in (ReduceOp.SUM, *_EXTREMA):
        op = top.op.name if isinstance(top.op, Monoid) else top.op.value
        raise Inseparable(top.exprs[0], f"depends on running values, which {op} cannot be rescaled by")
    (expr,) = top.exprs
    dtype = expr.dtype
    if top.op in _EXTREMA and dtype.is_float:
        try:
            terms = setting.state_terms(expr, name)
        except Inseparable:
            terms = ()
        if terms:
            offset, reset = _difference(terms, dtype, builder)
            moved = (Op(OpName.ADD, (parts[0], shift), dtype),)
            exprs = (builder.summand(expr),)
            return Member(definition, exprs, parts, moved, factor, shift, None, offset, reset)
    form = setting.form(expr, name)
    if top.op is not ReduceOp.SUM and not (form.is_plain and form.exponents):
        raise Inseparable(expr, f"is not carried over by {top.op.value}: only sums take factors out")
    if not dtype.is_float and (form.exponents or form.jets):
        raise Inseparable(expr, "is an integer, which cannot be rescaled")
    return _summed(definition, expr, form, builder, factor, shift)


def _summed(definition: Def, expr: Expr, form: Form, builder: _Builder, factor: Var, shift: Var) -> Member:
    dtype = expr.dtype
    factor_of, reset = _scale(form.exponents, dtype, builder)
    shift_of: Expr | None = None
    summands: tuple[Expr, ...] = (expr,)
    if not form.is_plain:
        rest = multiplied(form.factors, dtype)
        jet = Jet(Const(1.0 if dtype.is_float else 1, dtype), ())
        for other in form.jets:
            jet = other if not jet.derivatives else jet_product(jet, other, _times(jet.value, other.value))
        if form.jets:
            shift_of, reset = _shift(form, expr, definition.name, builder, reset)
        polynomials = [jet.value, *(d if d is not None else Const(0.0, dtype) for d in jet.derivatives)]
        summands = tuple(p if rest is None else _times(rest, p) for p in polynomials)
    summands = tuple(builder.summand(summand) for summand in summands)
    parts = tuple(Var(f"{definition.name}.{n}.old", dtype) for n in range(len(summands)))
    rescaled = tuple(_rescaled(parts, n, factor if factor_of is not None else None, shift) for n in range(len(parts)))
    result = _with_hoisted(form, definition, parts[0], builder)
    return Member(
        definition,
        summands,
        parts,
        rescaled,
        factor,
        shift,
        factor_of,
        shift_of,
        reset,
        result,
    )


def _with_hoisted(form: Form, definition: Def, part: Var, builder: _Builder) -> Expr | None:
    """The sum times what was taken out of it. Without points it is zero, whatever the factors are."""
    if not form.hoisted:
        return None
    top = definition.top
    assert isinstance(top, Reduce)
    if top.where is not None:
        why = "is taken out of a sum with a where=, which may have no points (0 * Inf is not zero)"
        raise Inseparable(form.hoisted[0].expr, why, "multiply by it after the sum, in the algorithm")
    points = DimRef(product(axis.extent for axis in builder.setting.axes))
    some = Op(OpName.GT, (points, Const(0, INDEX)), DType.BOOL)
    zero = Const(0.0 if part.dtype.is_float else 0, part.dtype)
    scaled = [f.expr for f in form.hoisted if not f.inverse]
    divided = [f.expr for f in form.hoisted if f.inverse]
    value: Expr = part
    for expr in scaled:
        value = Op(OpName.MUL, (value, _as(expr, part.dtype)), part.dtype)
    for expr in divided:
        value = Op(OpName.DIV, (value, _as(expr, part.dtype)), part.dtype)
    return Select(some, value, zero)


def _as(expr: Expr, dtype: DType) -> Expr:
    return expr if expr.dtype is dtype else Cast(expr, dtype)


def _rescaled(parts: Sequence[Var], n: int, factor: Var | None, shift: Var) -> Expr:
    """``factor * (A_n + d (A_n+1 + d/2 A_n+2))``."""
    result: Expr = parts[-1]
    for m in reversed(range(n, len(parts) - 1)):
        dtype = shift.dtype
        step = _times(Const(1.0 / (m - n + 1), dtype), shift)
        result = Op(OpName.ADD, (parts[m], Op(OpName.MUL, (step, result), dtype)), dtype)
    return result if factor is None else Op(OpName.MUL, (result, factor), result.dtype)


def _scale(
    exponents: Sequence[tuple[OpName, Term]], dtype: DType, builder: _Builder
) -> tuple[Expr | None, Expr | None]:
    """What a sum is multiplied by, ``exp(b(r') - b(r))``, and when it starts afresh."""
    result: Expr | None = None
    resets: list[Expr] = []
    for name in (OpName.EXP, OpName.EXP2):
        terms = [term for kind, term in exponents if kind is name]
        if not terms:
            continue
        difference, reset = _difference(terms, terms[0].expr.dtype, builder)
        scale: Expr = Op(name, (difference,), difference.dtype)
        same = _unchanged(terms, builder)
        if same is not None:
            scale = Select(same, Const(1.0, scale.dtype), scale)
        if reset is not None:
            resets.append(reset)
        scale = scale if scale.dtype is dtype else Cast(scale, dtype)
        result = scale if result is None else Op(OpName.MUL, (result, scale), dtype)
    return result, _any(resets)


def _shift(form: Form, expr: Expr, name: str, builder: _Builder, reset: Expr | None) -> tuple[Expr, Expr | None]:
    """``d = u(r') - u(r)`` for the one value that the polynomials of a summand are in."""
    atoms: list[Expr] = []
    for jet in form.jets:
        builder.setting.jet(jet.value, name, atoms)
    if len(atoms) != 1:
        raise Inseparable(expr, "is a polynomial in more than one running value")
    (atom,) = atoms
    difference, start = _difference((Term(atom),), expr.dtype, builder)
    same = _unchanged((Term(atom),), builder)
    if same is not None:  # inf - inf is not a number
        difference = Select(same, Const(0.0, difference.dtype), difference)
    return difference, _any([r for r in (reset, start) if r is not None])


def _difference(terms: Sequence[Term], dtype: DType, builder: _Builder) -> tuple[Expr, Expr | None]:
    """``b(r') - b(r)`` and when the old values are those of no points at all."""
    result: Expr | None = None
    for term in terms:
        new = builder.plain(term.expr)
        old = builder.before(new)
        pair = (old, new) if term.negative else (new, old)
        step: Expr = Op(OpName.SUB, pair, new.dtype)
        step = step if step.dtype is dtype else Cast(step, dtype)
        result = step if result is None else Op(OpName.ADD, (result, step), dtype)
    assert result is not None
    resets = []
    for func, op in _extrema_read(terms, builder):
        (start,) = identity(op, (builder.old[func].dtype,))
        new_value = plain_read(func, _axes(func, builder))
        was = Op(OpName.EQ, (builder.old[func], start), DType.BOOL)
        now = Op(OpName.NE, (new_value, start), DType.BOOL)
        resets.append(conjunction([was, now]))
    return result, _any(resets)


def _unchanged(terms: Sequence[Term], builder: _Builder) -> Expr | None:
    """Whether the values are those from before the tile: then nothing is rescaled, also where a maximum or minimum is
    infinite. None if there are only sums, whose values are finite where anything is."""
    if not _extrema_read(terms, builder):
        return None
    reads = {read.source: read for term in terms for read in _members_read(builder.plain(term.expr), builder)}
    found = [Op(OpName.EQ, (builder.before(read), read), DType.BOOL) for read in reads.values()]
    return conjunction(list(found))


def _members_read(expr: Expr, builder: _Builder) -> list[Read]:
    found: list[Read] = []

    def visit(node: Expr) -> Expr | None:
        if isinstance(node, Read) and (node.source in builder.old or node.source is builder.seen):
            found.append(node)
        return None

    rewrite(expr, visit)
    return found


def _extrema_read(terms: Sequence[Term], builder: _Builder) -> list[tuple[Func, ReduceOp]]:
    found: dict[Func, ReduceOp] = {}
    for term in terms:
        for read in _members_read(builder.plain(term.expr), builder):
            member = builder.setting.member(read.source)
            if member is not None and isinstance(member.top, Reduce) and isinstance(read.source, Func):
                op = member.top.op
                if isinstance(op, ReduceOp) and op in _EXTREMA:
                    found[read.source] = op
    return list(found.items())


def _axes(func: Func, builder: _Builder) -> tuple[Axis, ...]:
    member = builder.setting.member(func)
    assert member is not None
    return member.axes


def _any(conditions: Sequence[Expr]) -> Expr | None:
    result: Expr | None = None
    for condition in conditions:
        result = condition if result is None else Op(OpName.OR, (result, condition), DType.BOOL)
    return result


# ---- the monoid ------------------------------------------------------------------------------------------------------


def as_monoid(group: OnlineGroup) -> Monoid:
    """The state of a group as a monoid: the components of every member in order, then the number of points seen if a
    mean is read. Two states over different points combine to the state over both."""
    left, right = (_state_variables(group, side) for side in "ab")
    names = [var for member in group.members for var in member.parts]
    merged: list[Expr] = []
    values: dict[Func, Expr] = {}
    count: tuple[Expr, ...] = ()
    if group.seen is not None:
        count = (Op(OpName.ADD, (left[-1], right[-1]), DType.I32),)
        values[group.seen[0]] = count[0]
    start = 0
    for member in group.members:
        many = slice(start, start + len(member.parts))
        start = many.stop
        sides = [_carried(member, group, side, names, values) for side in (left, right)]
        if len(member.definition.funcs) > 1:
            parts = combine(_combining(member), sides[0], sides[1])
        else:
            parts = tuple(combine(member.op, (a,), (b,))[0] for a, b in zip(*sides, strict=True))
            values[member.func] = parts[0]
        merged += parts
    starts = tuple(e for member in group.members for e in starts_of(member))
    if group.seen is not None:
        starts = (*starts, Const(0, DType.I32))
    name = "_".join(member.definition.name.replace(".", "_") for member in group.members)
    return Monoid(name, left, right, (*merged, *count), starts, True)


def starts_of(member: Member) -> tuple[Const, ...]:
    """What the components of a member are where no points were seen."""
    dtypes = tuple(part.dtype for part in member.parts)
    if len(member.definition.funcs) > 1:
        return identity(_combining(member), dtypes)
    return tuple(identity(member.op, (dtype,))[0] for dtype in dtypes)


def _combining(member: Member) -> ReduceOp | Monoid:
    return as_tuple_monoid(member.op, tuple(part.dtype for part in member.parts))


def _state_variables(group: OnlineGroup, side: str) -> tuple[Var, ...]:
    found = [Var(f"{part.name}.{side}", part.dtype) for member in group.members for part in member.parts]
    if group.seen is not None:
        found.append(Var(f"seen.{side}", DType.I32))
    return tuple(found)


def _carried(
    member: Member, group: OnlineGroup, side: Sequence[Var], names: Sequence[Var], values: dict[Func, Expr]
) -> tuple[Expr, ...]:
    """The components of one side, carried over to the merged values of earlier members."""
    known: dict[Var, Expr] = dict(zip(names, side, strict=False))
    for other in group.members:
        known.update((var, known[other.parts[0]]) for func, var in group.old if func is other.func)
    if group.seen is not None:
        known[group.seen[1]] = side[-1]

    def change(node: Expr) -> Expr | None:
        if isinstance(node, Var):
            return known.get(node)
        if isinstance(node, Read) and isinstance(node.source, Func):
            return values.get(node.source)
        return None

    if member.factor_of is not None:
        known[member.factor] = rewrite(member.factor_of, change)
    if member.shift_of is not None:
        known[member.shift] = rewrite(member.shift_of, change)
    parts = tuple(rewrite(expr, change) for expr in member.rescaled)
    if member.reset is None:
        return parts
    fresh = rewrite(member.reset, change)
    return tuple(Select(fresh, start, part) for start, part in zip(starts_of(member), parts, strict=True))
