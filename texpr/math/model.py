"""Satisfiability of conditions: a point where they hold, the certainty that there is none, or neither.

isl decides quasi-affine conditions. Everything else is first *relaxed* to such conditions over more symbols, which
keeps every solution: products and quotients by symbols become fresh symbols with inequalities that hold between them,
atoms become symbols in {0, 1}, type variables become numbers. No solution of the relaxed conditions means no solution;
a solution is checked against the original conditions. If it is false, the search goes on case by case, and then with
some symbols pinned to values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from itertools import product as pairs
from typing import Final, assert_never

from texpr.math import isl
from texpr.math.bounds import Bounds, Facts, bounds, divisor, inequalities
from texpr.math.expr import (
    Add,
    And,
    Atom,
    AtomKind,
    BoolExpr,
    Compare,
    Const,
    Expr,
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
    atoms_of,
    children,
    compare,
    conjunction,
    disjunction,
    eq,
    evaluate,
    free_symbols,
    ge,
    le,
    maximum,
    minimum,
    ne,
    negation,
    product,
    substitute,
    sym,
    total,
)

_QUESTIONS: Final = 40
"""How often isl is asked for one answer, while cases are split and symbols pinned."""
_CASES: Final = 3
"""How many pairs of products are related by distinguishing the order of their factors: each triples what isl sees."""


@dataclass(frozen=True, slots=True)
class Model:
    """A point where the conditions hold."""

    values: dict[str, int]
    atoms: dict[Atom | TypeIn, bool]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """There is no such point."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Could not be decided."""

    reason: str


def find_model(facts: Facts, *conditions: BoolExpr) -> Model | Unsatisfiable | Unknown:
    """A point where the facts and the conditions hold (and nothing divides by zero).

    Facts that share no symbol with the conditions, even indirectly, are left out at first: they cost time and matter
    only when they contradict themselves.
    """
    everything = [*facts.assumptions, *conditions]
    related = _related(facts.assumptions, conditions)
    found = _search(related, everything)
    if isinstance(found, Unknown) and len(related) < len(everything):
        return _search(everything, everything)
    return found


def upper_bound(e: IntExpr, facts: Facts) -> int | None:
    """A number that ``e`` does not exceed where the facts hold; isl sees correlations that its range does not."""
    value = sym("$bound")
    relaxed = _relax(_related(facts.assumptions, [eq(value, e)]))
    try:
        return isl.greatest(value, relaxed.conditions)
    except isl.GaveUp:
        return bounds(e, facts).hi


def _related(facts: Sequence[BoolExpr], conditions: Sequence[BoolExpr]) -> list[BoolExpr]:
    """The conditions, and the facts that share variables with them or with another such fact."""
    wanted = frozenset[str]().union(*map(_variables, conditions))
    kept: set[BoolExpr] = set()
    while True:
        more = {
            fact
            for fact in facts
            if fact not in kept and not (_variables(fact) and wanted.isdisjoint(_variables(fact)))
        }
        if not more:
            return [*(fact for fact in facts if fact in kept), *conditions]
        kept |= more
        wanted = wanted.union(*map(_variables, more))


def _variables(condition: BoolExpr) -> frozenset[str]:
    """Symbols, tensors of atoms and type variables, as names that do not collide."""
    atoms = atoms_of(condition)
    types = {_type_symbol(atom.variable) for atom in atoms if isinstance(atom, TypeIn)}
    tensors = {f"$tensor {name}" for atom in atoms if isinstance(atom, Atom) for name in atom.names}
    return free_symbols(condition) | types | tensors


# The search: case by case, then with pinned symbols.


@dataclass(slots=True)
class _Progress:
    original: Sequence[BoolExpr]
    """What a model must satisfy."""
    questions: int = 0
    obstacle: str = ""
    """Why an empty-handed search proves nothing; empty as long as it does."""


def _search(conditions: list[BoolExpr], original: list[BoolExpr]) -> Model | Unsatisfiable | Unknown:
    """A model of ``original``, whose conditions include ``conditions``."""
    progress = _Progress(original)
    try:
        found = _solve(conditions, {}, progress)
    except isl.GaveUp as reason:
        return Unknown(str(reason))
    if found is not None:
        return found
    return Unknown(progress.obstacle) if progress.obstacle else Unsatisfiable()


def _solve(conditions: list[BoolExpr], pinned: dict[str, int], progress: _Progress) -> Model | None:
    """A checked model, or None; ``progress.obstacle`` is set where None is not certain."""
    if progress.questions >= _QUESTIONS:
        progress.obstacle = progress.obstacle or f"{_QUESTIONS} cases did not settle it"
        return None
    progress.questions += 1
    conditions = _without_impossible_cases(conditions)
    relaxed = _relax(conditions)
    point = isl.find_point(relaxed.conditions)
    if point is None:
        return None
    model = _as_model(point | pinned, progress.original)
    if _satisfied(progress.original, model):
        return model
    terms = ", ".join(str(e) for e in relaxed.fresh.values()) or "facts that are not related"
    split = next((condition for condition in conditions if isinstance(condition, Or)), None)
    if not relaxed.fresh or split is None:
        progress.obstacle = progress.obstacle or f"it depends on {terms}"
    if not relaxed.fresh:
        return None
    if split is not None:
        rest = [condition for condition in conditions if condition is not split]
        branches: Iterable[tuple[Sequence[BoolExpr], dict[str, int]]] = (
            (Facts().assume(*rest, case).assumptions, pinned) for case in split.args
        )
    else:
        branches = _pinned_branches(conditions, pinned, relaxed, point)
    for narrower, more_pinned in branches:
        found = _solve(list(narrower), more_pinned, progress)
        if found is not None:
            return found
    return None


def _without_impossible_cases(conditions: Sequence[BoolExpr]) -> list[BoolExpr]:
    """Without the members of disjunctions that the ranges of the other conditions exclude."""
    while True:
        facts = Facts().assume(*conditions)
        narrower = [
            disjunction(*(arg for arg in c.args if not _impossible(arg, facts))) if isinstance(c, Or) else c
            for c in facts.assumptions
        ]
        if narrower == list(facts.assumptions):
            return narrower
        conditions = narrower


def _impossible(condition: BoolExpr, facts: Facts) -> bool:
    highs = (bounds(form, facts).hi for form in inequalities(condition))
    return any(high is not None and high < 0 for high in highs)


def _pinned_branches(
    conditions: Sequence[BoolExpr], pinned: dict[str, int], relaxed: _Relaxation, point: dict[str, int]
) -> Iterator[tuple[Sequence[BoolExpr], dict[str, int]]]:
    """The conditions at some values of the symbol that occurs in most non-affine terms."""
    name = _most_entangled(relaxed)
    for value in _candidates(name, point, relaxed.facts):
        try:
            yield [substitute(condition, {name: value}) for condition in conditions], pinned | {name: value}
        except ZeroDivisionError:
            continue


def _most_entangled(relaxed: _Relaxation) -> str:
    """The symbol that occurs in most non-affine terms."""
    counts = Counter(name for e in relaxed.fresh.values() for name in free_symbols(e))
    return min(counts, key=lambda name: (-counts[name], name))


def _candidates(name: str, point: dict[str, int], facts: Facts) -> list[int]:
    """Values worth trying: that of the relaxed solution and those next to the ends of the range."""
    range_ = bounds(sym(name), facts)
    low = _nearest_to_zero(range_)
    tried = [point.get(name, low), low, low + 1, low + 2, range_.hi]
    fitting = [v for v in tried if v is not None and (range_.hi is None or v <= range_.hi)]
    return list(dict.fromkeys(fitting))


def _nearest_to_zero(range_: Bounds) -> int:
    if range_.lo is not None and range_.lo > 0:
        return range_.lo
    return 0 if range_.hi is None else min(0, range_.hi)


def _as_model(point: dict[str, int], original: Sequence[BoolExpr]) -> Model:
    """Symbols that the point leaves open get the least value that their facts allow."""
    facts = Facts().assume(*original)
    names = sorted(frozenset[str]().union(*(free_symbols(condition) for condition in original)))
    values = {name: point[name] if name in point else _nearest_to_zero(bounds(sym(name), facts)) for name in names}
    types = _dtypes(original)
    atoms: dict[Atom | TypeIn, bool] = {}
    for atom in sorted(_atoms(original), key=str):
        if isinstance(atom, TypeIn):
            names = types[atom.variable]
            chosen = point.get(_type_symbol(atom.variable), len(names))
            atoms[atom] = chosen < len(names) and names[chosen] in atom.names
        else:
            atoms[atom] = point.get(_atom_symbol(atom), 0) == 1
    return Model(values, atoms)


def _satisfied(conditions: Sequence[BoolExpr], model: Model) -> bool:
    try:
        return all(evaluate(condition, model.values, model.atoms.__getitem__) for condition in conditions)
    except ZeroDivisionError:
        return False


# Relaxation.


@dataclass(slots=True)
class _Relaxation:
    """Quasi-affine conditions that follow from the original ones, and what each fresh symbol stands for."""

    facts: Facts
    conditions: list[BoolExpr] = field(default_factory=list)
    fresh: dict[str, IntExpr] = field(default_factory=dict)


def _relax(conditions: Sequence[BoolExpr]) -> _Relaxation:
    facts = Facts().assume(*conditions)
    divisors = [den for c in conditions if isinstance(c, Compare) for den in _symbolic_divisors(c)]
    relaxed = _Relaxation(facts.assume(*(ge(den, 1) for den in divisors if _is_nonnegative(den, facts))))
    types = _dtypes(conditions)
    for condition in conditions:
        relaxed.conditions.append(_affine_condition(condition, types, relaxed))
    _relate_products(relaxed)
    for variable, names in types.items():
        relaxed.conditions.append(_between(0, sym(_type_symbol(variable)), len(names)))
    relaxed.conditions += _atom_theory([a for a in _atoms(conditions) if isinstance(a, Atom)])
    return relaxed


def _affine_condition(condition: BoolExpr, types: dict[str, list[str]], relaxed: _Relaxation) -> BoolExpr:
    match condition:
        case Literal():
            return condition
        case Compare(op, lhs, rhs):
            defined = [_nonzero(den, relaxed) for den in _symbolic_divisors(condition)]
            return conjunction(*defined, compare(op, _affine(lhs - rhs, relaxed), 0))
        case And(args):
            return conjunction(*(_affine_condition(arg, types, relaxed) for arg in args))
        case Or(args):
            return disjunction(*(_affine_condition(arg, types, relaxed) for arg in args))
        case Not(arg):
            return negation(_affine_condition(arg, types, relaxed))
        case Atom():
            return eq(sym(_atom_symbol(condition)), 1)
        case TypeIn(variable, names):
            chosen = sym(_type_symbol(variable))
            return disjunction(*(eq(chosen, types[variable].index(name)) for name in names))
        case _:
            assert_never(condition)


def _symbolic_divisors(e: Expr) -> list[IntExpr]:
    inner = [den for child in children(e) for den in _symbolic_divisors(child)]
    if isinstance(e, FloorDiv | Mod) and not isinstance(e.den, Const):
        return [e.den, *inner]
    return inner


def _nonzero(den: IntExpr, relaxed: _Relaxation) -> BoolExpr:
    e = _affine(den, relaxed)
    return ge(e, 1) if _is_nonnegative(den, relaxed.facts) else ne(e, 0)


def _is_nonnegative(e: IntExpr, facts: Facts) -> bool:
    low = bounds(e, facts).lo
    return low is not None and low >= 0


def _affine(e: IntExpr, relaxed: _Relaxation) -> IntExpr:
    """``e`` with fresh symbols in place of products of symbols and of divisions by them."""
    match e:
        case Const() | Sym():
            return e
        case Add(args):
            return total(_affine(arg, relaxed) for arg in args)
        case Mul((Const(value), *factors)):
            return value * _affine(product(factors), relaxed)
        case Mul(factors):
            return _fresh_product(factors, relaxed)
        case FloorDiv(num, Const(den)):
            return _affine(num, relaxed) // den
        case Mod(num, Const(den)):
            return _affine(num, relaxed) % den
        case FloorDiv(num, den):
            return _fresh_quotient(e, num, den, relaxed)
        case Mod(num, den):
            return _affine(num, relaxed) - _affine(den * (num // den), relaxed)
        case Min(args):
            return minimum(*(_affine(arg, relaxed) for arg in args))
        case Max(args):
            return maximum(*(_affine(arg, relaxed) for arg in args))
        case _:
            assert_never(e)


def _fresh(e: IntExpr, relaxed: _Relaxation) -> tuple[IntExpr, bool]:
    """The symbol that stands for ``e``, and whether it is new; a new one gets the range and the divisor of ``e``."""
    name = f"${e}"
    symbol = sym(name)
    if name in relaxed.fresh:
        return symbol, False
    relaxed.fresh[name] = e
    range_ = bounds(e, relaxed.facts)
    relaxed.conditions.append(_between(range_.lo, symbol, range_.hi))
    known_divisor = divisor(e, relaxed.facts)
    if known_divisor > 1:
        relaxed.conditions.append(eq(symbol % known_divisor, 0))
    return symbol, True


def _between(lo: int | None, e: IntExpr, hi: int | None) -> BoolExpr:
    ends = [] if lo is None else [ge(e, lo)]
    return conjunction(*ends, *([] if hi is None else [le(e, hi)]))


def _fresh_product(factors: tuple[IntExpr, ...], relaxed: _Relaxation) -> IntExpr:
    """With the McCormick inequalities ``(x - x.lo) * (y - y.lo) >= 0`` and so on: x the first factor, y the rest."""
    p, new = _fresh(product(factors), relaxed)
    if new:
        first, rest = factors[0], product(factors[1:])
        x, y = _affine(first, relaxed), _affine(rest, relaxed)
        x_range, y_range = bounds(first, relaxed.facts), bounds(rest, relaxed.facts)
        for a, x_is_low in ((x_range.lo, True), (x_range.hi, False)):
            for b, y_is_low in ((y_range.lo, True), (y_range.hi, False)):
                if a is not None and b is not None:
                    corner = p - a * y - b * x + a * b
                    relaxed.conditions.append(ge(corner, 0) if x_is_low == y_is_low else le(corner, 0))
    return p


def _fresh_quotient(e: IntExpr, num: IntExpr, den: IntExpr, relaxed: _Relaxation) -> IntExpr:
    """For a divisor that is not negative: ``0 <= num - den * q <= den - 1``, unless it is zero."""
    q, new = _fresh(e, relaxed)
    if new and _is_nonnegative(den, relaxed.facts):
        remainder = _affine(num, relaxed) - _affine(den * e, relaxed)
        affine_den = _affine(den, relaxed)
        in_range = conjunction(ge(remainder, 0), le(remainder, affine_den - 1))
        relaxed.conditions.append(disjunction(le(affine_den, 0), in_range))
    return q


def _relate_products(relaxed: _Relaxation) -> None:
    """For products ``f*u`` and ``f*v`` with ``f >= 0``: ``u < v`` gives ``f*u <= f*v - f``, and so on."""
    cases = 0
    for left, right in _pairs_of_products(relaxed):
        f = product((Counter(left.args) & Counter(right.args)).elements())
        u = product((Counter(left.args) - Counter(right.args)).elements())
        v = product((Counter(right.args) - Counter(left.args)).elements())
        if any(isinstance(e, Const) for e in (f, u, v)) or not _is_nonnegative(f, relaxed.facts):
            continue
        below, equal, above = (_affine_condition(c, {}, relaxed) for c in (le(u, v - 1), eq(u, v), ge(u, v + 1)))
        p, q, step = _affine(left, relaxed), _affine(right, relaxed), _affine(f, relaxed)
        gap = bounds(v - u, relaxed.facts)
        if gap.lo is not None and gap.lo >= 0:
            relaxed.conditions.append(le(p, q - min(gap.lo, 1) * step))
        elif gap.hi is not None and gap.hi <= 0:
            relaxed.conditions.append(ge(p, q - max(gap.hi, -1) * step))
        elif cases < _CASES:
            cases += 1
            below_q, above_q = conjunction(below, le(p, q - step)), conjunction(above, ge(p, q + step))
            relaxed.conditions.append(disjunction(below_q, conjunction(equal, eq(p, q)), above_q))


def _pairs_of_products(relaxed: _Relaxation) -> Iterator[tuple[Mul, Mul]]:
    """Each pair once, also those of the products that relating the first ones brings in."""
    done: list[Mul] = []
    for _ in range(2):
        new = [e for e in relaxed.fresh.values() if isinstance(e, Mul) and e not in done]
        yield from combinations(new, 2)
        yield from pairs(done, new)
        done += new


# Atoms and types.


def _atoms(conditions: Sequence[BoolExpr]) -> frozenset[Atom | TypeIn]:
    return frozenset[Atom | TypeIn]().union(*(atoms_of(condition) for condition in conditions))


def _atom_symbol(atom: Atom) -> str:
    return f"${atom}"


def _type_symbol(variable: str) -> str:
    return f"$type {variable}"


def _dtypes(conditions: Sequence[BoolExpr]) -> dict[str, list[str]]:
    """The dtypes named for each type variable; one number more stands for all the others."""
    found: dict[str, set[str]] = {}
    for atom in _atoms(conditions):
        if isinstance(atom, TypeIn):
            found.setdefault(atom.variable, set()).update(atom.names)
    return {variable: sorted(names) for variable, names in sorted(found.items())}


def _atom_theory(atoms: Sequence[Atom]) -> list[BoolExpr]:
    """Each is true or false; aligned to 32 bytes is aligned to 16."""
    ordered = sorted(atoms, key=str)
    theory = [_between(0, sym(_atom_symbol(atom)), 1) for atom in ordered]
    for a in ordered:
        for b in ordered:
            if a is not b and _implies(a, b):
                theory.append(le(sym(_atom_symbol(a)), sym(_atom_symbol(b))))
    return theory


def _implies(a: Atom, b: Atom) -> bool:
    if a.kind is not AtomKind.ALIGNED or b.kind is not AtomKind.ALIGNED or a.names != b.names:
        return False
    return a.number is not None and b.number is not None and a.number % b.number == 0
