"""Conditions: comparisons of integer expressions, atoms about a call's arguments, and/or/not.

Import them from :mod:`texpr.math.expr`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import groupby
from typing import Final, TypeAlias, assert_never, cast

from texpr.math.integer import Const, IntExpr, as_integer
from texpr.math.interning import Interned


class _Boolean(Interned):
    """What conditions share."""

    __slots__ = ()

    def __str__(self) -> str:
        return _text(cast("BoolExpr", self))[0]


class CompareOp(Enum):
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    EQ = "=="
    NE = "!="


class AtomKind(Enum):
    ALIGNED = "aligned"
    """The address of ``names[0]`` is a multiple of ``number`` bytes."""
    PRESENT = "present"
    """The optional tensor ``names[0]`` was passed."""
    DISJOINT = "disjoint"
    """The byte ranges of the two tensors ``names`` do not overlap."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Literal(_Boolean):
    value: bool


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Compare(_Boolean):
    op: CompareOp
    lhs: IntExpr
    rhs: IntExpr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class And(_Boolean):
    args: tuple[BoolExpr, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Or(_Boolean):
    args: tuple[BoolExpr, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Not(_Boolean):
    """Only ever around an :class:`Atom` or a :class:`TypeIn`: :func:`negation` pushes it down."""

    arg: BoolExpr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Atom(_Boolean):
    """A condition on the arguments of a call that is no integer comparison.

    Built by :func:`aligned`, :func:`present` and :func:`disjoint`.
    """

    kind: AtomKind
    names: tuple[str, ...]
    number: int | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TypeIn(_Boolean):
    """The type variable is bound to one of the named dtypes."""

    variable: str
    names: tuple[str, ...]


BoolExpr: TypeAlias = Literal | Compare | And | Or | Not | Atom | TypeIn

TRUE: Final = Literal(True)
FALSE: Final = Literal(False)


_NEGATED: Final = {
    CompareOp.LT: CompareOp.GE,
    CompareOp.LE: CompareOp.GT,
    CompareOp.GT: CompareOp.LE,
    CompareOp.GE: CompareOp.LT,
    CompareOp.EQ: CompareOp.NE,
    CompareOp.NE: CompareOp.EQ,
}
_HOLDS: Final[dict[CompareOp, Callable[[int, int], bool]]] = {
    CompareOp.LT: operator.lt,
    CompareOp.LE: operator.le,
    CompareOp.GT: operator.gt,
    CompareOp.GE: operator.ge,
    CompareOp.EQ: operator.eq,
    CompareOp.NE: operator.ne,
}


def holds(op: CompareOp, a: int, b: int) -> bool:
    """``a op b`` for plain numbers."""
    return _HOLDS[op](a, b)


def compare(op: CompareOp, a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    """``a op b``; a literal when the difference is a constant.

    The sides are not moved around: guards print as their author wrote them.
    """
    lhs, rhs = as_integer(a), as_integer(b)
    difference = lhs - rhs
    if isinstance(difference, Const):
        return Literal(holds(op, difference.value, 0))
    return Compare(op, lhs, rhs)


def lt(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    return compare(CompareOp.LT, a, b)


def le(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    return compare(CompareOp.LE, a, b)


def gt(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    return compare(CompareOp.GT, a, b)


def ge(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    return compare(CompareOp.GE, a, b)


def eq(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    return compare(CompareOp.EQ, a, b)


def ne(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    return compare(CompareOp.NE, a, b)


def conjunction(*values: BoolExpr) -> BoolExpr:
    """True when all are (and when there are none). Flattened, without duplicates, in the given order."""
    flat = _flatten(And, values)
    if FALSE in flat or any(negation(value) in flat for value in flat):
        return FALSE
    kept = tuple(value for value in flat if value is not TRUE)
    return And(kept) if len(kept) > 1 else kept[0] if kept else TRUE


def disjunction(*values: BoolExpr) -> BoolExpr:
    """True when one is; false when there are none. Flattened, without duplicates, in the given order."""
    flat = _flatten(Or, values)
    if TRUE in flat or any(negation(value) in flat for value in flat):
        return TRUE
    kept = tuple(value for value in flat if value is not FALSE)
    return Or(kept) if len(kept) > 1 else kept[0] if kept else FALSE


def _flatten(kind: type[And] | type[Or], values: Iterable[BoolExpr]) -> dict[BoolExpr, None]:
    flat: dict[BoolExpr, None] = {}
    for value in values:
        parts = value.args if isinstance(value, And | Or) and isinstance(value, kind) else (value,)
        flat.update(dict.fromkeys(parts))
    return flat


@cache
def negation(value: BoolExpr) -> BoolExpr:
    """The complement, with the negation pushed down to atoms."""
    match value:
        case Literal(truth):
            return Literal(not truth)
        case Compare(op, lhs, rhs):
            return Compare(_NEGATED[op], lhs, rhs)
        case And(args):
            return disjunction(*(negation(arg) for arg in args))
        case Or(args):
            return conjunction(*(negation(arg) for arg in args))
        case Not(arg):
            return arg
        case Atom() | TypeIn():
            return Not(value)
        case _:
            assert_never(value)


def aligned(*names: str, to: int) -> BoolExpr:
    """Every named tensor starts at a multiple of ``to`` bytes; one atom for each."""
    return conjunction(*(Atom(AtomKind.ALIGNED, (name,), to) for name in names))


def present(*names: str) -> BoolExpr:
    """Every named optional tensor is passed; one atom for each."""
    return conjunction(*(Atom(AtomKind.PRESENT, (name,), None) for name in names))


def disjoint(a: str, b: str) -> BoolExpr:
    """The two tensors do not overlap (symmetric: the names are sorted)."""
    return Atom(AtomKind.DISJOINT, tuple(sorted((a, b))), None)


# Text. The second member of a result is its precedence: 1 or, 2 and, 3 not, 4 comparison or atom.


@cache
def _text(e: BoolExpr) -> tuple[str, int]:
    match e:
        case Literal(value):
            return ("true" if value else "false"), 4
        case Compare(op, lhs, rhs):
            return f"{lhs} {op.value} {rhs}", 4
        case Or(args):
            return " or ".join(_enclosed(arg, 2) for arg in args), 1
        case And(args):
            parts = _and_parts(args)
            return " and ".join(parts), 2 if len(parts) > 1 else 4
        case Not(TypeIn(variable, names)):
            return _type_text(variable, names, "!=", "not in"), 4
        case Not(arg):
            return f"not {_enclosed(arg, 3)}", 3
        case Atom(kind, names, number):
            return f"{kind.value}({', '.join(names)}{'' if number is None else f', {number}'})", 4
        case TypeIn(variable, names):
            return _type_text(variable, names, "==", "in"), 4
        case _:
            assert_never(e)


def _type_text(variable: str, names: tuple[str, ...], is_one: str, is_in: str) -> str:
    return f"{variable} {is_one} {names[0]}" if len(names) == 1 else f"{variable} {is_in} [{', '.join(names)}]"


def _enclosed(e: BoolExpr, at_least: int) -> str:
    text, precedence = _text(e)
    return text if precedence >= at_least else f"({text})"


def _and_parts(args: tuple[BoolExpr, ...]) -> list[str]:
    """One text per conjunct, but ``aligned(x, y, 16)`` for neighbours ``aligned(x, 16)`` and ``aligned(y, 16)``."""
    parts: list[str] = []
    for mergeable, group in groupby(args, key=_merge_key):
        members = list(group)
        if mergeable is not None and len(members) > 1:
            kind, number = mergeable
            names = tuple(name for member in members if isinstance(member, Atom) for name in member.names)
            parts.append(_text(Atom(kind, names, number))[0])
        else:
            parts += [_enclosed(member, 3) for member in members]
    return parts


def _merge_key(e: BoolExpr) -> tuple[AtomKind, int | None] | None:
    if isinstance(e, Atom) and e.kind is not AtomKind.DISJOINT:
        return e.kind, e.number
    return None
