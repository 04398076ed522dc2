"""Which indices a tile touches: a box of index values, symbolic in everything outside the tile.

Affine indices have a closed form. Others with literal divisors go to isl, which sees how their parts depend on each
other; where isl has no single expression (a clamped index, for example), the ends follow from the monotonicity of each
operation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product as points_of
from typing import Final, TypeAlias

from texpr.math import isl
from texpr.math.bounds import Facts, bounds, residue
from texpr.math.expr import (
    Add,
    BoolExpr,
    Const,
    FloorDiv,
    IntExpr,
    Max,
    Min,
    Mod,
    Mul,
    Sym,
    affine,
    children,
    conjunction,
    const,
    disjunction,
    eq,
    evaluate,
    free_symbols,
    from_terms,
    ge,
    le,
    lt,
    maximum,
    minimum,
    ne,
    product,
    substitute,
    sym,
    terms_of,
    total,
)
from texpr.math.model import Unsatisfiable, find_model, upper_bound
from texpr.math.prove import is_proved, simplify

Tile: TypeAlias = Mapping[str, tuple[int, int]]
"""The values of the tile's symbols: low end, and one past the high end."""

ENUMERATION_LIMIT: Final = 4096
"""Largest number of tile points that are enumerated to answer a question."""

_NO_FACTS: Final = Facts()


@dataclass(frozen=True, slots=True)
class Range:
    """Index values ``lo, lo + 1, ..., lo + extent - 1``.

    ``extent`` is a bound that holds for every value of the other symbols. ``exact``: each point of the whole box (the
    product of this and the other indices' ranges) is an index vector of some tile point.
    """

    lo: IntExpr
    extent: int
    exact: bool


def footprint(indices: Sequence[IntExpr], tile: Tile, facts: Facts) -> list[Range] | None:
    """The box that contains the index vectors of all tile points; None when an extent has no literal bound.

    ``facts`` are about the symbols outside the tile. Raises ValueError for an empty tile.
    """
    for name, (lo, hi) in tile.items():
        if lo >= hi:
            raise ValueError(f"tile symbol {name} has no values: {lo} .. {hi}")
    single = {name: lo for name, (lo, hi) in tile.items() if hi - lo == 1}
    rest = {name: ends for name, ends in tile.items() if name not in single}
    located = [substitute(index, single) for index in indices]
    boxes: list[_Box] = []
    for index in located:
        box = _range_of_index(index, rest, facts)
        if box is None:
            return None
        boxes.append(box)
    exact = _touches_all([_split(index, rest)[1] for index in located], boxes, rest)
    return [Range(lo, extent, exact) for lo, extent, _ in boxes]


_Box: TypeAlias = tuple[IntExpr, int, bool]
"""Low end, extent, and whether each value is certainly taken."""


def _range_of_index(index: IntExpr, tile: Tile, facts: Facts) -> _Box | None:
    fixed, moving = _split(index, tile)
    coefficients = _coefficients(moving, tile)
    if coefficients is not None:
        return _affine_range(fixed, coefficients, tile)
    box = _range_by_isl(moving, tile, facts) or _range_by_monotonicity(moving, tile, facts)
    if box is None:
        return None
    lo, extent, dense = box
    return fixed + lo, extent, dense


def _split(index: IntExpr, tile: Tile) -> tuple[IntExpr, IntExpr]:
    """The terms without tile symbols, and those with."""
    terms = terms_of(index)
    moving = from_terms({m: c for m, c in terms.items() if any(not free_symbols(f).isdisjoint(tile) for f in m)})
    return index - moving, moving


def _coefficients(moving: IntExpr, tile: Tile) -> dict[str, int] | None:
    """Of each tile symbol, when ``moving`` is a literal combination of tile symbols."""
    parts = affine(moving)
    if parts is None or not parts[0].keys() <= tile.keys():
        return None
    return parts[0]


def _affine_range(fixed: IntExpr, coefficients: dict[str, int], tile: Tile) -> _Box:
    """All values are taken when no coefficient exceeds what the smaller ones reach by more than 1."""
    lo = fixed
    reach = 0
    dense = True
    for name, coefficient in sorted(coefficients.items(), key=lambda item: abs(item[1])):
        first, end = tile[name]
        lo = lo + coefficient * (first if coefficient > 0 else end - 1)
        dense = dense and abs(coefficient) <= reach + 1
        reach += abs(coefficient) * (end - first - 1)
    return lo, reach + 1, dense


# Quasi-affine indices.


def _range_by_isl(moving: IntExpr, tile: Tile, facts: Facts) -> _Box | None:
    outer: dict[str, IntExpr] = {}
    e = _with_outer_symbols(moving, tile, outer)
    if e is None:
        return None
    conditions = [_in_tile(name, ends) for name, ends in tile.items() if name in free_symbols(e)]
    inner = sorted(free_symbols(e) & tile.keys())
    for name, original in outer.items():
        conditions += _literal_facts(sym(name), original, facts)
    try:
        lo, hi = isl.extrema(e, conditions, inner)
        extent = 1 + isl.greatest(hi - lo, conditions)
        dense = isl.takes_all(e, lo, extent, conditions, inner)
    except isl.GaveUp:
        return None
    return simplify(substitute(lo, outer), facts), extent, dense


def _with_outer_symbols(e: IntExpr, tile: Tile, outer: dict[str, IntExpr]) -> IntExpr | None:
    """``e`` with symbols, noted in ``outer``, for its largest parts outside the tile; None if not quasi-affine then."""
    if isinstance(e, Const) or (isinstance(e, Sym) and e.name in tile):
        return e
    if free_symbols(e).isdisjoint(tile):
        name = f"${e}"
        outer[name] = e
        return sym(name)
    match e:
        case Add():
            fixed, moving = _split(e, tile)
            constant = terms_of(fixed).get((), 0)
            parts = [fixed - constant, *(from_terms({m: c}) for m, c in terms_of(moving).items())]
            inner = [_with_outer_symbols(part, tile, outer) for part in parts]
            return None if None in inner else total(part for part in [*inner, const(constant)] if part is not None)
        case Mul((Const(value), factor)):
            part = _with_outer_symbols(factor, tile, outer)
            return None if part is None else value * part
        case FloorDiv(num, Const(den)):
            part = _with_outer_symbols(num, tile, outer)
            return None if part is None else part // den
        case Mod(num, Const(den)):
            part = _with_outer_symbols(num, tile, outer)
            return None if part is None else part % den
        case _:
            return None


def _literal_facts(symbol: IntExpr, e: IntExpr, facts: Facts) -> list[BoolExpr]:
    """What is known of ``e``, for the symbol that stands for it."""
    range_ = bounds(e, facts)
    known = residue(e, facts)
    conditions = [] if range_.lo is None else [ge(symbol, range_.lo)]
    conditions += [] if range_.hi is None else [le(symbol, range_.hi)]
    return [*conditions, eq(symbol % known.modulus, known.remainder)] if known.modulus > 1 else conditions


def _in_tile(name: str, ends: tuple[int, int]) -> BoolExpr:
    return conjunction(ge(sym(name), ends[0]), lt(sym(name), ends[1]))


# Anything else.


def _range_by_monotonicity(moving: IntExpr, tile: Tile, facts: Facts) -> _Box | None:
    ends = _ends(moving, tile, facts)
    if ends is None:
        return None
    lo, hi = simplify(ends[0], facts), simplify(ends[1], facts)
    widest = upper_bound(hi - lo, facts)
    return None if widest is None else (lo, widest + 1, False)


def _ends(e: IntExpr, tile: Tile, facts: Facts) -> tuple[IntExpr, IntExpr] | None:
    """A lower and an upper bound over the tile, as expressions in the other symbols."""
    if free_symbols(e).isdisjoint(tile):
        return e, e
    if isinstance(e, Sym):
        first, end = tile[e.name]
        return const(first), const(end - 1)
    parts = [_ends(part, tile, facts) for part in children(e) if isinstance(part, IntExpr)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    lows, highs = [lo for lo, _ in known], [hi for _, hi in known]
    match e:
        case Add():
            return total(lows), total(highs)
        case Min():
            return minimum(*lows), minimum(*highs)
        case Max():
            return maximum(*lows), maximum(*highs)
        case Mul((Const(value), *_)) if value < 0:
            positive = _ends(-e, tile, facts)
            return None if positive is None else (-positive[1], -positive[0])
        case Mul() if all(_at_least(0, low, facts) for low in lows):
            return product(lows), product(highs)
        case FloorDiv(_, den) if lows[1] is highs[1] and _at_least(1, den, facts):
            return lows[0] // den, highs[0] // den
        case Mod(_, den) if lows[1] is highs[1] and _at_least(1, den, facts):
            if is_proved(eq(lows[0] // den, highs[0] // den), facts):
                return lows[0] % den, highs[0] % den
            return const(0), den - 1
        case _:
            return None


def _at_least(least: int, e: IntExpr, facts: Facts) -> bool:
    low = bounds(e, facts).lo
    return low is not None and low >= least


# Properties of the whole index vector.


def _touches_all(moving: Sequence[IntExpr], boxes: Sequence[_Box], tile: Tile) -> bool:
    """Certainly each point of the box: each index is dense and they share no symbol, or all points were enumerated."""
    if not all(dense for _, _, dense in boxes):
        return False
    symbols = [free_symbols(e) & tile.keys() for e in moving]
    if sum(map(len, symbols)) == len(frozenset[str]().union(*symbols)):
        return True
    return _count_vectors(moving, tile) == math.prod(extent for _, extent, _ in boxes)


def _count_vectors(moving: Sequence[IntExpr], tile: Tile) -> int | None:
    """How many different index vectors there are; None when that is too much work or depends on other symbols."""
    used = frozenset[str]().union(*map(free_symbols, moving))
    names = sorted(used & tile.keys())
    if len(names) < len(used) or math.prod(tile[n][1] - tile[n][0] for n in names) > ENUMERATION_LIMIT:
        return None
    points = points_of(*(range(*tile[name]) for name in names))
    environments = (dict(zip(names, point, strict=True)) for point in points)
    return len({tuple(evaluate(e, environment) for e in moving) for environment in environments})


def is_injective(indices: Sequence[IntExpr], tile: Tile, facts: Facts = _NO_FACTS) -> bool:
    """Whether different tile points certainly have different index vectors, whatever the other symbols are."""
    names = sorted(name for name, (lo, hi) in tile.items() if hi - lo > 1)
    moving = [_split(index, tile)[1] for index in indices]
    if not frozenset(names) <= frozenset[str]().union(*map(free_symbols, moving)):
        return False
    if _has_mixed_radix(moving, tile):
        return True
    count = _count_vectors(moving, tile)
    if count is not None:
        return count == math.prod(tile[name][1] - tile[name][0] for name in names)
    other = {name: sym(f"{name}'") for name in tile}
    conditions = [_in_tile(name, ends) for name, ends in tile.items()]
    conditions += [substitute(condition, other) for condition in conditions]
    conditions += [eq(e, substitute(e, other)) for e in moving]
    different = disjunction(*(ne(sym(name), other[name]) for name in names))
    return isinstance(find_model(facts, *conditions, different), Unsatisfiable)


def _has_mixed_radix(moving: Sequence[IntExpr], tile: Tile) -> bool:
    """Affine indices without common symbols, in each of which a coefficient exceeds all that the smaller ones reach."""
    seen: set[str] = set()
    for e in moving:
        coefficients = _coefficients(e, tile)
        if coefficients is None or not seen.isdisjoint(coefficients):
            return False
        seen |= coefficients.keys()
        reach = 0
        for name, coefficient in sorted(coefficients.items(), key=lambda item: abs(item[1])):
            if abs(coefficient) <= reach:
                return False
            reach += abs(coefficient) * (tile[name][1] - tile[name][0] - 1)
    return True
