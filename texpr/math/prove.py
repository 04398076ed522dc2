"""Three-valued proofs, and simplification by what is known.

Ranges and residues decide most questions without any library; :mod:`texpr.math.model` looks for a counterexample to the
rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias, assert_never, overload

from texpr.math.bounds import Facts, bounds, divisor, inequalities
from texpr.math.expr import (
    FALSE,
    TRUE,
    ZERO,
    Add,
    And,
    Atom,
    BoolExpr,
    Compare,
    CompareOp,
    Const,
    Expr,
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
    compare,
    conjunction,
    from_terms,
    le,
    lt,
    maximum,
    minimum,
    negation,
    product,
    terms_of,
    total,
)
from texpr.math.model import Model, Unknown, Unsatisfiable, find_model

__all__ = ["Proof", "Proved", "Refuted", "Unknown", "is_proved", "prove", "simplify"]


@dataclass(frozen=True, slots=True)
class Proved:
    """The goal holds wherever the facts do."""


@dataclass(frozen=True, slots=True)
class Refuted:
    """The facts hold at this point and the goal does not."""

    counterexample: dict[str, int]
    atoms: dict[Atom | TypeIn, bool] = field(default_factory=dict)


Proof: TypeAlias = Proved | Refuted | Unknown


@cache
def prove(goal: BoolExpr, facts: Facts) -> Proof:
    """Does ``goal`` hold at every point where ``facts`` hold and nothing divides by zero?"""
    if isinstance(goal, And):
        unknown: Unknown | None = None
        for part in goal.args:
            proof = prove(part, facts)
            if isinstance(proof, Refuted):
                return proof
            if isinstance(proof, Unknown):
                unknown = unknown or proof
        return unknown or Proved()
    if _follows_cheaply(goal, facts):
        return Proved()
    match find_model(facts, negation(goal)):
        case Unsatisfiable():
            return Proved()
        case Model(values, atoms):
            return Refuted(values, atoms)
        case Unknown(reason):
            return Unknown(f"cannot decide {goal}: {reason}")


def is_proved(goal: BoolExpr, facts: Facts) -> bool:
    """:func:`prove` where only certainty matters."""
    return isinstance(prove(goal, facts), Proved)


def _follows_cheaply(goal: BoolExpr, facts: Facts) -> bool:
    match goal:
        case Literal(value):
            return value
        case Or(args):
            return any(_follows_cheaply(arg, facts) for arg in args)
        case And(args):
            return all(_follows_cheaply(arg, facts) for arg in args)
        case Atom() | TypeIn() | Not():
            return goal in facts.assumptions
        case Compare(CompareOp.NE, lhs, rhs):
            apart = _is_nonnegative(lhs - rhs - 1, facts) or _is_nonnegative(rhs - lhs - 1, facts)
            return apart or goal in facts.assumptions
        case Compare():
            return all(_is_nonnegative(form, facts) for form in inequalities(goal))
        case _:
            assert_never(goal)


def _is_nonnegative(form: IntExpr, facts: Facts) -> bool:
    """By range, or because it is at least a form that a fact makes non-negative."""
    if _low(form, facts) >= 0:
        return True
    for monomial, coefficient in terms_of(form).items():
        if len(monomial) == 1 and isinstance(monomial[0], Max if coefficient > 0 else Min):
            extremum = monomial[0]
            assert isinstance(extremum, Min | Max)
            rest = form - coefficient * extremum
            return any(_is_nonnegative(rest + coefficient * arg, facts) for arg in extremum.args)
    monomials = terms_of(form).keys()
    return any(
        _low(form - known, facts) >= 0
        for fact in facts.assumptions
        for known in inequalities(fact)
        if len(terms_of(known).keys() & monomials) > 1
    )


def _low(e: IntExpr, facts: Facts) -> float:
    low = bounds(e, facts).lo
    return float("-inf") if low is None else low


# Simplification.


@overload
def simplify(e: IntExpr, facts: Facts) -> IntExpr: ...
@overload
def simplify(e: BoolExpr, facts: Facts) -> BoolExpr: ...
@cache
def simplify(e: Expr, facts: Facts) -> Expr:
    """An expression that is equal wherever ``facts`` hold and nothing divides by zero.

    Removes divisions whose quotient is known, dominated arguments of min and max, and conditions that are always or
    never true.
    """
    match e:
        case Const() | Sym() | Add() | Mul() | FloorDiv() | Mod() | Min() | Max():
            value = bounds(e, facts).value
            return _simplify_integer(e, facts) if value is None else Const(value)
        case And(args):
            return _simplify_conjunction(args, facts)
        case Or(args):
            return negation(_simplify_conjunction(tuple(negation(arg) for arg in args), facts))
        case Literal() | Compare() | Not() | Atom() | TypeIn():
            if is_proved(e, facts):
                return TRUE
            if is_proved(negation(e), facts):
                return FALSE
            return compare(e.op, simplify(e.lhs, facts), simplify(e.rhs, facts)) if isinstance(e, Compare) else e
        case _:
            assert_never(e)


def _simplify_conjunction(args: tuple[BoolExpr, ...], facts: Facts) -> BoolExpr:
    """Each member under the assumption of the ones before it and, already simplified or not, the ones after it."""
    kept: list[BoolExpr] = []
    for position, arg in enumerate(args):
        simple = simplify(arg, facts.assume(*kept, *args[position + 1 :]))
        if simple is FALSE:
            return FALSE
        kept.append(simple)
    return conjunction(*kept)


def _simplify_integer(e: IntExpr, facts: Facts) -> IntExpr:
    match e:
        case Const() | Sym():
            return e
        case Add(args):
            return total(simplify(arg, facts) for arg in args)
        case Mul(args):
            return product(simplify(arg, facts) for arg in args)
        case FloorDiv(num, den):
            return _simplify_division(simplify(num, facts), simplify(den, facts), facts)[0]
        case Mod(num, den):
            return _simplify_division(simplify(num, facts), simplify(den, facts), facts)[1]
        case Min(args):
            return minimum(*_undominated(tuple(simplify(arg, facts) for arg in args), facts, smaller=True))
        case Max(args):
            return maximum(*_undominated(tuple(simplify(arg, facts) for arg in args), facts, smaller=False))
        case _:
            assert_never(e)


def _simplify_division(num: IntExpr, den: IntExpr, facts: Facts) -> tuple[IntExpr, IntExpr]:
    """``(num // den, num % den)``; what ``den`` divides is split off, the rest may have a known quotient."""
    if not isinstance(den, Const):
        if is_proved(conjunction(le(0, num), lt(num, den)), facts):
            return ZERO, num
        return num // den, num % den
    multiples = total(
        from_terms({monomial: coefficient})
        for monomial, coefficient in terms_of(num).items()
        if monomial and divisor(from_terms({monomial: coefficient}), facts) % den.value == 0
    )
    rest = num - multiples
    quotient = bounds(rest // den, facts).value
    if quotient is None:
        return num // den, rest % den
    return multiples // den + quotient, rest - quotient * den


def _undominated(args: tuple[IntExpr, ...], facts: Facts, smaller: bool) -> list[IntExpr]:
    """Without the arguments that another one always beats or equals."""
    kept = list(args)
    for arg in args:
        others = [other for other in kept if other is not arg]
        if any(is_proved(le(other, arg) if smaller else le(arg, other), facts) for other in others):
            kept = others
    return kept
