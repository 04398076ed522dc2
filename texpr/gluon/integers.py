"""Integer expressions over scalars as Gluon code: 32-bit arithmetic, or 64-bit for element offsets that may be large.

Triton's ``//`` and ``%`` truncate toward zero where ours round down, so both are printed only where the operands are
known not to be negative; else a power of two becomes a shift or a mask, and anything else a call of a helper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from texpr.gluon.text import Level, Text, call, infix, method
from texpr.math.expr import Add, Const, FloorDiv, IntExpr, Max, Min, Mod, Monomial, Mul, Sym, free_symbols, terms_of
from texpr.math.intervals import Bounds

NONNEGATIVE = Bounds(0, None)


@dataclass(frozen=True, slots=True)
class Symbols:
    """What is known of the symbols: their identifiers, their ranges, and which are Python numbers (counters of unrolled
    loops). ``helper`` asks for a helper function and returns its identifier."""

    names: Mapping[str, str]
    ranges: Mapping[str, Bounds]
    static: frozenset[str]
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
    match e:
        case Const(value):
            return Text(str(value), Level.ATOM if value >= 0 else Level.UNARY, static=True)
        case Sym(name):
            return Text(symbols.names[name], static=name in symbols.static)
        case Add():
            return _sum([(coefficient, monomial) for monomial, coefficient in _ordered(e)], symbols, _product)
        case Mul():
            ((monomial, coefficient),) = terms_of(e).items()
            return _signed_product(coefficient, monomial, symbols, _product)
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
            ((monomial, coefficient),) = terms_of(e).items()
            return _signed_product(coefficient, monomial, symbols, _wide_product)
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


_Product = Callable[[int, Monomial, Symbols], Text]


def _ordered(e: IntExpr) -> list[tuple[Monomial, int]]:
    """The terms as ``math`` orders them: positive ones first, the constant last."""
    terms = terms_of(e)
    return sorted(terms.items(), key=lambda term: (not term[0], term[1] < 0, [str(factor) for factor in term[0]]))


def _sum(terms: Sequence[tuple[int, Monomial]], symbols: Symbols, product: _Product) -> Text:
    (first_coefficient, first_monomial), *rest = terms
    result = _signed_product(first_coefficient, first_monomial, symbols, product)
    for coefficient, monomial in rest:
        term = product(abs(coefficient), monomial, symbols)
        result = infix(result, "+" if coefficient > 0 else "-", Level.SUM, term)
    return result


def _wide_sum(e: IntExpr, symbols: Symbols) -> Text:
    """Products come first, because they are what makes the running sum 64 bits wide; without any, the first term is
    widened."""
    terms = [(coefficient, monomial) for monomial, coefficient in _ordered(e)]
    terms.sort(key=lambda term: not _needs_width(term[0], term[1], symbols))
    if _needs_width(terms[0][0], terms[0][1], symbols):
        return _sum(terms, symbols, _product_widened_if_needed)
    first = next(n for n, (_, monomial) in enumerate(terms) if monomial and not _is_static(monomial, symbols))
    terms.insert(0, terms.pop(first))
    result = _signed_product(terms[0][0], terms[0][1], symbols, _wide_product)
    for coefficient, monomial in terms[1:]:
        term = _product(abs(coefficient), monomial, symbols)
        result = infix(result, "+" if coefficient > 0 else "-", Level.SUM, term)
    return result


def _needs_width(coefficient: int, monomial: Monomial, symbols: Symbols) -> bool:
    if _is_static(monomial, symbols):
        return False
    return len(monomial) > 1 or abs(coefficient) != 1 or _multiplies(monomial[0])


def _product_widened_if_needed(coefficient: int, monomial: Monomial, symbols: Symbols) -> Text:
    product = _wide_product if _needs_width(coefficient, monomial, symbols) else _product
    return product(coefficient, monomial, symbols)


def _is_static(monomial: Monomial, symbols: Symbols) -> bool:
    return all(free_symbols(factor) <= symbols.static for factor in monomial)


def _multiplies(e: IntExpr) -> bool:
    """Whether evaluating ``e`` in 32 bits could overflow although its value does not: it multiplies symbols."""
    return any(len(monomial) > 1 or any(map(_multiplies_inside, monomial)) for monomial in terms_of(e))


def _multiplies_inside(factor: IntExpr) -> bool:
    match factor:
        case FloorDiv(num, den) | Mod(num, den):
            return _multiplies(num) or _multiplies(den)
        case Min(args) | Max(args):
            return any(map(_multiplies, args))
        case _:
            return False


def _signed_product(coefficient: int, monomial: Monomial, symbols: Symbols, product: _Product) -> Text:
    positive = product(abs(coefficient), monomial, symbols)
    if coefficient > 0:
        return positive
    return Text("-" + positive.within(Level.PRODUCT), Level.PRODUCT, positive.static)


def _product(coefficient: int, monomial: Monomial, symbols: Symbols) -> Text:
    factors = [narrow_text(factor, symbols) for factor in monomial]
    if coefficient != 1 or not factors:
        factors.append(Text(str(coefficient), static=True))
    return reduce(lambda left, right: infix(left, "*", Level.PRODUCT, right), factors)


def _wide_product(coefficient: int, monomial: Monomial, symbols: Symbols) -> Text:
    """The first factor that is a Gluon value is widened and goes first; the constant goes last."""
    if _is_static(monomial, symbols):
        return _product(coefficient, monomial, symbols)
    first = next(n for n, factor in enumerate(monomial) if not free_symbols(factor) <= symbols.static)
    rest = [narrow_text(factor, symbols) for n, factor in enumerate(monomial) if n != first]
    factors = [wide_text(monomial[first], symbols), *rest]
    if coefficient != 1:
        factors.append(Text(str(coefficient), static=True))
    return reduce(lambda left, right: infix(left, "*", Level.PRODUCT, right), factors)


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
    low_num, low_den = range_of(e.num, symbols.ranges).lo, range_of(e.den, symbols.ranges).lo
    return low_num is not None and low_num >= 0 and low_den is not None and low_den >= 0


def power_of_two(e: IntExpr) -> int | None:
    """``k`` when ``e`` is the literal ``2**k``."""
    if isinstance(e, Const) and e.value > 0 and e.value & (e.value - 1) == 0:
        return e.value.bit_length() - 1
    return None


def _nested(function: str, parts: list[Text]) -> Text:
    return reduce(lambda left, right: call(function, left, right), parts)
