"""Whether an operator gives the same bits for its operands in either order.

``p[0] * q[1] + p[1] * q[0]`` is commutative, but one of its products may be rounded and the other become part of a
fused multiply-add: which one depends on the order. Lanes that combine the same two values would then hold results that
differ in the last place, and which of them stays would be left to chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from texpr.lang.ir import Cast, Const, Expr, Op, OpName, Select, Var, walk

_EITHER_ORDER: Final = frozenset(
    {OpName.ADD, OpName.MUL, OpName.MIN, OpName.MAX, OpName.AND, OpName.OR, OpName.XOR, OpName.EQ, OpName.NE}
)
_EXACT: Final = frozenset(
    {OpName.NEG, OpName.ABS, OpName.MIN, OpName.MAX, OpName.LT, OpName.LE, OpName.GT, OpName.GE, OpName.EQ, OpName.NE}
)
"""What rounds no float."""


def is_symmetric(left: Sequence[Var], right: Sequence[Var], combine: Sequence[Expr]) -> bool:
    """Whether a commutative operator may be given its operands in either order. True only if every rounding is the same
    in both."""
    if not any(_rounds(node) for expr in combine for node in walk(expr)):
        return True
    names = {var: f"p{k}" for k, var in enumerate(left)} | {var: f"q{k}" for k, var in enumerate(right)}
    swapped = {var: f"q{k}" for k, var in enumerate(left)} | {var: f"p{k}" for k, var in enumerate(right)}
    return all(_form(expr, names) == _form(expr, swapped) for expr in combine)


def _rounds(node: Expr) -> bool:
    return isinstance(node, Op) and any(arg.dtype.is_float for arg in node.args) and node.name not in _EXACT


def _form(expr: Expr, names: Mapping[Var, str]) -> str:
    """A text that two expressions share only if they give the same bits."""
    match expr:
        case Var():
            return names[expr]
        case Const():
            return f"{expr.value!r}:{expr.dtype}"
        case Cast():
            return f"{expr.dtype}({_form(expr.value, names)})"
        case Select():
            return f"({', '.join(_form(part, names) for part in (expr.condition, expr.then, expr.otherwise))})"
        case Op():
            parts = [_form(arg, names) for arg in expr.args]
            fused = expr.name is OpName.ADD and expr.dtype.is_float and all(map(_is_product, expr.args))
            if expr.name in _EITHER_ORDER and not fused:
                parts.sort()
            return f"{expr.name.value}({', '.join(parts)})"
    raise AssertionError(expr)


def _is_product(expr: Expr) -> bool:
    """Whether an addition of it may become a fused multiply-add."""
    if isinstance(expr, Op) and expr.name is OpName.NEG:
        return _is_product(expr.args[0])
    return isinstance(expr, Op) and expr.name is OpName.MUL
