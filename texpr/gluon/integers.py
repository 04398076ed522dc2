"""Integer expressions over scalars as Gluon code: 32-bit arithmetic, or 64-bit for element offsets that may be large.

Triton's ``//`` and ``%`` truncate toward zero where ours round down, so both are printed only where the operands are
known not to be negative; else a power of two becomes a shift or a mask, and anything else a call of a helper.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from texpr.gluon.text import Level, Text, call, infix, method
from texpr.math.expr import (
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
    free_symbols,
    from_terms,
    terms_of,
)
from texpr.math.intervals import Bounds

NONNEGATIVE = Bounds(0, None)


@dataclass(frozen=True, slots=True)
class Symbols:
    """What is known of the symbols: their identifiers, their ranges, which are Python numbers (counters of unrolled
    loops), and which are parameters (printed last in a product). ``find`` is the identifier that already holds an
    expression's value, if there is one. ``helper`` asks for a helper function and returns its identifier."""

    names: Mapping[str, str]
    ranges: Mapping[str, Bounds]
    static: frozenset[str]
    parameters: frozenset[str]
    find: Callable[[IntExpr], Text | None]
    helper: Callable[[str], str]


def range_of(e: IntExpr, ranges: Mapping[str, Bounds]) -> Bounds:
    """Where ``e`` lies when its symbols lie in ``ranges``; symbols not listed are not negative."""
    match e:
        case Const(value):
            return Bounds(value, value)
        case Sym(name):
            return ranges.get(name, NONNEGATIVE)
        case Add(args):
            return reduce(Bounds.__add__, (range_of(arg, ranges) for arg in args))
        case Mul(args):
            return reduce(Bounds.__mul__, (range_of(arg, ranges) for arg in args))
        case FloorDiv(num, den):
            return range_of(num, ranges).floordiv(range_of(den, ranges))
        case Mod(num, den):
            return range_of(num, ranges).mod(range_of(den, ranges))
        case Min(args):
            return _extremum(min, [range_of(arg, ranges) for arg in args])
        case Max(args):
            return _extremum(max, [range_of(arg, ranges) for arg in args])


def _extremum(choose: Callable[[list[int]], int], parts: list[Bounds]) -> Bounds:
    """The range of a minimum or maximum: one bounded part bounds it on its side, the other side needs all of them."""
    lows = [part.lo for part in parts if part.lo is not None]
    highs = [part.hi for part in parts if part.hi is not None]
    one_low, one_high = choose is max, choose is min
    lo = choose(lows) if lows and (one_low or len(lows) == len(parts)) else None
    hi = choose(highs) if highs and (one_high or len(highs) == len(parts)) else None
    return Bounds(lo, hi)


def narrow_text(e: IntExpr, symbols: Symbols) -> Text:
    """``e`` in 32-bit arithmetic."""
    known = symbols.find(e)
    if known is not None:
        return known
    match e:
        case Const(value):
            return Text(str(value), Level.ATOM if value >= 0 else Level.UNARY, static=True)
        case Sym(name):
            return Text(symbols.names[name], static=name in symbols.static)
        case Add():
            return _narrow_sum(e, symbols)
        case Mul():
            ((coefficient, factors),) = _terms(e, symbols)
            return _signed_product(coefficient, factors, symbols, _product)
        case FloorDiv(num, den):
            return _quotient(narrow_text(num, symbols), narrow_text(den, symbols), e, symbols)
        case Mod(num, den):
            return _remainder(narrow_text(num, symbols), narrow_text(den, symbols), e, symbols)
        case Min(args):
            return _nested("gl.minimum", [narrow_text(arg, symbols) for arg in args])
        case Max(args):
            return _nested("gl.maximum", [narrow_text(arg, symbols) for arg in args])


def wide_text(e: IntExpr, symbols: Symbols) -> Text:
    """``e`` in 64-bit arithmetic: one factor of every product is widened first, so no intermediate result can overflow.

    Static expressions stay Python numbers, which have no width.
    """
    if free_symbols(e) <= symbols.static:
        return narrow_text(e, symbols)
    match e:
        case Const() | Sym():
            return _widened(narrow_text(e, symbols))
        case Add():
            return _wide_sum(e, symbols)
        case Mul():
            ((coefficient, factors),) = _terms(e, symbols)
            return _signed_product(coefficient, factors, symbols, _wide_product)
        case FloorDiv(num, den) if _multiplies(num):
            return _quotient(wide_text(num, symbols), narrow_text(den, symbols), e, symbols)
        case Mod(num, den) if _multiplies(num):
            return _remainder(wide_text(num, symbols), narrow_text(den, symbols), e, symbols)
        case Min(args) if any(map(_multiplies, args)):
            return _nested("gl.minimum", [wide_text(arg, symbols) for arg in args])
        case Max(args) if any(map(_multiplies, args)):
            return _nested("gl.maximum", [wide_text(arg, symbols) for arg in args])
        case _:
            return _widened(narrow_text(e, symbols))


@dataclass(frozen=True, slots=True)
class _Ceiling:
    """``num / den`` rounded up, neither negative: what ``-(-num // den)`` is."""

    num: IntExpr
    den: IntExpr


_Factors = tuple[IntExpr | _Ceiling, ...]
_Term = tuple[int, _Factors]
_Product = Callable[[int, _Factors, Symbols], Text]


def _terms(e: IntExpr, symbols: Symbols) -> list[_Term]:
    """The terms as ``math`` orders them: positive ones first, the constant last. Negated quotients of negated numbers
    become ceilings."""
    terms = [_with_ceiling(coefficient, monomial, symbols) for monomial, coefficient in terms_of(e).items()]
    return sorted(terms, key=lambda term: (not term[1], term[0] < 0, [str(factor) for factor in term[1]]))


def _with_ceiling(coefficient: int, monomial: Monomial, symbols: Symbols) -> _Term:
    if coefficient > 0:
        return coefficient, monomial
    for position, factor in enumerate(monomial):
        if isinstance(factor, FloorDiv) and all(_at_least_zero(part, symbols) for part in (-factor.num, factor.den)):
            ceiling = _Ceiling(-factor.num, factor.den)
            return -coefficient, (*monomial[:position], ceiling, *monomial[position + 1 :])
    return coefficient, monomial


def _symbols_in(factor: IntExpr | _Ceiling) -> frozenset[str]:
    if isinstance(factor, _Ceiling):
        return free_symbols(factor.num) | free_symbols(factor.den)
    return free_symbols(factor)


def _narrow_factor(factor: IntExpr | _Ceiling, symbols: Symbols) -> Text:
    if isinstance(factor, _Ceiling):
        return call("gl.cdiv", narrow_text(factor.num, symbols), narrow_text(factor.den, symbols))
    return narrow_text(factor, symbols)


def _wide_factor(factor: IntExpr | _Ceiling, symbols: Symbols) -> Text:
    return _widened(_narrow_factor(factor, symbols)) if isinstance(factor, _Ceiling) else wide_text(factor, symbols)


def _narrow_sum(e: IntExpr, symbols: Symbols) -> Text:
    """A common literal factor is taken out."""
    terms = terms_of(e)
    common = math.gcd(*terms.values())
    if common > 1:
        rest = narrow_text(from_terms({monomial: c // common for monomial, c in terms.items()}), symbols)
        return infix(rest, "*", Level.PRODUCT, Text(str(common), static=True))
    return _sum(_terms(e, symbols), symbols, _product)


def _sum(terms: Sequence[_Term], symbols: Symbols, product: _Product) -> Text:
    (coefficient, factors), *rest = terms
    return _plus(_signed_product(coefficient, factors, symbols, product), rest, symbols, product)


def _plus(start: Text, terms: Sequence[_Term], symbols: Symbols, product: _Product) -> Text:
    result = start
    for coefficient, factors in terms:
        term = product(abs(coefficient), factors, symbols)
        result = infix(result, "+" if coefficient > 0 else "-", Level.SUM, term)
    return result


def _wide_sum(e: IntExpr, symbols: Symbols) -> Text:
    """In Horner's form, ``((n*H + p)*W + q)*C + c``: the factor that most terms share is taken out, again and again.

    What is left has no common factors. Its products come first, because they make the running sum 64 bits wide; if it
    has none, its first term is widened.
    """
    terms = terms_of(e)
    common = math.gcd(*terms.values())
    if common > 1:
        rest = wide_text(from_terms({monomial: c // common for monomial, c in terms.items()}), symbols)
        return infix(rest, "*", Level.PRODUCT, Text(str(common), static=True))
    factor = _most_shared(terms, symbols)
    if factor is not None:
        inside = {_without(monomial, factor): c for monomial, c in terms.items() if factor in monomial}
        outside = from_terms({monomial: c for monomial, c in terms.items() if factor not in monomial})
        product = infix(wide_text(from_terms(inside), symbols), "*", Level.PRODUCT, narrow_text(factor, symbols))
        return _plus(product, _terms(outside, symbols), symbols, _product_widened_if_needed)
    ordered = sorted(_terms(e, symbols), key=lambda term: not _needs_width(term[0], term[1], symbols))
    if _needs_width(ordered[0][0], ordered[0][1], symbols):
        return _sum(ordered, symbols, _product_widened_if_needed)
    first = next(n for n, (_, factors) in enumerate(ordered) if factors and not _is_static(factors, symbols))
    coefficient, factors = ordered.pop(first)
    return _plus(_signed_product(coefficient, factors, symbols, _wide_product), ordered, symbols, _product)


def _most_shared(terms: Terms, symbols: Symbols) -> IntExpr | None:
    """The factor of most terms, parameters before others; None if no two terms share one."""
    counts = Counter(factor for monomial in terms for factor in set(monomial))
    shared = [factor for factor, count in counts.items() if count > 1 and not free_symbols(factor) <= symbols.static]
    shared.sort(key=lambda factor: (-counts[factor], not free_symbols(factor) <= symbols.parameters, str(factor)))
    return shared[0] if shared else None


def _without(monomial: Monomial, factor: IntExpr) -> Monomial:
    position = monomial.index(factor)
    return monomial[:position] + monomial[position + 1 :]


def _needs_width(coefficient: int, factors: _Factors, symbols: Symbols) -> bool:
    if _is_static(factors, symbols):
        return False
    return len(factors) > 1 or abs(coefficient) != 1 or _multiplies_inside(factors[0])


def _product_widened_if_needed(coefficient: int, factors: _Factors, symbols: Symbols) -> Text:
    product = _wide_product if _needs_width(coefficient, factors, symbols) else _product
    return product(coefficient, factors, symbols)


def _is_static(factors: _Factors, symbols: Symbols) -> bool:
    return all(_symbols_in(factor) <= symbols.static for factor in factors)


def _multiplies(e: IntExpr) -> bool:
    """Whether evaluating ``e`` in 32 bits could overflow although its value does not: it multiplies symbols."""
    return any(len(monomial) > 1 or any(map(_multiplies_inside, monomial)) for monomial in terms_of(e))


def _multiplies_inside(factor: IntExpr | _Ceiling) -> bool:
    match factor:
        case FloorDiv(num, den) | Mod(num, den) | _Ceiling(num, den):
            return _multiplies(num) or _multiplies(den)
        case Min(args) | Max(args):
            return any(map(_multiplies, args))
        case _:
            return False


def _signed_product(coefficient: int, factors: _Factors, symbols: Symbols, product: _Product) -> Text:
    positive = product(abs(coefficient), factors, symbols)
    if coefficient > 0:
        return positive
    return Text("-" + positive.within(Level.UNARY), Level.UNARY, positive.static)


def _product(coefficient: int, factors: _Factors, symbols: Symbols) -> Text:
    texts = [_narrow_factor(factor, symbols) for factor in _own_first(factors, symbols)]
    if coefficient != 1 or not texts:
        texts.append(Text(str(coefficient), static=True))
    return reduce(lambda left, right: infix(left, "*", Level.PRODUCT, right), texts)


def _wide_product(coefficient: int, factors: _Factors, symbols: Symbols) -> Text:
    """The first factor that is a Gluon value is widened and goes first; the constant goes last."""
    if _is_static(factors, symbols):
        return _product(coefficient, factors, symbols)
    ordered = _own_first(factors, symbols)
    first = next(n for n, factor in enumerate(ordered) if not _symbols_in(factor) <= symbols.static)
    texts = [_wide_factor(ordered[first], symbols)]
    texts += [_narrow_factor(factor, symbols) for n, factor in enumerate(ordered) if n != first]
    if coefficient != 1:
        texts.append(Text(str(coefficient), static=True))
    return reduce(lambda left, right: infix(left, "*", Level.PRODUCT, right), texts)


def _own_first(factors: _Factors, symbols: Symbols) -> _Factors:
    """``i0*K`` rather than ``K*i0``: what the program computed comes before the parameters."""
    return tuple(sorted(factors, key=lambda factor: _symbols_in(factor) <= symbols.parameters))


def _widened(text: Text) -> Text:
    return method(text, "to(gl.int64)")


def _quotient(num: Text, den: Text, e: FloorDiv, symbols: Symbols) -> Text:
    if (num.static and den.static) or _truncation_is_floor(e, symbols):
        return infix(num, "//", Level.PRODUCT, den)
    if (shift := power_of_two(e.den)) is not None:
        return infix(num, ">>", Level.SHIFT, Text(str(shift), static=True))
    return call(symbols.helper("floor_div"), num, den)


def _remainder(num: Text, den: Text, e: Mod, symbols: Symbols) -> Text:
    if (num.static and den.static) or _truncation_is_floor(e, symbols):
        return infix(num, "%", Level.PRODUCT, den)
    if (shift := power_of_two(e.den)) is not None:
        return infix(num, "&", Level.AND, Text(str((1 << shift) - 1), static=True))
    return call(symbols.helper("floor_mod"), num, den)


def _truncation_is_floor(e: FloorDiv | Mod, symbols: Symbols) -> bool:
    return _at_least_zero(e.num, symbols) and _at_least_zero(e.den, symbols)


def _at_least_zero(e: IntExpr, symbols: Symbols) -> bool:
    low = range_of(e, symbols.ranges).lo
    return low is not None and low >= 0


def power_of_two(e: IntExpr) -> int | None:
    """``k`` when ``e`` is the literal ``2**k``."""
    if isinstance(e, Const) and e.value > 0 and e.value & (e.value - 1) == 0:
        return e.value.bit_length() - 1
    return None


def _nested(function: str, parts: list[Text]) -> Text:
    return reduce(lambda left, right: call(function, left, right), parts)
