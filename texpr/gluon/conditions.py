"""Conditions over scalars as Gluon code: one bit that all threads agree on."""

from __future__ import annotations

from functools import reduce

from texpr.gluon.integers import Symbols, narrow_text
from texpr.gluon.text import Level, Text, infix
from texpr.math.expr import And, BoolExpr, Compare, Literal, Or


def condition_text(e: BoolExpr, symbols: Symbols) -> Text:
    """``e``, integers in 32-bit arithmetic. Raises TypeError for what only the launcher can know."""
    match e:
        case Literal(value):
            return Text(str(value), static=True)
        case Compare(op, lhs, rhs):
            return infix(narrow_text(lhs, symbols), op.value, Level.COMPARE, narrow_text(rhs, symbols))
        case And(args):
            return _joined("&", Level.AND, args, symbols)
        case Or(args):
            return _joined("|", Level.OR, args, symbols)
        case _:
            raise TypeError(f"{e} is no condition on integers")


def _joined(operator: str, level: Level, args: tuple[BoolExpr, ...], symbols: Symbols) -> Text:
    return reduce(
        lambda left, right: infix(left, operator, level, right), (condition_text(arg, symbols) for arg in args)
    )
