"""Reads must be in bounds: proved, or under a boundary, or mentioned by a guard.

Every read without a boundary is checked under the conditions that enclose it: ``where=`` of its reduction and the
conditions of the selects around it. Data-dependent indices stand as symbols whose range is the tensor's contract
(``map: i32[V, N] in [-1, P)``), if it has a domain only where those conditions imply it, or the range of their type. A
read that is neither proved nor guarded is refused.

A read that takes another element in place of one outside (clamped, wrapped, mirrored) needs a source with elements:
proved as well, since an axis along which something is computed is not empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from texpr.dtypes import DType, Kind
from texpr.errors import Location
from texpr.lang.domains import condition_at
from texpr.lang.errors import EmptySourceError, OutOfRangeError
from texpr.lang.index import conjuncts, is_exact, to_bool_expr, to_int_expr
from texpr.lang.ir import (
    Axis,
    AxisRef,
    BoundaryMode,
    Const,
    Expr,
    Op,
    OpName,
    Read,
    ScalarRef,
    Select,
    Tensor,
    children,
    walk,
)
from texpr.lang.show import expr_text
from texpr.math.bounds import Facts, bounds
from texpr.math.expr import (
    ZERO,
    BoolExpr,
    IntExpr,
    const,
    evaluate,
    free_symbols,
    ge,
    lt,
    negation,
    substitute,
    sym,
    terms_of,
)
from texpr.math.prove import Proof, Proved, Refuted, Unknown, prove

Guards = tuple[tuple[Expr, bool], ...]
"""Enclosing conditions and whether they hold (the second branch of a select: they do not)."""


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a definition is evaluated: its axes, the algorithm's facts, and the values of derived dims."""

    axes: tuple[Axis, ...]
    facts: tuple[BoolExpr, ...]
    derived: Mapping[str, IntExpr]
    location: Location | None


def check_reads(roots: tuple[Expr, ...], where: Expr | None, domain: Domain) -> None:
    """``where``, if any, is the last root.

    Raises: OutOfRangeError for the first read that may leave its source, EmptySourceError for one under a boundary
    that may find it empty.
    """
    checker = _Checker(domain)
    guards: Guards = () if where is None else tuple((part, True) for part in conjuncts(where))
    for root in roots:
        checker.visit(root, () if root is where else guards)


@dataclass(slots=True)
class _Checker:
    domain: Domain
    seen: set[tuple[int, Guards]] = field(default_factory=set)

    def visit(self, expr: Expr, guards: Guards) -> None:
        key = (id(expr), guards)
        if key in self.seen:
            return
        self.seen.add(key)
        if isinstance(expr, Select):
            self.visit(expr.condition, guards)
            parts = conjuncts(expr.condition)
            self.visit(expr.then, (*guards, *((part, True) for part in parts)))
            self.visit(expr.otherwise, (*guards, (expr.condition, False)))
            return
        for child in children(expr):
            self.visit(child, guards)
        if isinstance(expr, Read) and expr.boundary.mode is BoundaryMode.NONE:
            self.check(expr, guards)
        elif isinstance(expr, Read) and expr.boundary.mode is not BoundaryMode.FILL:
            self.check_not_empty(expr, guards)

    def check_not_empty(self, read: Read, guards: Guards) -> None:
        derived = self.domain.derived
        crossed = {substitute(axis.extent, derived) for axis in self.domain.axes}
        for extent in _extents(read):
            limit = substitute(extent, derived)
            if limit in crossed or _at_least_zero(limit - 1, Facts()):
                continue
            if not isinstance(_proof(ge(limit, 1), self.facts(_Symbols(), guards)), Proved):
                at = read.location or self.domain.location
                raise EmptySourceError(name=read.source.name, extent=extent, at=at)

    def check(self, read: Read, guards: Guards) -> None:
        for position, (index, extent) in enumerate(zip(read.indices, _extents(read), strict=True)):
            if isinstance(index, AxisRef) and index.axis.extent is extent:
                continue
            self.check_index(read, position, index, extent, guards)

    def check_index(self, read: Read, position: int, index: Expr, extent: IntExpr, guards: Guards) -> None:
        symbols = _Symbols()
        derived = self.domain.derived
        value = substitute(symbols.translate(index), derived)
        limit = substitute(extent, derived)
        if self.within_ranges(value, limit, symbols):
            return
        facts = self.facts(symbols, guards)
        low, high = ge(value, 0), lt(value, limit)
        proofs = {f"{value} >= 0": _proof(low, facts), f"{value} < {extent}": _proof(high, facts)}
        unproved = [text for text, proof in proofs.items() if not isinstance(proof, Proved)]
        if not unproved:
            return
        doubt = next((proof for proof in proofs.values() if isinstance(proof, Refuted)), None)
        relevant = [guard for guard, _ in guards if _subjects(guard) & _subjects(index)]
        understood = all(to_bool_expr(guard, symbols.leaf) is not None for guard in relevant)
        if relevant and not (understood and doubt is not None and _subjects(index) <= _axes_of(index)):
            return
        raise OutOfRangeError(
            name=read.source.name,
            position=position,
            index=expr_text(index),
            extent=extent,
            verdict=_verdict(doubt, value),
            fix=_fix(read, index, extent, unproved),
            at=read.location or self.domain.location,
        )

    def within_ranges(self, value: IntExpr, limit: IntExpr, symbols: _Symbols) -> bool:
        """The quick proof: put every axis and datum at the end of its own range, and ask for the sign of what is left
        in dims."""
        derived = self.domain.derived
        ends: dict[str, tuple[IntExpr, IntExpr]] = {
            a.name: (ZERO, substitute(a.extent, derived) - 1) for a in self.domain.axes
        }
        for name, (start, stop) in symbols.tightest().items():
            ends[name] = (substitute(start, derived), substitute(stop, derived) - 1)
        least, room = value, limit - 1 - value
        for name, (first, last) in ends.items():
            rising = _direction(value, name)
            if rising is None:
                return False
            least = substitute(least, {name: first if rising else last})
            room = substitute(room, {name: last if rising else first})
        names = (
            free_symbols(least)
            | free_symbols(room)
            | {name for a in self.domain.axes for name in free_symbols(a.extent)}
        )
        facts = Facts.nonnegative(sorted(names)).assume(*(substitute(fact, derived) for fact in self.domain.facts))
        nonempty = (ge(substitute(axis.extent, derived), 1) for axis in self.domain.axes)
        facts = facts.assume(*nonempty)
        return _at_least_zero(least, facts) and _at_least_zero(room, facts)

    def facts(self, symbols: _Symbols, guards: Guards) -> Facts:
        derived = self.domain.derived
        conditions: list[BoolExpr] = [*self.domain.facts]
        for guard, holds in guards:
            known = to_bool_expr(guard, symbols.leaf)
            if known is not None:
                conditions.append(known if holds else negation(known))
        dims: set[str] = set()
        for axis in self.domain.axes:
            conditions += [ge(sym(axis.name), 0), lt(sym(axis.name), axis.extent)]
            dims |= free_symbols(axis.extent)
        conditions += symbols.conditions()
        resolved = [substitute(condition, derived) for condition in conditions]
        names = {name for condition in resolved for name in free_symbols(condition)}
        names -= {axis.name for axis in self.domain.axes} | set(symbols.opaque)
        facts = Facts.nonnegative(sorted(names)).assume(*resolved)
        return facts.assume(*(substitute(condition, derived) for condition in symbols.in_domains(facts, derived)))


@dataclass(slots=True)
class _Symbols:
    """Symbols that stand for data: by the text of the expression, so that equal reads are one symbol."""

    opaque: dict[str, Expr] = field(default_factory=dict)

    def translate(self, index: Expr) -> IntExpr:
        value = to_int_expr(index, self.leaf)
        return self.stand_in(index) if value is None else value

    def leaf(self, expr: Expr) -> IntExpr | None:
        """A symbol for data and for integer operations that could wrap."""
        return self.stand_in(expr) if expr.dtype.is_int and not is_exact(expr) else None

    def stand_in(self, expr: Expr) -> IntExpr:
        name = expr_text(expr)
        self.opaque[name] = expr
        return sym(name)

    def tightest(self) -> dict[str, tuple[IntExpr, IntExpr]]:
        """One half-open range of each symbol that has any."""
        return {name: ranges[0] for name, expr in self.opaque.items() if (ranges := _ranges(expr))}

    def conditions(self) -> list[BoolExpr]:
        """Everything known of the symbols."""
        return [
            condition
            for name, expr in self.opaque.items()
            for low, high in _ranges(expr)
            for condition in (ge(sym(name), low), lt(sym(name), high))
        ]

    def in_domains(self, facts: Facts, derived: Mapping[str, IntExpr]) -> list[BoolExpr]:
        """The ranges that hold in a domain, of the symbols that ``facts`` put there."""
        found: list[BoolExpr] = []
        for name, expr in list(self.opaque.items()):
            source = expr.source if isinstance(expr, Read) else None
            if not isinstance(source, Tensor) or source.domain is None:
                continue
            assert isinstance(expr, Read) and source.low is not None and source.high is not None
            inside = to_bool_expr(condition_at(source.domain, expr.indices), self.leaf)
            if inside is not None and isinstance(_proof(substitute(inside, derived), facts), Proved):
                found += [ge(sym(name), source.low), lt(sym(name), source.high)]
        return found


def _ranges(expr: Expr) -> list[tuple[IntExpr, IntExpr]]:
    """What the type of ``expr`` and a contract that holds everywhere say of its value: half-open ranges, the tightest
    first."""
    found: list[tuple[IntExpr, IntExpr]] = []
    contract = expr.source if isinstance(expr, Read) and isinstance(expr.source, Tensor) else None
    bounded = expr.scalar if isinstance(expr, ScalarRef) else contract
    partial = contract is not None and contract.domain is not None
    if bounded is not None and bounded.low is not None and bounded.high is not None and not partial:
        found.append((bounded.low, bounded.high))
    match expr:
        case Op(name=OpName.AND, args=(_, Const(value=mask)) | (Const(value=mask), _)) if mask >= 0:
            found.append((ZERO, const(int(mask) + 1)))
        case Op(name=OpName.SHR, args=(a, Const(value=count))) if (
            a.dtype.kind is Kind.UNSIGNED and 0 <= count < a.dtype.bits
        ):
            found.append((ZERO, const(1 << (a.dtype.bits - int(count)))))
    if expr.dtype.kind is Kind.UNSIGNED:
        found.append((ZERO, const(1 << expr.dtype.bits)))
    elif expr.dtype is not DType.I64:
        half = 1 << (expr.dtype.bits - 1)
        found.append((const(-half), const(half)))
    return found


def _direction(value: IntExpr, name: str) -> bool | None:
    """Whether ``value`` grows with a symbol that it contains at most linearly, with a literal coefficient; None if it
    is not so simple."""
    coefficient = 0
    for monomial, factor in terms_of(value).items():
        if monomial == (sym(name),):
            coefficient = factor
        elif any(name in free_symbols(part) for part in monomial):
            return None
    return coefficient >= 0


def _at_least_zero(value: IntExpr, facts: Facts) -> bool:
    low = bounds(value, facts).lo
    return low is not None and low >= 0


def _proof(goal: BoolExpr, facts: Facts) -> Proof:
    """A proof through islpy where the quick ones fail; without islpy, nothing is known."""
    try:
        return prove(goal, facts)
    except ModuleNotFoundError:
        return Unknown("islpy is not installed")


def _verdict(doubt: Refuted | None, value: IntExpr) -> str:
    if doubt is None:
        return "may leave"
    point = ", ".join(f"{name}={doubt.counterexample[name]}" for name in sorted(doubt.counterexample))
    return f"is {evaluate(value, doubt.counterexample)} at {point}, outside" if point else "is outside"


def _extents(read: Read) -> tuple[IntExpr, ...]:
    source = read.source
    return source.extents if isinstance(source, Tensor) else tuple(axis.extent for axis in source.axes)


def _axes_of(expr: Expr) -> set[str]:
    return {expr_text(node) for node in walk(expr) if isinstance(node, AxisRef)}


def _subjects(expr: Expr) -> set[str]:
    return {expr_text(node) for node in walk(expr) if isinstance(node, AxisRef | Read | ScalarRef)}


def _fix(read: Read, index: Expr, extent: IntExpr, unproved: list[str]) -> str:
    name = read.source.name
    data = next((node for node in walk(index) if isinstance(node, Read) and isinstance(node.source, Tensor)), None)
    options = [
        f"{name}.padded(0)[...] or {name}.clamped()[...]",
        "a guard: where= of the reduction, or te.where around the read",
    ]
    if data is not None and isinstance(data.source, Tensor) and data.source.low is None:
        options.append(f"a contract: {data.source.name}: {data.source.dtype}[...] in [0, {extent})")
    else:
        options.append("require=[...] if it is a fact about dims")
    return f"{'; or '.join(options)}. Not proved: {' and '.join(unproved)}"
