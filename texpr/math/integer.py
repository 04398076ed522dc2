"""Integer expressions: nodes, operators, canonical form and text. Import them from :mod:`texpr.math.expr`.

An expression is a polynomial: a sum of literal coefficient * product of factors, whose factors are symbols, floor
divisions, remainders, minima and maxima. Equal polynomials are identical objects. Every rewrite below is proved with z3
in the tests.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias, cast

from texpr.math.interning import Interned


class _Integer(Interned):
    """The arithmetic operators; the other operand may be an int."""

    __slots__ = ()

    def __str__(self) -> str:
        return text_of(cast("IntExpr", self))[0]

    def __add__(self, other: IntExpr | int) -> IntExpr:
        return _add(as_integer(self), as_integer(other))

    def __radd__(self, other: int) -> IntExpr:
        return _add(as_integer(other), as_integer(self))

    def __sub__(self, other: IntExpr | int) -> IntExpr:
        return _add(as_integer(self), -as_integer(other))

    def __rsub__(self, other: int) -> IntExpr:
        return _add(as_integer(other), -self)

    def __neg__(self) -> IntExpr:
        return _multiply(Const(-1), as_integer(self))

    def __mul__(self, other: IntExpr | int) -> IntExpr:
        return _multiply(as_integer(self), as_integer(other))

    def __rmul__(self, other: int) -> IntExpr:
        return _multiply(as_integer(other), as_integer(self))

    def __floordiv__(self, other: IntExpr | int) -> IntExpr:
        return _floordiv(as_integer(self), as_integer(other))

    def __rfloordiv__(self, other: int) -> IntExpr:
        return _floordiv(as_integer(other), as_integer(self))

    def __mod__(self, other: IntExpr | int) -> IntExpr:
        return _mod(as_integer(self), as_integer(other))

    def __rmod__(self, other: int) -> IntExpr:
        return _mod(as_integer(other), as_integer(self))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Const(_Integer):
    value: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sym(_Integer):
    name: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Add(_Integer):
    """At least two terms, positive coefficients first, a constant last."""

    args: tuple[IntExpr, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Mul(_Integer):
    """At least two factors; a constant other than 1 may come first, none of the others is a constant or a sum."""

    args: tuple[IntExpr, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FloorDiv(_Integer):
    num: IntExpr
    den: IntExpr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Mod(_Integer):
    """``num - den * (num // den)``: the sign of ``den``, as in Python."""

    num: IntExpr
    den: IntExpr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Min(_Integer):
    args: tuple[IntExpr, ...]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Max(_Integer):
    args: tuple[IntExpr, ...]


IntExpr: TypeAlias = Const | Sym | Add | Mul | FloorDiv | Mod | Min | Max

ZERO: Final = Const(0)
ONE: Final = Const(1)


def const(value: int) -> Const:
    return Const(operator.index(value))


def sym(name: str) -> Sym:
    return Sym(name)


def minimum(*values: IntExpr | int) -> IntExpr:
    """The least of one or more values."""
    return _extremum(Min, values)


def maximum(*values: IntExpr | int) -> IntExpr:
    """The greatest of one or more values."""
    return _extremum(Max, values)


def ceildiv(num: IntExpr | int, den: IntExpr | int) -> IntExpr:
    """The quotient rounded up. By a positive literal it becomes ``(num + den - 1) // den``."""
    return -(-as_integer(num) // as_integer(den))


def total(values: Iterable[IntExpr | int]) -> IntExpr:
    """The sum of any number of values."""
    return from_terms(_sum_terms((as_integer(value), 1) for value in values))


def product(values: Iterable[IntExpr | int]) -> IntExpr:
    """The product of any number of values."""
    result: IntExpr = ONE
    for value in values:
        result = result * value
    return result


def as_integer(value: object) -> IntExpr:
    if isinstance(value, _Integer):
        return cast(IntExpr, value)
    try:
        return Const(operator.index(cast(int, value)))
    except TypeError:
        raise TypeError(f"expected an integer expression, got {type(value).__name__}: {value!r}") from None


# A polynomial: literal coefficient of each monomial, a monomial being its non-constant factors in text order.
Monomial: TypeAlias = tuple[IntExpr, ...]
Terms: TypeAlias = dict[Monomial, int]


def terms_of(e: IntExpr) -> Terms:
    """The polynomial that ``e`` is: ``{(): 3, (M,): 2, (M, N): 1}`` for ``M*N + 2*M + 3``."""
    match e:
        case Const(0):
            return {}
        case Const(value):
            return {(): value}
        case Add(args):
            return _sum_terms((arg, 1) for arg in args)
        case Mul((Const(value), *factors)):
            return {tuple(factors): value}
        case Mul(args):
            return {args: 1}
        case _:
            return {(e,): 1}


def _sum_terms(parts: Iterable[tuple[IntExpr, int]]) -> Terms:
    terms: Terms = {}
    for part, factor in parts:
        for monomial, coefficient in terms_of(part).items():
            terms[monomial] = terms.get(monomial, 0) + factor * coefficient
    return {monomial: coefficient for monomial, coefficient in terms.items() if coefficient}


def _monomial(coefficient: int, monomial: Monomial) -> IntExpr:
    if not monomial:
        return Const(coefficient)
    if coefficient == 1:
        return monomial[0] if len(monomial) == 1 else Mul(monomial)
    return Mul((Const(coefficient), *monomial))


def from_terms(terms: Terms) -> IntExpr:
    """The canonical node of a polynomial; joins quotients with their remainders first."""
    terms = {monomial: coefficient for monomial, coefficient in terms.items() if coefficient}
    for monomial in terms:
        for position, factor in enumerate(monomial):
            if len(terms) == 1 or not isinstance(factor, Mod | FloorDiv):
                continue
            others = monomial[:position] + monomial[position + 1 :]
            if isinstance(factor, Mod):
                joined = _join_remainder(terms, monomial, factor, others)
            else:
                joined = _join_quotient(terms, monomial, factor, others)
            if joined is not None:
                return from_terms(joined)
    if not terms:
        return ZERO
    ordered = sorted(terms.items(), key=lambda item: (not item[0], item[1] < 0, [str(f) for f in item[0]]))
    nodes = tuple(_monomial(coefficient, monomial) for monomial, coefficient in ordered)
    return nodes[0] if len(nodes) == 1 else Add(nodes)


def _join_remainder(terms: Terms, monomial: Monomial, factor: Mod, others: Monomial) -> Terms | None:
    """``k*d*(n//d) + k*(n%d) -> k*n``, where ``k`` is a coefficient times the other factors of the monomial."""
    k = _monomial(terms[monomial], others)
    quotient = terms_of(k * factor.den * (factor.num // factor.den))
    if monomial in quotient or any(terms.get(m) != c for m, c in quotient.items()):
        return None
    rest = [(_monomial(c, m), 1) for m, c in terms.items() if m != monomial and m not in quotient]
    return _sum_terms([*rest, (k * factor.num, 1)])


def _join_quotient(terms: Terms, monomial: Monomial, factor: FloorDiv, others: Monomial) -> Terms | None:
    """``k*n - k*d*(n//d) -> k*(n%d)`` for a literal ``d``; the constant part of ``n`` may differ, it is compensated."""
    if not isinstance(factor.den, Const) or terms[monomial] % factor.den.value:
        return None
    k = _monomial(-terms[monomial] // factor.den.value, others)
    if any(terms.get(m) != c for m, c in terms_of(k * factor.num).items() if m != others):
        return None
    rest = [(_monomial(c, m), 1) for m, c in terms.items() if m != monomial]
    return _sum_terms([*rest, (k * factor.num, -1), (k * (factor.num % factor.den), 1)])


@cache
def _add(a: IntExpr, b: IntExpr) -> IntExpr:
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(a.value + b.value)
    return from_terms(_sum_terms([(a, 1), (b, 1)]))


@cache
def _multiply(a: IntExpr, b: IntExpr) -> IntExpr:
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(a.value * b.value)
    terms: Terms = {}
    right = terms_of(b)
    for left_monomial, left_coefficient in terms_of(a).items():
        for right_monomial, right_coefficient in right.items():
            monomial = tuple(sorted(left_monomial + right_monomial, key=str))
            terms[monomial] = terms.get(monomial, 0) + left_coefficient * right_coefficient
    return from_terms(terms)


def _split_by_divisor(num: IntExpr, den: Monomial, den_coefficient: int) -> tuple[IntExpr, IntExpr]:
    """``(q, r)`` with ``num == q * den + r``: coefficients move toward zero, the constant of ``r`` into [0, den)."""
    quotient: Terms = {}
    rest: Terms = {}
    for monomial, coefficient in terms_of(num).items():
        left = _divide_monomial(monomial, den)
        if left is None:
            rest[monomial] = coefficient
            continue
        if monomial:
            whole = abs(coefficient) // den_coefficient * (1 if coefficient > 0 else -1)
        else:
            whole = coefficient // den_coefficient
        quotient[left] = whole
        rest[monomial] = coefficient - whole * den_coefficient
    return from_terms(quotient), from_terms(rest)


def _divide_monomial(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(monomial)
    for factor in divisor:
        if factor not in left:
            return None
        left.remove(factor)
    return tuple(left)


def _common_factor(num: IntExpr, den: IntExpr) -> IntExpr:
    """The largest monomial that divides every term of ``num`` and ``den``, with a positive coefficient."""
    everything = [*terms_of(num).items(), *terms_of(den).items()]
    shared = list(everything[0][0])
    for monomial, _ in everything[1:]:
        available = list(monomial)
        kept = []
        for factor in shared:
            if factor in available:
                available.remove(factor)
                kept.append(factor)
        shared = kept
    return _monomial(math.gcd(*(coefficient for _, coefficient in everything)), tuple(shared))


def _exact_quotient(e: IntExpr, divisor: IntExpr) -> IntExpr:
    ((monomial, coefficient),) = terms_of(divisor).items()
    quotient: Terms = {}
    for m, c in terms_of(e).items():
        left = _divide_monomial(m, monomial)
        assert left is not None and c % coefficient == 0
        quotient[left] = c // coefficient
    return from_terms(quotient)


def _floordiv(num: IntExpr, den: IntExpr) -> IntExpr:
    if isinstance(den, Const) and den.value == 0:
        raise ZeroDivisionError(f"{num} // 0")
    if num is ZERO or den is ONE:
        return num
    if isinstance(num, Const) and isinstance(den, Const):
        return Const(num.value // den.value)
    den_terms = terms_of(den)
    if len(den_terms) > 1:
        return ONE if num is den else FloorDiv(num, den)
    ((monomial, coefficient),) = den_terms.items()
    if coefficient < 0:
        return _floordiv(-num, -den)
    whole, rest = _split_by_divisor(num, monomial, coefficient)
    if whole is not ZERO:
        return whole + _floordiv(rest, den)
    common = _common_factor(num, den)
    if common is not ONE:
        return _floordiv(_exact_quotient(num, common), _exact_quotient(den, common))
    if not monomial:
        return _floordiv_literal(num, coefficient)
    return FloorDiv(num, den)


def _floordiv_literal(num: IntExpr, den: int) -> IntExpr:
    """``num // den`` for ``den > 1`` after whole parts and common factors were taken out of ``num``."""
    terms = terms_of(num)
    constant = terms.pop((), 0)
    divisor = math.gcd(den, *terms.values())
    if divisor > 1:
        variable = from_terms({monomial: c // divisor for monomial, c in terms.items()})
        return _floordiv(variable + constant // divisor, Const(den // divisor))
    if all(c < 0 for c in terms.values()):
        return -_floordiv(-num + (den - 1), Const(den))
    inner = [m[0] for m, c in terms.items() if c == 1 and len(m) == 1 and isinstance(m[0], FloorDiv)]
    if len(inner) == 1 and isinstance(inner[0].den, Const):
        a = inner[0].den.value
        return _floordiv(inner[0].num + (num - inner[0]) * a, Const(a * den))
    if isinstance(num, Mod) and isinstance(num.den, Const) and num.den.value > 0:
        if num.den.value <= den:
            return ZERO
        if num.den.value % den == 0:
            return _mod(_floordiv(num.num, Const(den)), Const(num.den.value // den))
    return FloorDiv(num, Const(den))


def _mod(num: IntExpr, den: IntExpr) -> IntExpr:
    if isinstance(den, Const) and den.value == 0:
        raise ZeroDivisionError(f"{num} % 0")
    if num is ZERO or den is ONE or num is den:
        return ZERO
    if isinstance(num, Const) and isinstance(den, Const):
        return Const(num.value % den.value)
    den_terms = terms_of(den)
    if len(den_terms) > 1:
        return Mod(num, den)
    ((monomial, coefficient),) = den_terms.items()
    if coefficient < 0:
        return -_mod(-num, -den)
    _, rest = _split_by_divisor(num, monomial, coefficient)
    if rest is not num:
        return _mod(rest, den)
    common = _common_factor(num, den)
    if common is not ONE:
        return common * _mod(_exact_quotient(num, common), _exact_quotient(den, common))
    if not monomial:
        return _mod_literal(num, coefficient)
    return Mod(num, den)


def _mod_literal(num: IntExpr, den: int) -> IntExpr:
    """``num % den`` for ``den > 1`` after multiples of ``den`` and common factors were taken out of ``num``."""
    if isinstance(num, Mod) and isinstance(num.den, Const) and 0 < num.den.value <= den:
        return num
    terms = terms_of(num)
    for monomial, c in terms.items():
        # c*(n % d) and c*n differ by a multiple of c*d, which vanishes when den divides it.
        if len(monomial) == 1 and isinstance(monomial[0], Mod) and isinstance(monomial[0].den, Const):
            inner = monomial[0]
            if c * monomial[0].den.value % den == 0:
                return _mod(num - c * inner + c * inner.num, Const(den))
    constant = terms.pop((), 0)
    divisor = math.gcd(den, *terms.values())
    if divisor > 1:
        variable = from_terms({monomial: c // divisor for monomial, c in terms.items()})
        return divisor * _mod(variable + constant // divisor, Const(den // divisor)) + constant % divisor
    return Mod(num, Const(den))


def _extremum(kind: type[Min] | type[Max], values: Iterable[IntExpr | int]) -> IntExpr:
    """Flattens; drops duplicates, values beaten by a constant distance, and ``max(a, b)`` in a minimum over ``a``."""
    flat: list[IntExpr] = []
    for value in values:
        e = as_integer(value)
        flat.extend(e.args if isinstance(e, Min | Max) and isinstance(e, kind) else [e])
    opposite = Max if kind is Min else Min
    kept: list[IntExpr] = []
    for e in dict.fromkeys(flat):
        if isinstance(e, opposite) and any(arg in flat for arg in e.args):
            continue
        for position, other in enumerate(kept):
            difference = e - other
            if isinstance(difference, Const):
                if (difference.value < 0) == (kind is Min):
                    kept[position] = e
                break
        else:
            kept.append(e)
    if not kept:
        raise ValueError(f"{kind.__name__.lower()}imum of nothing")
    return kept[0] if len(kept) == 1 else kind(tuple(sorted(kept, key=lambda e: (isinstance(e, Const), str(e)))))


# Text. The second member of a result is its precedence: 1 sum, 2 product, 3 unary minus, 4 atom.


@cache
def text_of(e: IntExpr) -> tuple[str, int]:
    """Text with the fewest parentheses that :func:`texpr.math.parse.parse_int` reads back, and its precedence."""
    match e:
        case Const(value):
            return str(value), 4 if value >= 0 else 3
        case Sym(name):
            return name, 4
        case Add(args):
            return _sum_text(args), 1
        case Mul((Const(value), *rest)) if value < 0:
            factors = rest if value == -1 else [Const(-value), *rest]
            return "-" + "*".join(_enclosed(factor, 3) for factor in factors), 2
        case Mul((first, *rest)):
            return "*".join([_enclosed(first, 2), *(_enclosed(factor, 3) for factor in rest)]), 2
        case FloorDiv(num, den):
            return f"{_enclosed(num, 2)}//{_enclosed(den, 3)}", 2
        case Mod(num, den):
            return f"{_enclosed(num, 2)} % {_enclosed(den, 3)}", 2
        case Min(args):
            return f"min({', '.join(map(str, args))})", 4
        case Max(args):
            return f"max({', '.join(map(str, args))})", 4
        case _:
            raise AssertionError(f"not an integer expression: {e!r}")


def _enclosed(e: IntExpr, at_least: int) -> str:
    text, precedence = text_of(e)
    return text if precedence >= at_least else f"({text})"


def _sum_text(args: tuple[IntExpr, ...]) -> str:
    """``5 - x`` rather than ``-x + 5``."""
    first, *rest = args
    if _negated(first) is not None and isinstance(args[-1], Const) and args[-1].value > 0:
        first, *rest = (args[-1], *args[:-1])
    text = _enclosed(first, 2)
    for term in rest:
        positive = _negated(term)
        text += f" + {_enclosed(term, 2)}" if positive is None else f" - {_enclosed(positive, 2)}"
    return text


def _negated(term: IntExpr) -> IntExpr | None:
    """``-term`` when ``term`` has a negative coefficient."""
    match term:
        case Const(value) if value < 0:
            return Const(-value)
        case Mul((Const(value), *rest)) if value < 0:
            return _monomial(-value, tuple(rest))
        case _:
            return None
