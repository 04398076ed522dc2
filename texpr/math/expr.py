"""Integer and boolean expressions over named symbols: the one module the other layers import.

Nodes are hash-consed (structural equality is identity) and canonicalised when built: equal polynomials are identical
objects. Build with the operators and functions re-exported here; the node classes are for ``match`` only. Semantics are
those of Python's integers: unbounded, ``//`` and ``%`` floor. Division by zero is undefined: a rewrite may drop it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeAlias, assert_never, overload

from texpr.math.integer import (
    ONE,
    ZERO,
    Add,
    Const,
    FloorDiv,
    IntExpr,
    Max,
    Min,
    Mod,
    Monomial,
    Mul,
    Sym,
    Terms,
    as_integer,
    ceildiv,
    const,
    from_terms,
    maximum,
    minimum,
    product,
    sym,
    terms_of,
    total,
)
from texpr.math.logic import (
    FALSE,
    TRUE,
    And,
    Atom,
    AtomKind,
    BoolExpr,
    Compare,
    CompareOp,
    Literal,
    Not,
    Or,
    TypeIn,
    aligned,
    compare,
    conjunction,
    disjoint,
    disjunction,
    eq,
    ge,
    gt,
    holds,
    le,
    lt,
    ne,
    negation,
    present,
)

__all__ = [
    "FALSE",
    "ONE",
    "TRUE",
    "ZERO",
    "Add",
    "And",
    "Atom",
    "AtomKind",
    "AtomValues",
    "BoolExpr",
    "Compare",
    "CompareOp",
    "Const",
    "Expr",
    "FloorDiv",
    "IntExpr",
    "Literal",
    "Max",
    "Min",
    "Mod",
    "Monomial",
    "Mul",
    "Not",
    "Or",
    "Sym",
    "Terms",
    "TypeIn",
    "affine",
    "aligned",
    "as_integer",
    "atoms_of",
    "ceildiv",
    "children",
    "compare",
    "conjunction",
    "const",
    "denominators",
    "disjoint",
    "disjunction",
    "eq",
    "evaluate",
    "free_symbols",
    "from_terms",
    "ge",
    "gt",
    "holds",
    "le",
    "lt",
    "maximum",
    "minimum",
    "ne",
    "negation",
    "present",
    "product",
    "substitute",
    "sym",
    "terms_of",
    "total",
]

Expr: TypeAlias = IntExpr | BoolExpr


def children(e: Expr) -> tuple[Expr, ...]:
    """Direct subexpressions, in order."""
    match e:
        case Const() | Sym() | Literal() | Atom() | TypeIn():
            return ()
        case Add(args) | Mul(args) | Min(args) | Max(args):
            return args
        case And(args) | Or(args):
            return args
        case FloorDiv(num, den) | Mod(num, den):
            return (num, den)
        case Compare(_, lhs, rhs):
            return (lhs, rhs)
        case Not(arg):
            return (arg,)
        case _:
            assert_never(e)


@cache
def free_symbols(e: Expr) -> frozenset[str]:
    """Names of the integer symbols in ``e`` (not tensors of atoms, not type variables)."""
    if isinstance(e, Sym):
        return frozenset([e.name])
    return frozenset[str]().union(*(free_symbols(child) for child in children(e)))


@cache
def denominators(e: Expr) -> frozenset[IntExpr]:
    """What ``e`` divides by, but for literals."""
    found = frozenset[IntExpr]().union(*(denominators(child) for child in children(e)))
    return found | {e.den} if isinstance(e, FloorDiv | Mod) and not isinstance(e.den, Const) else found


@cache
def atoms_of(e: Expr) -> frozenset[Atom | TypeIn]:
    """The non-integer conditions in ``e``."""
    if isinstance(e, Atom | TypeIn):
        return frozenset([e])
    return frozenset[Atom | TypeIn]().union(*(atoms_of(child) for child in children(e)))


@overload
def substitute(e: IntExpr, values: Mapping[str, IntExpr | int]) -> IntExpr: ...
@overload
def substitute(e: BoolExpr, values: Mapping[str, IntExpr | int]) -> BoolExpr: ...
def substitute(e: Expr, values: Mapping[str, IntExpr | int]) -> Expr:
    """``e`` with the named symbols replaced, all at once, and canonicalised again."""
    if free_symbols(e).isdisjoint(values):
        return e
    match e:
        case Sym(name):
            return as_integer(values[name])
        case Add(args):
            return total(substitute(arg, values) for arg in args)
        case Mul(args):
            return product(substitute(arg, values) for arg in args)
        case FloorDiv(num, den):
            return substitute(num, values) // substitute(den, values)
        case Mod(num, den):
            return substitute(num, values) % substitute(den, values)
        case Min(args):
            return minimum(*(substitute(arg, values) for arg in args))
        case Max(args):
            return maximum(*(substitute(arg, values) for arg in args))
        case Compare(op, lhs, rhs):
            return compare(op, substitute(lhs, values), substitute(rhs, values))
        case And(args):
            return conjunction(*(substitute(arg, values) for arg in args))
        case Or(args):
            return disjunction(*(substitute(arg, values) for arg in args))
        case Not(arg):
            return negation(substitute(arg, values))
        case Const() | Literal() | Atom() | TypeIn():
            return e
        case _:
            assert_never(e)


AtomValues: TypeAlias = Callable[[Atom | TypeIn], bool]


def _no_atoms(atom: Atom | TypeIn) -> bool:
    raise ValueError(f"the value of {atom} is not given")


@overload
def evaluate(e: IntExpr, values: Mapping[str, int], atoms: AtomValues = ...) -> int: ...
@overload
def evaluate(e: BoolExpr, values: Mapping[str, int], atoms: AtomValues = ...) -> bool: ...
def evaluate(e: Expr, values: Mapping[str, int], atoms: AtomValues = _no_atoms) -> int | bool:
    """The value at one point; ``and`` and ``or`` stop early.

    Raises KeyError for a symbol without a value and ZeroDivisionError.
    """
    match e:
        case Const(value):
            return value
        case Sym(name):
            return values[name]
        case Add(args):
            return sum(evaluate(arg, values) for arg in args)
        case Mul(args):
            return math.prod(evaluate(arg, values) for arg in args)
        case FloorDiv(num, den):
            return evaluate(num, values) // evaluate(den, values)
        case Mod(num, den):
            return evaluate(num, values) % evaluate(den, values)
        case Min(args):
            return min(evaluate(arg, values) for arg in args)
        case Max(args):
            return max(evaluate(arg, values) for arg in args)
        case Literal(truth):
            return truth
        case Compare(op, lhs, rhs):
            return holds(op, evaluate(lhs, values), evaluate(rhs, values))
        case And(args):
            return all(evaluate(arg, values, atoms) for arg in args)
        case Or(args):
            return any(evaluate(arg, values, atoms) for arg in args)
        case Not(arg):
            return not evaluate(arg, values, atoms)
        case Atom() | TypeIn():
            return atoms(e)
        case _:
            assert_never(e)


def affine(e: IntExpr) -> tuple[dict[str, int], int] | None:
    """``({symbol: coefficient}, constant)`` when ``e`` is affine in its symbols, else None."""
    coefficients: dict[str, int] = {}
    constant = 0
    for monomial, coefficient in terms_of(e).items():
        match monomial:
            case ():
                constant = coefficient
            case (Sym(name),):
                coefficients[name] = coefficient
            case _:
                return None
    return coefficients, constant
