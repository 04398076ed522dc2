"""Integer and boolean expressions as C text in 64-bit arithmetic, exact or flagged.

Interval arithmetic over the symbols' ranges decides, operation by operation, whether plain C arithmetic is exact.
Where it may not be, the text calls a helper ``<prefix>_add(a, b, &overflow)`` that sets ``overflow`` and yields 0
instead of a wrong value. Operands are combined strictly from left to right, so whether a call overflows does not
depend on how its text was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from texpr.aot.c_names import integer_literal
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
)

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

SUM, PRODUCT, UNARY, ATOM = 1, 2, 3, 4  # precedences of C text, loosest first


@dataclass(frozen=True, slots=True)
class Interval:
    """All values from ``low`` to ``high``, both included."""

    low: int
    high: int

    def fits(self, outer: Interval) -> bool:
        return outer.low <= self.low and self.high <= outer.high


INT64: Final = Interval(INT64_MIN, INT64_MAX)


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean in the C function being written.

    ``symbols`` maps an integer symbol to C text of type int64_t and the range its value is known to lie in; ``atom``
    renders a guard atom; ``prefix`` is put before the names of helper functions.
    """

    prefix: str
    symbols: Mapping[str, tuple[str, Interval]]
    atom: Callable[[Atom], str]


@dataclass(frozen=True, slots=True)
class CInteger:
    """C text of type int64_t (or an int constant). ``checked``: evaluating it may set the local ``overflow``."""

    text: str
    precedence: int
    interval: Interval
    checked: bool = False

    def enclosed(self, at_least: int) -> str:
        return self.text if self.precedence >= at_least else f"({self.text})"


@dataclass(frozen=True, slots=True)
class CCondition:
    """C text that is 0 or not 0; ``value`` is its truth where that is known (then ``text`` is ``0`` or ``1``)."""

    text: str
    checked: bool = False
    value: bool | None = None


def c_integer(expr: IntExpr, scope: Scope) -> CInteger:
    """The value of ``expr``. ValueError for a symbol the scope lacks or a constant beyond 64 bits."""
    match expr:
        case Const(value):
            return constant(value)
        case Sym(name):
            return _symbol(name, scope)
        case Add(args):
            return _sum(args, scope)
        case Mul(args):
            return _product(args, scope)
        case FloorDiv(num, den):
            return _quotient(c_integer(num, scope), c_integer(den, scope), scope)
        case Mod(num, den):
            return _remainder(c_integer(num, scope), c_integer(den, scope), scope)
        case Min(args):
            return _extremum("min", [c_integer(arg, scope) for arg in args], scope)
        case Max(args):
            return _extremum("max", [c_integer(arg, scope) for arg in args], scope)
        case _:
            assert_never(expr)


def c_condition(expr: BoolExpr, scope: Scope) -> CCondition:
    """The truth of ``expr``. ValueError as for :func:`c_integer`, and for a test of a type variable: an entry is one
    binding.
    """
    match expr:
        case Literal(value):
            return _literal(value)
        case Compare(op, lhs, rhs):
            return compare_text(op, c_integer(lhs, scope), c_integer(rhs, scope))
        case And(args):
            return _junction([c_condition(arg, scope) for arg in args], "&&", neutral=True)
        case Or(args):
            return _junction([c_condition(arg, scope) for arg in args], "||", neutral=False)
        case Not(arg):
            inner = c_condition(arg, scope)
            return CCondition(f"!({inner.text})", inner.checked) if inner.value is None else _literal(not inner.value)
        case Atom():
            return CCondition(scope.atom(expr))
        case TypeIn():
            raise ValueError(f"the condition {expr} is still open: every entry has its types bound")
        case _:
            assert_never(expr)


def compare_text(op: CompareOp, a: CInteger, b: CInteger) -> CCondition:
    """``a op b``, decided now where the ranges decide it and nothing can overflow."""
    if not a.checked and not b.checked:
        value = _decided(op, a.interval, b.interval)
        if value is not None:
            return _literal(value)
    return CCondition(f"{a.enclosed(SUM)} {op.value} {b.enclosed(SUM)}", a.checked or b.checked)


def multiply(a: CInteger, b: CInteger, scope: Scope) -> CInteger:
    """``a * b``."""
    corners = [x * y for x in (a.interval.low, a.interval.high) for y in (b.interval.low, b.interval.high)]
    interval = Interval(min(corners), max(corners))
    if a.text == "1":
        return b
    if b.text == "1":
        return a
    if _constants(a, b):
        return constant(interval.low)
    if interval.fits(INT64):
        return CInteger(f"{a.enclosed(PRODUCT)} * {b.enclosed(UNARY)}", PRODUCT, interval, a.checked or b.checked)
    return _call("mul", a, b, interval, scope)


def add(a: CInteger, b: CInteger, scope: Scope) -> CInteger:
    """``a + b``."""
    interval = Interval(a.interval.low + b.interval.low, a.interval.high + b.interval.high)
    if _constants(a, b):
        return constant(interval.low)
    if not interval.fits(INT64):
        return _call("add", a, b, interval, scope)
    if b.text.startswith("-") and b.precedence >= PRODUCT:
        text = f"{a.enclosed(SUM)} - {b.text[1:]}"
    else:
        text = f"{a.enclosed(SUM)} + {b.enclosed(PRODUCT)}"
    return CInteger(text, SUM, interval, a.checked or b.checked)


def constant(value: int) -> CInteger:
    """A literal; ValueError if it does not fit 64 bits."""
    return CInteger(integer_literal(value), ATOM if value >= 0 else UNARY, Interval(value, value))


def _constants(a: CInteger, b: CInteger) -> bool:
    """Both are literals: folded here, because C would compute them in 32 bits."""
    return a.interval.low == a.interval.high and b.interval.low == b.interval.high and not a.checked and not b.checked


def _symbol(name: str, scope: Scope) -> CInteger:
    if name not in scope.symbols:
        raise ValueError(f"the launcher does not know the symbol {name}; it knows {', '.join(sorted(scope.symbols))}")
    text, interval = scope.symbols[name]
    return CInteger(text, ATOM, interval)


def _sum(args: tuple[IntExpr, ...], scope: Scope) -> CInteger:
    result = c_integer(args[0], scope)
    for arg in args[1:]:
        result = add(result, c_integer(arg, scope), scope)
    return result


def _product(args: tuple[IntExpr, ...], scope: Scope) -> CInteger:
    first, *rest = args
    result = c_integer(first, scope)
    if isinstance(first, Const) and first.value == -1:
        factor = c_integer(rest.pop(0), scope)
        interval = Interval(-factor.interval.high, -factor.interval.low)
        if interval.fits(INT64):
            result = CInteger(f"-{factor.enclosed(ATOM)}", UNARY, interval, factor.checked)
        else:
            result = _call("mul", result, factor, interval, scope)
    for arg in rest:
        result = multiply(result, c_integer(arg, scope), scope)
    return result


def _quotient(a: CInteger, b: CInteger, scope: Scope) -> CInteger:
    """C's division truncates; it floors as well when neither operand can be negative."""
    if a.interval.low >= 0 and b.interval.low > 0:
        interval = Interval(a.interval.low // b.interval.high, a.interval.high // b.interval.low)
        return CInteger(f"{a.enclosed(PRODUCT)} / {b.enclosed(UNARY)}", PRODUCT, interval, a.checked or b.checked)
    largest = max(abs(a.interval.low), abs(a.interval.high))
    return _call("floor_div", a, b, Interval(-largest, largest), scope)


def _remainder(a: CInteger, b: CInteger, scope: Scope) -> CInteger:
    if a.interval.low >= 0 and b.interval.low > 0:
        interval = Interval(0, min(a.interval.high, b.interval.high - 1))
        return CInteger(f"{a.enclosed(PRODUCT)} % {b.enclosed(UNARY)}", PRODUCT, interval, a.checked or b.checked)
    interval = Interval(min(b.interval.low + 1, 0), max(b.interval.high - 1, 0))
    return _call("floor_mod", a, b, interval, scope)


def _extremum(name: str, values: list[CInteger], scope: Scope) -> CInteger:
    choose = min if name == "min" else max
    result = values[0]
    for value in values[1:]:
        interval = Interval(
            choose(result.interval.low, value.interval.low), choose(result.interval.high, value.interval.high)
        )
        text = f"{scope.prefix}_{name}({result.text}, {value.text})"
        result = CInteger(text, ATOM, interval, result.checked or value.checked)
    return result


def _call(helper: str, a: CInteger, b: CInteger, exact: Interval, scope: Scope) -> CInteger:
    """A helper that may flag an overflow and then yields 0, so 0 always belongs to the resulting range."""
    interval = Interval(min(max(exact.low, INT64_MIN), 0), max(min(exact.high, INT64_MAX), 0))
    return CInteger(f"{scope.prefix}_{helper}({a.text}, {b.text}, &overflow)", ATOM, interval, checked=True)


def _literal(value: bool) -> CCondition:
    return CCondition("1" if value else "0", checked=False, value=value)


def _decided(op: CompareOp, a: Interval, b: Interval) -> bool | None:
    """The truth of ``x op y`` if it is the same for all x in ``a`` and y in ``b``."""
    less, not_greater = a.high < b.low, a.high <= b.low
    greater, not_less = a.low > b.high, a.low >= b.high
    same = a.low == a.high == b.low == b.high
    yes, no = {
        CompareOp.LT: (less, not_less),
        CompareOp.LE: (not_greater, greater),
        CompareOp.GT: (greater, not_greater),
        CompareOp.GE: (not_less, less),
        CompareOp.EQ: (same, less or greater),
        CompareOp.NE: (less or greater, same),
    }[op]
    return True if yes else False if no else None


def _junction(parts: list[CCondition], operator: str, *, neutral: bool) -> CCondition:
    """Joins with ``&&`` or ``||``. Operands after a deciding one are dropped; those before it stay when they may
    overflow.
    """
    kept: list[CCondition] = []
    for part in parts:
        if part.value is neutral:
            continue
        kept.append(part)
        if part.value is not None:
            break
    if kept and kept[-1].value is not None and not any(part.checked for part in kept):
        return _literal(not neutral)
    if not kept:
        return _literal(neutral)
    if len(kept) == 1:
        return kept[0]
    text = f" {operator} ".join(f"({part.text})" for part in kept)
    return CCondition(text, any(part.checked for part in kept))
