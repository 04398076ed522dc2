"""Separating a summand into what depends on the reduced points and what depends on running values.

Several reductions over the same points can share one pass although later ones read earlier ones, if the dependence can
be pulled out of the sum. With ``k`` the points and ``r`` the values of earlier reductions, a summand is brought to

    f(k; r) = h(k) * g(r) * exp(a(k) + b(r)) * P(k, u(r))          P a polynomial of degree <= 2 in one u

by splitting products and quotients into factors and sorting each factor by what it depends on. Sums are handled as
polynomials in ``u`` (a value and its derivatives: a jet), or as sums of terms that share one exponential. Whatever does
not fit is refused by naming the factor. Nothing here knows about tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Flag
from typing import Final

from texpr.dtypes import DType
from texpr.lang.ir import (
    Axis,
    AxisRef,
    Cast,
    Const,
    Def,
    DimRef,
    Expr,
    Func,
    Op,
    OpName,
    Read,
    Reduce,
    ReduceOp,
    Scan,
    Select,
    children,
    top_exprs,
)
from texpr.math.expr import IntExpr
from texpr.math.integer import product
from texpr.plan.inline import Key, bounded_indices, filled, key_of, substitute

_EXPONENTIALS: Final = (OpName.EXP, OpName.EXP2)
_TOTAL: Final = frozenset({OpName.ADD, OpName.SUB, OpName.MUL, OpName.NEG, OpName.ABS, OpName.MIN, OpName.MAX})
MOST_DERIVATIVES: Final = 2
"""The highest degree of a polynomial in running values; one helper sum per degree."""


class Depends(Flag):
    """What an expression depends on besides constants, arguments and kept axes."""

    NOTHING = 0
    POINT = 1  # the reduced points
    STATE = 2  # values of earlier members of the group
    BOTH = 3


class Inseparable(Exception):
    """A summand that does not fit the normal form: ``factor`` is the part, ``why`` completes "factor F ..."."""

    def __init__(self, factor: Expr, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.factor = factor
        self.why = why
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Factor:
    """``expr``, or its reciprocal."""

    expr: Expr
    inverse: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """``expr``, or its negative: one addend of an exponent that depends on running values only."""

    expr: Expr
    negative: bool = False


@dataclass(frozen=True, slots=True)
class Jet:
    """A polynomial in ``u``: its value and its derivatives (None: zero), at the running value of ``u``."""

    value: Expr
    derivatives: tuple[Expr | None, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """The normal form. ``factors`` are accumulated (with the exponentials among them), ``hoisted`` are multiplied once
    at the end, ``exponents`` are the parts of exponents that depend on running values, ``jets`` the polynomials."""

    factors: tuple[Factor, ...] = ()
    hoisted: tuple[Factor, ...] = ()
    exponents: tuple[tuple[OpName, Term], ...] = ()
    jets: tuple[Jet, ...] = ()

    def times(self, other: Form) -> Form:
        return Form(
            self.factors + other.factors,
            self.hoisted + other.hoisted,
            self.exponents + other.exponents,
            self.jets + other.jets,
        )

    @property
    def is_plain(self) -> bool:
        """Whether the summand itself is what is accumulated."""
        return not self.hoisted and not self.jets


@dataclass(slots=True)
class Separation:
    """The setting in which summands are separated: the group's members so far, the axes they reduce over, and how to
    look into funcs that are not members. ``may_round`` says whether the schedule allows the rounding of a func to
    happen before the rescaling (``relax``)."""

    members: tuple[Def, ...]
    axes: tuple[Axis, ...]
    body_of: Callable[[Func], tuple[Def, Expr]]
    may_round: Callable[[str], bool]
    _depends: dict[Func, Depends] = field(default_factory=dict)

    # ---- dependence ------------------------------------------------------------------------------------------------

    def member(self, func: object) -> Def | None:
        return next((d for d in self.members if func in d.funcs), None)

    def depends(self, expr: Expr) -> Depends:
        """What ``expr`` depends on; looks into funcs that are not members."""
        found = Depends.NOTHING
        match expr:
            case AxisRef(axis=axis) if axis in self.axes:
                return Depends.POINT
            case Read(source=Func() as func):
                found = Depends.STATE if self.member(func) is not None else self._inside(func) & Depends.STATE
        for child in children(expr):
            found |= self.depends(child)
        return found

    def _inside(self, func: Func) -> Depends:
        if func not in self._depends:
            self._depends[func] = Depends.NOTHING
            self._depends[func] = self.depends(self._body(func)) if self._body(func) is not None else Depends.NOTHING
        return self._depends[func]

    def _body(self, func: Func) -> Expr:
        definition, body = self.body_of(func)
        if isinstance(definition.top, Reduce | Scan):  # its summands say what it depends on
            for part in top_exprs(definition.top):
                if Depends.STATE in self.depends(part):
                    return part
            return Const(0, DType.I32)
        return body

    def opened(self, read: Read) -> Expr:
        """The body of a func that depends on running values, at the indices of a read of it. The rounding to the
        func's own type is dropped if the schedule allows that."""
        func = read.source
        assert isinstance(func, Func)
        definition, body = self.body_of(func)
        if isinstance(definition.top, Reduce):
            raise Inseparable(read, f"is another reduction that reads {self._names()}", "add it to the group")
        if isinstance(definition.top, Scan):
            raise Inseparable(read, f"is a scan that reads {self._names()}")
        indices = bounded_indices(read, definition.axes)
        value = filled(read, definition.axes, substitute(body, dict(zip(definition.axes, indices, strict=True))))
        if value.dtype is not func.dtype:
            self._check_rounding(read, value.dtype, func.dtype, func.name)
        return value

    def _names(self) -> str:
        return ", ".join(d.name for d in self.members)

    def _check_rounding(self, factor: Expr, wide: DType, narrow: DType, name: str) -> None:
        if not narrow.is_float or not wide.is_float:
            raise Inseparable(factor, f"is rounded to {narrow}, whose steps do not scale with {self._names()}")
        if widens(wide, narrow):
            return
        if narrow.bits <= 8:
            raise Inseparable(factor, f"saturates in {narrow}, so that it does not scale with {self._names()}")
        if not self.may_round(name):
            raise Inseparable(
                factor,
                f"is rounded to {narrow} at the running value of {self._names()}, not at the final one",
                f"relax: [{{rounding: {name}}}]",
            )

    # ---- products --------------------------------------------------------------------------------------------------

    def form(self, expr: Expr, owner: str) -> Form:
        """The normal form of a summand. ``owner`` names the func whose definition ``expr`` is part of. Raises
        ``Inseparable``."""
        depends = self.depends(expr)
        if Depends.STATE not in depends:
            return Form((Factor(expr),))
        match expr:
            case Op(name=OpName.MUL, args=(a, b)):
                return self.form(a, owner).times(self.form(b, owner))
            case Op(name=OpName.DIV, args=(a, b)) if not self.is_mean(expr):
                return self.form(a, owner).times(self._inverse(self.form(b, owner), b))
            case Op(name=OpName.NEG, args=(a,), dtype=dtype) if dtype.is_float:
                return Form((Factor(Const(-1.0, dtype)),)).times(self.form(a, owner))
            case Op(name=OpName.POW, args=(a, Const(value=2))):
                return self.form(a, owner).times(self.form(a, owner))
            case Op(name=name, args=(a,)) if name in _EXPONENTIALS:
                terms = self.state_terms(a, owner)
                return Form((Factor(expr),), (), tuple((name, term) for term in terms))
            case Read(source=Func() as func) if self.member(func) is None:
                inner = self.form(self.opened(expr), func.name)
                return Form((Factor(expr),), (), inner.exponents) if inner.is_plain else inner
            case Cast(value=value, dtype=dtype):
                return self._cast(expr, value, dtype, owner)
            case Select():
                return self._select(expr, owner)
            case _ if depends is Depends.STATE:
                self._check_own_point(expr)
                return Form((), (Factor(expr),))
            case Op(name=OpName.ADD | OpName.SUB | OpName.FMA, dtype=dtype) if dtype.is_float:
                return self._sum(expr, owner)
            case _:
                raise self._mixes(expr)

    def _mixes(self, expr: Expr) -> Inseparable:
        if isinstance(expr, Op) and not expr.dtype.is_float:
            return Inseparable(expr, f"mixes {self._points()} with {self._names()} in integers, which wrap around")
        why = f"mixes {self._points()} with {self._names()} and is neither an exponential of a sum nor a polynomial"
        return Inseparable(expr, why)

    def _points(self) -> str:
        return ", ".join(axis.name for axis in self.axes)

    def _check_own_point(self, expr: Expr) -> None:
        """Members are read at their own point: another point's running value is not at hand."""
        match expr:
            case Read(source=Func() as func, indices=indices) if (found := self.member(func)) is not None:
                for index, axis in zip(indices, found.axes, strict=True):
                    if not (isinstance(index, AxisRef) and index.axis is axis):
                        raise Inseparable(expr, f"reads {func.name} at another point than its own")
        for child in children(expr):
            self._check_own_point(child)

    def _inverse(self, form: Form, divisor: Expr) -> Form:
        if form.jets:
            raise Inseparable(divisor, f"divides by a sum that mixes {self._points()} with {self._names()}")

        def flip(factors: Sequence[Factor]) -> tuple[Factor, ...]:
            return tuple(Factor(f.expr, not f.inverse) for f in factors)

        exponents = tuple((name, Term(t.expr, not t.negative)) for name, t in form.exponents)
        return Form(flip(form.factors), flip(form.hoisted), exponents)

    def _cast(self, expr: Expr, value: Expr, dtype: DType, owner: str) -> Form:
        read = value.source.name if isinstance(value, Read) and isinstance(value.source, Func) else owner
        if Depends.POINT not in self.depends(expr):
            self._check_own_point(expr)
            return Form((), (Factor(expr),))
        self._check_rounding(expr, value.dtype, dtype, read)
        inner = self.form(value, owner)
        if inner.is_plain:
            return Form((Factor(expr),), (), inner.exponents)
        if not widens(value.dtype, dtype):
            raise Inseparable(expr, "is rounded before it is rescaled")

        def cast(factors: Sequence[Factor]) -> tuple[Factor, ...]:
            return tuple(Factor(Cast(f.expr, dtype), f.inverse) for f in factors)

        jets = tuple(_cast_jet(jet, dtype) for jet in inner.jets)
        return Form(cast(inner.factors), cast(inner.hoisted), inner.exponents, jets)

    def _select(self, expr: Select, owner: str) -> Form:
        if Depends.STATE in self.depends(expr.condition):
            raise Inseparable(expr, f"uses {self._names()} in a condition")
        return self._same_exponents(expr, (expr.then, expr.otherwise), owner)

    def _sum(self, expr: Op, owner: str) -> Form:
        atoms: list[Expr] = []
        try:
            jet = self.jet(expr, owner, atoms)
            if len(atoms) > 1:
                raise Inseparable(expr, "is a polynomial in more than one running value")
            return Form(jets=(jet,))
        except Inseparable as refusal:
            if expr.name is OpName.FMA:
                raise refusal from None
            try:
                return self._same_exponents(expr, expr.args, owner)
            except Inseparable:
                raise refusal from None

    def _same_exponents(self, expr: Expr, branches: Sequence[Expr], owner: str) -> Form:
        """A selection or sum of terms that all scale in the same way scales in that way. A literal zero scales in any
        way."""
        forms = [self.form(b, owner) for b in branches if not (isinstance(b, Const) and b.value == 0)]
        keys = [exponent_key(form.exponents) for form in forms]
        if any(not form.is_plain for form in forms) or any(key != keys[0] for key in keys):
            raise Inseparable(expr, f"has parts that scale differently with {self._names()}")
        return Form((Factor(expr),), (), forms[0].exponents)

    # ---- exponents -------------------------------------------------------------------------------------------------

    def state_terms(self, expr: Expr, owner: str) -> tuple[Term, ...]:
        """The addends of ``expr`` that depend on running values; the rest must not. Raises ``Inseparable``."""
        depends = self.depends(expr)
        if Depends.STATE not in depends:
            return ()
        if depends is Depends.STATE:
            self.check_total(expr)
            return (Term(expr),)
        match expr:
            case Op(name=OpName.ADD, args=(a, b)):
                return self.state_terms(a, owner) + self.state_terms(b, owner)
            case Op(name=OpName.SUB, args=(a, b)):
                return self.state_terms(a, owner) + _negated(self.state_terms(b, owner))
            case Op(name=OpName.NEG, args=(a,), dtype=dtype) if dtype.is_float:
                return _negated(self.state_terms(a, owner))
            case Op(name=OpName.MUL, args=(a, b), dtype=dtype):
                if self.depends(a) is Depends.NOTHING:
                    a, b = b, a
                if self.depends(b) is not Depends.NOTHING:
                    raise Inseparable(expr, f"multiplies {self._points()} with {self._names()} in an exponent")
                terms = self.state_terms(a, owner)
                return tuple(Term(Op(OpName.MUL, (t.expr, b), dtype), t.negative) for t in terms)
            case Op(name=OpName.DIV, args=(a, b), dtype=dtype) if self.depends(b) is Depends.NOTHING:
                terms = self.state_terms(a, owner)
                return tuple(Term(Op(OpName.DIV, (t.expr, b), dtype), t.negative) for t in terms)
            case Cast(value=value, dtype=dtype) if value.dtype.is_float and widens(value.dtype, dtype):
                return tuple(Term(Cast(t.expr, dtype), t.negative) for t in self.state_terms(value, owner))
            case Read(source=Func() as func) if self.member(func) is None:
                return self.state_terms(self.opened(expr), func.name)
            case Select(condition=condition, then=then, otherwise=otherwise) if self.depends(condition) in (
                Depends.NOTHING,
                Depends.POINT,
            ):
                infinite = [b for b in (then, otherwise) if isinstance(b, Const) and b.value == float("-inf")]
                rest = [b for b in (then, otherwise) if b not in infinite]
                if infinite and rest:
                    return self.state_terms(rest[0], owner)
        raise Inseparable(expr, f"is not a sum of a part in {self._points()} and a part in {self._names()}")

    def check_total(self, expr: Expr) -> None:
        """Running values may be anything, zero among them, so what they are rescaled by must be defined everywhere."""
        self._check_own_point(expr)
        match expr:
            case Read(source=Func() as func) if self.member(func) is None:
                if Depends.STATE in self.depends(expr):
                    self.check_total(self.opened(expr))
                return
            case _ if Depends.STATE not in self.depends(expr) or self.is_mean(expr):
                return
            case Read():
                return
            case Op(name=name, args=args, dtype=dtype) if name in _TOTAL and dtype.is_float:
                for arg in args:
                    self.check_total(arg)
                return
            case Op(name=OpName.DIV, args=(a, b)) if Depends.STATE not in self.depends(b):
                self.check_total(a)
                return
            case Cast(value=value, dtype=dtype) if dtype.is_float:
                if value.dtype.is_float and not widens(value.dtype, dtype):
                    raise Inseparable(expr, "is rounded inside of what it is rescaled by")
                self.check_total(value)
                return
        raise Inseparable(expr, f"may be undefined at a running value of {self._names()}")

    # ---- means -----------------------------------------------------------------------------------------------------

    def is_mean(self, expr: Expr) -> bool:
        """A sum over the group's points divided by their number: at a running value it is the mean of the points seen
        so far."""
        return self.mean_of(expr) is not None

    def mean_of(self, expr: Expr) -> tuple[Func, Def | None] | None:
        """``(sum, count)`` of a mean: the count is a member of the group, or None for the number of all points."""
        if not isinstance(expr, Op) or expr.name is not OpName.DIV:
            return None
        total, count = expr.args
        member = self.member(total.source) if isinstance(total, Read) else None
        if member is None or not isinstance(total, Read) or not isinstance(total.source, Func) or not _is_sum(member):
            return None
        while isinstance(count, Cast):
            count = count.value
        top = member.top
        assert isinstance(top, Reduce)
        if isinstance(count, Read) and (counter := self.member(count.source)) is not None and _counts(counter):
            return total.source, counter
        points: IntExpr = product(axis.extent for axis in self.axes)
        if isinstance(count, DimRef) and top.where is None and count.value == points:
            return total.source, None
        return None

    # ---- polynomials -----------------------------------------------------------------------------------------------

    def jet(self, expr: Expr, owner: str, atoms: list[Expr]) -> Jet:
        """``expr`` as a polynomial in the running values that it mentions, which are added to ``atoms`` (each once).
        Raises ``Inseparable``."""
        if Depends.STATE not in self.depends(expr):
            return Jet(expr, ())
        match expr:
            case _ if self.is_mean(expr) or (isinstance(expr, Read) and self.member(expr.source) is not None):
                self._check_own_point(expr)
                if all(key_of(atom) != key_of(expr) for atom in atoms):
                    atoms.append(expr)
                return Jet(expr, (Const(1.0, expr.dtype),))
            case Read(source=Func() as func):
                return self.jet(self.opened(expr), func.name, atoms)
            case Op(name=OpName.ADD | OpName.SUB as name, args=(a, b)):
                return jet_sum(name, self.jet(a, owner, atoms), self.jet(b, owner, atoms), expr)
            case Op(name=OpName.NEG, args=(a,)):
                return jet_product(Jet(Const(-1.0, expr.dtype), ()), self.jet(a, owner, atoms), expr)
            case Op(name=OpName.MUL, args=(a, b)):
                return jet_product(self.jet(a, owner, atoms), self.jet(b, owner, atoms), expr)
            case Op(name=OpName.POW, args=(a, Const(value=2))):
                base = self.jet(a, owner, atoms)
                return jet_product(base, base, expr)
            case Op(name=OpName.DIV, args=(a, b)) if Depends.STATE not in self.depends(b):
                top = self.jet(a, owner, atoms)
                divided = tuple(None if d is None else Op(OpName.DIV, (d, b), expr.dtype) for d in top.derivatives)
                return Jet(expr, divided)
            case Cast(value=value, dtype=dtype) if value.dtype.is_float and widens(value.dtype, dtype):
                return _cast_jet(self.jet(value, owner, atoms), dtype)
            case _:
                raise self._mixes(expr)


# ---- jets -----------------------------------------------------------------------------------------------------------


def jet_sum(name: OpName, a: Jet, b: Jet, value: Expr) -> Jet:
    """The jet of ``a + b`` or ``a - b``, whose value is written ``value``."""
    derivatives: list[Expr | None] = []
    for n in range(max(len(a.derivatives), len(b.derivatives))):
        left = a.derivatives[n] if n < len(a.derivatives) else None
        right = b.derivatives[n] if n < len(b.derivatives) else None
        if right is not None and name is OpName.SUB:
            right = times(Const(-1.0, right.dtype), right)
        derivatives.append(plus(left, right))
    return _checked(Jet(value, tuple(derivatives)))


def jet_product(a: Jet, b: Jet, value: Expr) -> Jet:
    """The jet of ``a * b`` by Leibniz's rule."""
    left, right = (a.value, *a.derivatives), (b.value, *b.derivatives)
    derivatives: list[Expr | None] = []
    for n in range(1, len(left) + len(right) - 1):
        total: Expr | None = None
        for m in range(n + 1):
            if m < len(left) and n - m < len(right):
                x, y = left[m], right[n - m]
                if x is not None and y is not None:
                    total = plus(total, times(Const(float(_binomial(n, m)), value.dtype), times(x, y)))
        derivatives.append(total)
    return _checked(Jet(value, tuple(derivatives)))


def _checked(jet: Jet) -> Jet:
    derivatives = list(jet.derivatives)
    while derivatives and derivatives[-1] is None:
        derivatives.pop()
    if len(derivatives) > MOST_DERIVATIVES:
        raise Inseparable(jet.value, f"is a polynomial of degree {len(derivatives)}; at most {MOST_DERIVATIVES}")
    return Jet(jet.value, tuple(derivatives))


def _cast_jet(jet: Jet, dtype: DType) -> Jet:
    return Jet(Cast(jet.value, dtype), tuple(None if d is None else Cast(d, dtype) for d in jet.derivatives))


def _binomial(n: int, m: int) -> int:
    return 1 if m in (0, n) else _binomial(n - 1, m - 1) + _binomial(n - 1, m)


# ---- expressions ----------------------------------------------------------------------------------------------------


def plus(a: Expr | None, b: Expr | None) -> Expr | None:
    """``a + b``; None is zero."""
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(a.value + b.value, a.dtype)
    return Op(OpName.ADD, (a, b), a.dtype)


def times(a: Expr, b: Expr) -> Expr:
    """``a * b`` with constants gathered on the left."""
    if isinstance(b, Const):
        a, b = b, a
    if isinstance(a, Const):
        if a.value == 1:
            return b
        if isinstance(b, Const):
            return Const(a.value * b.value, a.dtype)
        if isinstance(b, Op) and b.name is OpName.MUL and isinstance(b.args[0], Const):
            return times(Const(a.value * b.args[0].value, a.dtype), b.args[1])
    return Op(OpName.MUL, (a, b), a.dtype)


def multiplied(factors: Sequence[Factor], dtype: DType) -> Expr | None:
    """The product of ``factors`` in ``dtype``; None for no factors."""
    result: Expr | None = None
    for factor in sorted(factors, key=lambda f: f.inverse):
        expr = factor.expr if factor.expr.dtype is dtype else Cast(factor.expr, dtype)
        if factor.inverse:
            result = Op(OpName.DIV, (Const(1.0, dtype) if result is None else result, expr), dtype)
        else:
            result = expr if result is None else times(result, expr)
    return result


def exponent_key(exponents: Sequence[tuple[OpName, Term]]) -> tuple[Key, ...]:
    """Equal for exponents that scale alike."""
    return tuple(sorted(((name, term.negative, key_of(term.expr)) for name, term in exponents), key=repr))


def widens(narrow: DType, wide: DType) -> bool:
    """Whether every value of the float type ``narrow`` is exact in the float type ``wide``."""
    if narrow is wide:
        return True
    if not (narrow.is_float and wide.is_float):
        return False
    return narrow.bits < wide.bits or (narrow is DType.TF32 and wide is DType.F32)


def _negated(terms: Sequence[Term]) -> tuple[Term, ...]:
    return tuple(Term(term.expr, not term.negative) for term in terms)


def _is_sum(definition: Def) -> bool:
    return isinstance(definition.top, Reduce) and definition.top.op is ReduceOp.SUM


def _counts(definition: Def) -> bool:
    if not _is_sum(definition) or not isinstance(definition.top, Reduce):
        return False
    (expr,) = definition.top.exprs
    while isinstance(expr, Cast):
        expr = expr.value
    return isinstance(expr, Const) and expr.value == 1
