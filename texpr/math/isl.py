"""The only module that knows islpy: integer points and extrema of sets given by quasi-affine conditions.

Conditions and expressions go in as :class:`BoolExpr` and :class:`IntExpr` that are quasi-affine (no product of symbols,
literal divisors, no atoms); numbers and :class:`IntExpr` come out. Work is limited by isl's operation count, not by
time, so that an answer does not depend on the machine; past the limit, and where isl has no answer, :class:`GaveUp` is
raised.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, assert_never

from texpr.math.expr import (
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
    eq,
    free_symbols,
    from_terms,
    ge,
    lt,
    sym,
    terms_of,
)

if TYPE_CHECKING:
    import islpy

OPERATION_LIMIT: Final = 200_000
"""Per question; about a tenth of a second. Usual questions take a few hundred."""

_VALUE: Final = "$value"
_thread: Final = threading.local()


class GaveUp(Exception):
    """No answer within the limits; the message says why."""


def find_point(conditions: Sequence[BoolExpr]) -> dict[str, int] | None:
    """An integer point where all conditions hold, or None when there is none."""
    import islpy as isl

    names = _symbols(conditions)
    with _context() as context:
        found = _set(context, [], names, conditions)
        if found.is_empty():
            return None
        point = found.sample_point()
        return {name: int(point.get_coordinate_val(isl.dim_type.set, d).to_python()) for d, name in enumerate(names)}


def greatest(e: IntExpr, conditions: Sequence[BoolExpr]) -> int:
    """The maximum of ``e`` where all conditions hold; they must hold somewhere.

    :class:`GaveUp` when it is unbounded.
    """
    wanted = [*conditions, eq(sym(_VALUE), e)]
    names = _symbols(wanted)
    with _context() as context:
        top = _set(context, [], names, wanted).dim_max_val(names.index(_VALUE))
        if not top.is_int():
            raise GaveUp(f"{e} has no greatest value")
        return int(top.to_python())


def extrema(e: IntExpr, conditions: Sequence[BoolExpr], inner: Sequence[str]) -> tuple[IntExpr, IntExpr]:
    """The minimum and the maximum of ``e`` over the ``inner`` symbols, as expressions in the others.

    :class:`GaveUp` when one is unbounded or has different forms in different places.
    """
    import islpy as isl

    wanted = [*conditions, eq(sym(_VALUE), e)]
    outer = [name for name in _symbols(wanted) if name != _VALUE and name not in inner]
    with _context() as context:
        points = _set(context, outer, [_VALUE, *inner], wanted)
        values = points.project_out(isl.dim_type.set, 1, len(inner))
        return _only_piece(values.dim_min(0), outer), _only_piece(values.dim_max(0), outer)


def takes_all(e: IntExpr, lo: IntExpr, extent: int, conditions: Sequence[BoolExpr], inner: Sequence[str]) -> bool:
    """Whether ``e`` takes each of ``lo .. lo + extent - 1`` over the ``inner`` symbols wherever the conditions hold."""
    import islpy as isl

    wanted = [*conditions, eq(sym(_VALUE), e)]
    outer = [name for name in _symbols(wanted) if name != _VALUE and name not in inner]
    with _context() as context:
        taken = _set(context, outer, [_VALUE, *inner], wanted).project_out(isl.dim_type.set, 1, len(inner))
        box = _set(context, outer, [_VALUE], [ge(sym(_VALUE), lo), lt(sym(_VALUE), lo + extent)])
        return bool(box.intersect_params(taken.params()).is_subset(taken))


def _symbols(conditions: Sequence[BoolExpr]) -> list[str]:
    return sorted(frozenset[str]().union(*(free_symbols(condition) for condition in conditions)))


@contextmanager
def _context() -> Iterator[islpy.Context]:
    """The thread's isl context with a fresh operation budget; isl's errors become :class:`GaveUp`."""
    import islpy as isl

    if not hasattr(_thread, "context"):
        _thread.context = isl.Context()
    context: islpy.Context = _thread.context
    context.reset_operations()
    context.set_max_operations(OPERATION_LIMIT)
    try:
        yield context
    except isl.Error as error:
        raise GaveUp("too large for isl: " + str(error).split(" in ")[0]) from None


# Expressions to isl's text. Symbols become p0, p1, ... (parameters) and v0, v1, ... (set dimensions).


def _set(
    context: islpy.Context, parameters: Sequence[str], dims: Sequence[str], conditions: Sequence[BoolExpr]
) -> islpy.Set:
    import islpy as isl

    names = {name: f"p{i}" for i, name in enumerate(parameters)} | {name: f"v{i}" for i, name in enumerate(dims)}
    head = f"[{', '.join(names[name] for name in parameters)}] -> {{ [{', '.join(names[name] for name in dims)}]"
    convex = [condition for condition in conditions if isinstance(condition, Compare | Literal)]
    found = isl.Set.read_from_str(context, f"{head} : {_condition_text(conjunction(*convex), names)} }}")
    for condition in conditions:
        if isinstance(condition, Compare | Literal):
            continue
        found = found.intersect(isl.Set.read_from_str(context, f"{head} : {_condition_text(condition, names)} }}"))
        if found.is_empty():
            break
    return found


def _condition_text(condition: BoolExpr, names: dict[str, str]) -> str:
    match condition:
        case Literal(value):
            return "0 = 0" if value else "0 = 1"
        case Compare(op, lhs, rhs):
            relation = "=" if op is CompareOp.EQ else op.value
            return f"{_integer_text(lhs, names)} {relation} {_integer_text(rhs, names)}"
        case And(args):
            return "(" + " and ".join(_condition_text(arg, names) for arg in args) + ")"
        case Or(args):
            return "(" + " or ".join(_condition_text(arg, names) for arg in args) + ")"
        case Not() | Atom() | TypeIn():
            raise AssertionError(f"isl is asked about {condition}")
        case _:
            assert_never(condition)


def _integer_text(e: IntExpr, names: dict[str, str]) -> str:
    match e:
        case Const(value):
            return str(value)
        case Sym(name):
            return names[name]
        case Add(args):
            return "(" + " + ".join(_integer_text(arg, names) for arg in args) + ")"
        case Mul((Const(value), factor)):
            return f"{value} * {_integer_text(factor, names)}"
        case FloorDiv(num, Const(den)):
            return f"floor({_integer_text(num, names)} / {den})"
        case Mod(num, Const(den)):
            return f"({_integer_text(num, names)} mod {den})"
        case Min(args):
            return f"min({', '.join(_integer_text(arg, names) for arg in args)})"
        case Max(args):
            return f"max({', '.join(_integer_text(arg, names) for arg in args)})"
        case Mul() | FloorDiv() | Mod():
            raise AssertionError(f"isl is asked about {e}")
        case _:
            assert_never(e)


# isl to expressions.


def _only_piece(found: islpy.PwAff, parameters: Sequence[str]) -> IntExpr:
    pieces = found.coalesce().get_pieces()
    if len(pieces) != 1:
        raise GaveUp(f"an extremum has {len(pieces)} forms")
    return _expression(pieces[0][1], parameters)


def _expression(aff: islpy.Aff, parameters: Sequence[str]) -> IntExpr:
    """The floor of an affine function; an integer division in it is the floor of what isl stores for it."""
    import islpy as isl

    den = int(aff.get_denominator_val().to_python())

    def scaled(value: islpy.Val) -> int:
        return int((value * den).to_python())

    num = as_integer(scaled(aff.get_constant_val()))
    for i, name in enumerate(parameters):
        num = num + scaled(aff.get_coefficient_val(isl.dim_type.param, i)) * sym(name)
    for i in range(aff.dim(isl.dim_type.div)):
        coefficient = scaled(aff.get_coefficient_val(isl.dim_type.div, i))
        if coefficient:
            num = num + coefficient * _expression(aff.get_div(i), parameters)
    return _rounded_quotient(num, den)


def _rounded_quotient(num: IntExpr, den: int) -> IntExpr:
    """``num // den`` with coefficients in (-den/2, den/2]: undoes isl's ``b - (3*b + 3)//4`` for ``b//4``."""
    whole = from_terms({m: (2 * c + den - 1) // (2 * den) for m, c in terms_of(num).items() if m})
    return whole + (num - den * whole) // den
