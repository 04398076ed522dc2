"""Integer expressions over axes as tile expressions, and their split into a uniform base and a per-element rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.ir import Axis, OpName
from texpr.math.expr import Add, Const, FloorDiv, IntExpr, Max, Min, Mod, Mul, Sym, const, free_symbols, substitute, sym
from texpr.math.integer import from_terms, terms_of
from texpr.plan.access import affine_in
from texpr.plan.errors import NotLowered
from texpr.tile import build as tile
from texpr.tile.declarations import Space
from texpr.tile.ir import Expr
from texpr.tile.scope import AxisValue, Scope


@dataclass(frozen=True, slots=True)
class Split:
    """``value = base + sum(coefficient * lane of axis)``."""

    base: IntExpr
    lanes: tuple[tuple[str, IntExpr], ...]


def by_name(scope: Scope) -> dict[str, tuple[Axis, AxisValue]]:
    """The axes of a scope by the symbol that stands for them."""
    return {axis.name: (axis, value) for axis, value in scope.axes.items()}


def lane_symbol(name: str) -> str:
    return f"{name}'"


def with_origins(value: IntExpr, scope: Scope) -> IntExpr:
    """``value`` with every axis replaced by ``origin + lane`` (the lane as a primed symbol, absent for uniform axes).
    """
    replacements: dict[str, IntExpr | int] = {}
    for name, (_, at) in by_name(scope).items():
        if at.tile is None:
            replacements[name] = at.origin + sym(lane_symbol(name)) if at.size > 1 else at.origin
    return substitute(value, replacements)


def split(value: IntExpr, scope: Scope) -> Split | None:
    """The affine split of an index over the scope's axes, or None if some lane enters in another way."""
    axes = by_name(scope)
    if any(at.tile is not None and name in free_symbols(value) for name, (_, at) in axes.items()):
        return None
    expanded = with_origins(value, scope)
    names = [lane_symbol(name) for name, (_, at) in axes.items() if at.size > 1 and at.tile is None]
    present = [name for name in names if name in free_symbols(expanded)]
    coefficients = affine_in(expanded, present)
    if set(coefficients) != set(present):
        return None
    base = substitute(expanded, dict.fromkeys(present, 0))
    return Split(base, tuple((name[:-1], coefficients[name]) for name in present))


def index_tile(value: IntExpr, scope: Scope, space: Space) -> Expr:
    """``value`` at every point of ``space``: i32, or i64 where a product of two sizes is involved."""
    parts = split(value, scope)
    if parts is not None:
        result = tile.uniform(parts.base, width_of(parts.base))
        for name, coefficient in parts.lanes:
            if space.dim_of(name) is None:
                raise NotLowered(
                    what=f"an index along {name} of values that are kept without {name}",
                    instead=f"no in: shared of what is indexed by {name}, or tiles of 1 along {name}",
                )
            lane = tile.lane(space, name)
            result = tile.op(
                OpName.ADD, result, tile.op(OpName.MUL, lane, tile.uniform(coefficient, width_of(coefficient)))
            )
        return result
    match value:
        case Sym(name=name):
            value_here = by_name(scope)[name][1].tile
            assert value_here is not None
            return value_here
        case Add() | Mul():
            return _polynomial(value, scope, space)
        case FloorDiv(num=num, den=den):
            return _binary(OpName.FLOORDIV, num, den, scope, space)
        case Mod(num=num, den=den):
            return _binary(OpName.MOD, num, den, scope, space)
        case Min(args=args):
            return _fold(OpName.MIN, args, scope, space)
        case Max(args=args):
            return _fold(OpName.MAX, args, scope, space)
        case Const():
            return tile.uniform(value)


def width_of(value: IntExpr) -> DType:
    """I64 for products of sizes, which may pass 2**31; I32 for everything else (the launcher bounds every dim)."""
    return DType.I64 if any(len(monomial) > 1 for monomial in terms_of(value)) else DType.I32


def _polynomial(value: IntExpr, scope: Scope, space: Space) -> Expr:
    uniform: dict[tuple[IntExpr, ...], int] = {}
    result: Expr | None = None
    moving = {name for name, (_, at) in by_name(scope).items() if at.size > 1 or at.tile is not None}
    for monomial, count in terms_of(value).items():
        if not any(free_symbols(factor) & moving for factor in monomial):
            uniform[monomial] = count
            continue
        term: Expr | None = None
        for factor in monomial:
            part = index_tile(factor, scope, space)
            term = part if term is None else tile.op(OpName.MUL, term, part)
        assert term is not None
        if count != 1:
            term = tile.op(OpName.MUL, term, tile.uniform(count))
        result = term if result is None else tile.op(OpName.ADD, result, term)
    rest = with_origins(from_terms(uniform), scope)
    base = tile.uniform(rest, width_of(rest))
    return base if result is None else tile.op(OpName.ADD, result, base)


def _binary(name: OpName, a: IntExpr, b: IntExpr, scope: Scope, space: Space) -> Expr:
    return tile.op(name, index_tile(a, scope, space), index_tile(b, scope, space))


def _fold(name: OpName, args: tuple[IntExpr, ...], scope: Scope, space: Space) -> Expr:
    result = index_tile(args[0], scope, space)
    for arg in args[1:]:
        result = tile.op(name, result, index_tile(arg, scope, space))
    return result


def largest(parts: Mapping[str, IntExpr] | Split, scope: Scope) -> IntExpr:
    """The largest value of the lane part: what must stay below 2**31."""
    lanes = parts.lanes if isinstance(parts, Split) else tuple(parts.items())
    total: IntExpr = const(0)
    for name, coefficient in lanes:
        total = total + coefficient * (by_name(scope)[name][1].size - 1)
    return total
