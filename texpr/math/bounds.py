"""What is assumed, and what follows cheaply from it: ranges and divisors of integer expressions.

A comparison becomes ``form >= 0``, a sum of monomials. Its primitive part (without constant, divided by the gcd of the
coefficients) keys a range; ranges spread to the single monomials of a form by a few rounds of bounds propagation.
``n % 8 == 0`` and equations give residues, which travel through sums, products, quotients and remainders.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Final, assert_never

from texpr.math.expr import (
    ZERO,
    Add,
    And,
    Atom,
    BoolExpr,
    Compare,
    CompareOp,
    Const,
    FloorDiv,
    IntExpr,
    Literal,
    Max,
    Min,
    Mod,
    Mul,
    Not,
    Or,
    Sym,
    TypeIn,
    as_integer,
    conjunction,
    from_terms,
    ge,
    sym,
    terms_of,
)
from texpr.math.intervals import ANY, EMPTY, UNKNOWN, Bounds, Residue, residue_class

__all__ = ["ANY", "Bounds", "Facts", "bounds", "divisor", "inequalities", "residue"]

_ROUNDS: Final = 4
"""Bounds propagation steps; each can carry a bound across one more inequality."""


@dataclass(frozen=True, slots=True)
class Facts:
    """An immutable set of conditions that hold; conjunctions are taken apart. Dims are not taken to be non-negative."""

    assumptions: tuple[BoolExpr, ...] = ()

    def assume(self, *conditions: BoolExpr) -> Facts:
        """These facts and some more."""
        match conjunction(*self.assumptions, *conditions):
            case And(args):
                return Facts(args)
            case Literal(True):
                return Facts()
            case single:
                return Facts((single,))

    @staticmethod
    def nonnegative(names: Iterable[str]) -> Facts:
        return Facts().assume(*(ge(sym(name), 0) for name in names))


@dataclass(slots=True)
class _Known:
    """What :func:`_derive` found, by primitive form."""

    ranges: dict[IntExpr, Bounds] = field(default_factory=dict)
    residues: dict[IntExpr, Residue] = field(default_factory=dict)
    contradiction: bool = False


@cache
def bounds(e: IntExpr | int, facts: Facts) -> Bounds:
    """The range of ``e`` wherever ``facts`` hold: sound, not always the tightest; empty for contradictory facts."""
    known = _derive(facts)
    if known.contradiction:
        return EMPTY
    return _residue(as_integer(e), known).tighten(_range(as_integer(e), known))


@cache
def residue(e: IntExpr | int, facts: Facts) -> Residue:
    """What is known of the remainders of ``e`` wherever ``facts`` hold."""
    return _residue(as_integer(e), _derive(facts))


@cache
def divisor(e: IntExpr | int, facts: Facts) -> int:
    """The largest ``d`` known to divide ``e`` wherever ``facts`` hold; 0 when ``e`` is zero."""
    return residue(e, facts).divisor


@cache
def inequalities(condition: BoolExpr) -> tuple[IntExpr, ...]:
    """Expressions that are all >= 0 when ``condition`` holds, and for a comparison other than ``!=`` only then."""
    match condition:
        case And(args):
            return tuple(form for arg in args for form in inequalities(arg))
        case Compare(op, lhs, rhs):
            forms = _comparison_forms(op, lhs - rhs)
            return tuple(simple for form in forms for simple in _without_extrema(form))
        case Literal(False):
            return (Const(-1),)
        case Literal() | Or() | Not() | Atom() | TypeIn():
            return ()
        case _:
            assert_never(condition)


def _comparison_forms(op: CompareOp, difference: IntExpr) -> list[IntExpr]:
    match op:
        case CompareOp.LT:
            return [-difference - 1]
        case CompareOp.LE:
            return [-difference]
        case CompareOp.GT:
            return [difference - 1]
        case CompareOp.GE:
            return [difference]
        case CompareOp.EQ:
            return [difference, -difference]
        case CompareOp.NE:
            return []
        case _:
            assert_never(op)


def _without_extrema(form: IntExpr) -> list[IntExpr]:
    """``min(a, b) - c >= 0`` holds exactly when ``a - c >= 0`` and ``b - c >= 0``; likewise ``-max``."""
    for monomial, coefficient in terms_of(form).items():
        if len(monomial) == 1 and isinstance(monomial[0], Min if coefficient > 0 else Max):
            extremum = monomial[0]
            assert isinstance(extremum, Min | Max)
            rest = form - coefficient * extremum
            return [simple for arg in extremum.args for simple in _without_extrema(rest + coefficient * arg)]
    return [form]


@cache
def _primitive(e: IntExpr) -> tuple[IntExpr, int, int]:
    """``(form, k, c)`` with ``e == k*form + c``; ``form`` starts positive; ``(0, 0, c)`` for a constant."""
    terms = terms_of(e)
    constant = terms.get((), 0)
    coefficients = {m: c for m, c in terms.items() if m}
    if not coefficients:
        return ZERO, 0, constant
    k = math.gcd(*coefficients.values())
    if coefficients[min(coefficients, key=lambda monomial: [str(factor) for factor in monomial])] < 0:
        k = -k
    return from_terms({m: c // k for m, c in coefficients.items()}), k, constant


# Deriving.


@cache
def _derive(facts: Facts) -> _Known:
    known = _Known()
    forms = [form for fact in facts.assumptions for form in inequalities(fact)]
    equations = [_difference(fact) for fact in facts.assumptions if _compares(fact, CompareOp.EQ)]
    unequal = [_difference(fact) for fact in facts.assumptions if _compares(fact, CompareOp.NE)]
    for form in forms:
        _learn_nonnegative(form, known)
    for _ in range(_ROUNDS):
        before = dict(known.ranges), dict(known.residues)
        for e in equations:
            _learn_equation(e, known)
        for e in unequal:
            _learn_unequal(e, known)
        for form in forms:
            _propagate(form, known)
        if before == (known.ranges, known.residues):
            break
    known.contradiction |= any(range_.empty for range_ in known.ranges.values())
    return known


def _compares(fact: BoolExpr, op: CompareOp) -> bool:
    return isinstance(fact, Compare) and fact.op is op


@cache
def _difference(fact: BoolExpr) -> IntExpr:
    assert isinstance(fact, Compare)
    return fact.lhs - fact.rhs


def _learn_range(form: IntExpr, learned: Bounds, known: _Known) -> None:
    known.ranges[form] = known.residues.get(form, UNKNOWN).tighten(known.ranges.get(form, ANY).meet(learned))


def _learn_nonnegative(e: IntExpr, known: _Known) -> None:
    form, k, c = _primitive(e)
    if k > 0:
        _learn_range(form, Bounds(-(c // k), None), known)
    elif k < 0:
        _learn_range(form, Bounds(None, c // -k), known)
    elif c < 0:
        known.contradiction = True


def _propagate(form: IntExpr, known: _Known) -> None:
    """From ``sum of c*t >= 0``, for each monomial ``t``: ``c*t >= -(the most that the others can be)``."""
    for t, coefficient, rest in _isolated(form):
        most = _range(rest, known).hi
        if most is None:
            continue
        learned = Bounds(-(most // coefficient), None) if coefficient > 0 else Bounds(None, most // -coefficient)
        _learn_range(t, learned, known)


@cache
def _isolated(e: IntExpr) -> tuple[tuple[IntExpr, int, IntExpr], ...]:
    """For each monomial with symbols: the monomial, its coefficient, and the sum of the other terms."""
    terms = [(from_terms({m: 1}), c) for m, c in terms_of(e).items() if m]
    return tuple((t, c, e - c * t) for t, c in terms)


def _learn_equation(e: IntExpr, known: _Known) -> None:
    """``e == 0``: the residue of each monomial with coefficient 1 or -1, and of what stands before a ``%``."""
    for t, coefficient, rest in _isolated(e):
        if abs(coefficient) == 1:
            _learn_residue(t, residue_class(0, -coefficient) * _residue(rest, known), known)
        if (
            isinstance(t, Mod)
            and isinstance(t.den, Const)
            and isinstance(rest, Const)
            and rest.value % coefficient == 0
        ):
            _learn_residue(t.num, residue_class(t.den.value, -rest.value // coefficient), known)


def _learn_residue(e: IntExpr, learned: Residue, known: _Known) -> None:
    """Stored for the primitive form of ``e``: from ``k*form + c`` with ``k`` invertible modulo the modulus."""
    form, k, c = _primitive(e)
    if k == 0 or math.gcd(k, learned.modulus) != 1:
        return
    shifted = learned.remainder - c
    value = shifted * pow(k, -1, learned.modulus) if learned.modulus else shifted * k
    known.residues[form] = known.residues.get(form, UNKNOWN).meet(residue_class(learned.modulus, value))
    _learn_range(form, ANY, known)


def _learn_unequal(e: IntExpr, known: _Known) -> None:
    """``e != 0`` moves an end of the range that is zero."""
    range_ = _range(e, known)
    if range_.lo == 0:
        _learn_nonnegative(e - 1, known)
    if range_.hi == 0:
        _learn_nonnegative(-e - 1, known)


# Ranges and residues of expressions.


def _range(e: IntExpr, known: _Known) -> Bounds:
    form, k, c = _primitive(e)
    structural = _structural_range(e, known)
    found = known.ranges.get(form)
    return structural if found is None or k == 0 else structural.meet(found * Bounds(k, k) + Bounds(c, c))


def _structural_range(e: IntExpr, known: _Known) -> Bounds:
    match e:
        case Const(value):
            return Bounds(value, value)
        case Sym():
            return ANY
        case Add(args):
            return reduce(Bounds.__add__, (_range(arg, known) for arg in args))
        case Mul(args):
            return reduce(Bounds.__mul__, (_range(arg, known) for arg in args))
        case FloorDiv(num, den):
            return _range(num, known).floordiv(_range(den, known))
        case Mod(num, den):
            return _residue(e, known).tighten(_range(num, known).mod(_range(den, known)))
        case Min(args):
            return _least([_range(arg, known) for arg in args])
        case Max(args):
            negated = _least([_range(arg, known) * Bounds(-1, -1) for arg in args])
            return negated * Bounds(-1, -1)
        case _:
            assert_never(e)


def _least(ranges: list[Bounds]) -> Bounds:
    """The range of a minimum: its ends are the least ends."""
    lows = [r.lo for r in ranges if r.lo is not None]
    highs = [r.hi for r in ranges if r.hi is not None]
    return Bounds(min(lows) if len(lows) == len(ranges) else None, min(highs, default=None))


def _residue(e: IntExpr, known: _Known) -> Residue:
    form, k, c = _primitive(e)
    if k == 0:
        return residue_class(0, c)
    found = residue_class(0, k) * known.residues.get(form, UNKNOWN) + residue_class(0, c)
    return found.meet(_structural_residue(e, known))


def _structural_residue(e: IntExpr, known: _Known) -> Residue:
    match e:
        case Const(value):
            return residue_class(0, value)
        case Sym():
            return UNKNOWN
        case Add(args):
            return reduce(Residue.__add__, (_residue(arg, known) for arg in args))
        case Mul(args):
            return reduce(Residue.__mul__, (_residue(arg, known) for arg in args))
        case FloorDiv(num, Const(den)):
            return _residue(num, known).floordiv(den)
        case Mod(num, Const(den)):
            return _residue(num, known).mod(den)
        case Min(args) | Max(args):
            return reduce(Residue.join, (_residue(arg, known) for arg in args))
        case FloorDiv() | Mod():
            return UNKNOWN
        case _:
            assert_never(e)
