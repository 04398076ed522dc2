"""Integer expressions of a manifest: parsed once, evaluated often, and solved for one unknown dim.

    Expr ::= integer | name | Expr (+ | - | * | // | %) Expr | -Expr | min(Expr, ...) | max(Expr, ...)

The text is Python's syntax and means what Python's integers mean (``//`` and ``%`` floor); nothing but these forms is
accepted.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, assert_never

_OPERATORS: Final[dict[type[ast.operator], tuple[str, Callable[[int, int], int]]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}
_FUNCTIONS: Final[dict[str, Callable[..., int]]] = {"min": min, "max": max}


@dataclass(frozen=True, slots=True)
class Integer:
    value: int


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Binary:
    symbol: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Extreme:
    """``min`` or ``max``."""

    function: str
    arguments: tuple[Expression, ...]


Expression = Integer | Name | Binary | Extreme

_BY_SYMBOL: Final = dict(_OPERATORS.values())


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """The expression ``text`` stands for. Raises ValueError with the reason if it is not one."""
    try:
        return _convert(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not an integer expression: {error.msg}") from None


def _convert(node: ast.expr) -> Expression:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return Integer(value)
        case ast.Name(id=name):
            return Name(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Binary("-", Integer(0), _convert(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return Binary(_OPERATORS[type(op)][0], _convert(left), _convert(right))
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if function in _FUNCTIONS and arguments:
            return Extreme(function, tuple(_convert(argument) for argument in arguments))
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is not an integer expression of + - * // % min max")


def names_in(expression: Expression) -> frozenset[str]:
    """The names the expression depends on."""
    match expression:
        case Integer():
            return frozenset()
        case Name(name):
            return frozenset((name,))
        case Binary(_, left, right):
            return names_in(left) | names_in(right)
        case Extreme(_, arguments):
            return frozenset[str]().union(*(names_in(argument) for argument in arguments))
        case _:
            assert_never(expression)


def evaluate(expression: Expression, values: Mapping[str, int]) -> int:
    """The value. Raises KeyError for a name without a value, ZeroDivisionError as Python does."""
    match expression:
        case Integer(value):
            return value
        case Name(name):
            return values[name]
        case Binary(symbol, left, right):
            return _BY_SYMBOL[symbol](evaluate(left, values), evaluate(right, values))
        case Extreme(function, arguments):
            return _FUNCTIONS[function](*(evaluate(argument, values) for argument in arguments))
        case _:
            assert_never(expression)


def linear_in(expression: Expression, unknown: str, values: Mapping[str, int]) -> tuple[int, int] | None:
    """``(a, b)`` such that the expression is ``a * unknown + b``, or None where that form does not follow from + - *
    alone.

    ``values`` must hold every other name of the expression.
    """
    if unknown not in names_in(expression):
        return 0, evaluate(expression, values)
    match expression:
        case Name():
            return 1, 0
        case Binary("+" | "-" as symbol, left, right):
            first, second = linear_in(left, unknown, values), linear_in(right, unknown, values)
            if first is None or second is None:
                return None
            sign = 1 if symbol == "+" else -1
            return first[0] + sign * second[0], first[1] + sign * second[1]
        case Binary("*", left, right):
            first, second = linear_in(left, unknown, values), linear_in(right, unknown, values)
            if first is None or second is None or (first[0] and second[0]):
                return None
            return first[0] * second[1] + first[1] * second[0], first[1] * second[1]
        case _:
            return None
