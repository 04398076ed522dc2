"""Guards by class: what the conjuncts of a reduction's ``where=`` say about one reduced axis k.

    half-space    a*k <= e, a*k >= e (also <, >, ==)     a a literal, e free of k: dims, axes, values read from memory
    congruence    (a*k + e) % c == 0                     a, c literals without a common factor, e over axes and dims
    other         anything else

A half-space bounds the loop over k by the extrema of e over the tile, a congruence makes it step by c; ``trim`` of a
schedule asks for both. What is ``other`` is tested point by point.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.index import to_int_expr
from texpr.lang.ir import INDEX, Axis, Cast, Const, Expr, Func, Op, OpName
from texpr.lang.show import expr_text
from texpr.math.expr import Const as IntConst
from texpr.math.expr import IntExpr, Mod, free_symbols, sym
from texpr.math.expr import substitute as with_values
from texpr.plan.access import affine_in
from texpr.plan.errors import TrimInvalid
from texpr.plan.inline import axes_of, conjunction, conjuncts, reads_of, substitute
from texpr.plan.ir import Congruence, HalfSpace, LoopAxis, Trim
from texpr.schedule.places import Place
from texpr.schedule.words import TrimMode

# A comparison as half-spaces: whether k lies below the edge (else from it on), and whether the edge comes after e/a.
_EDGES: Mapping[OpName, tuple[tuple[bool, bool], ...]] = {
    OpName.LE: ((True, True),),
    OpName.LT: ((True, False),),
    OpName.GE: ((False, False),),
    OpName.GT: ((False, True),),
    OpName.EQ: ((False, False), (True, True)),
}
_MIRRORED: Mapping[OpName, OpName] = {
    OpName.LE: OpName.GE,
    OpName.LT: OpName.GT,
    OpName.GE: OpName.LE,
    OpName.GT: OpName.LT,
    OpName.EQ: OpName.EQ,
}


def half_spaces(conjunct: Expr, axis: Axis) -> tuple[HalfSpace, ...]:
    """What ``conjunct`` says of ``axis`` as half-spaces; none if it is no comparison that is linear in it."""
    if not isinstance(conjunct, Op) or conjunct.name not in _EDGES:
        return ()
    left, right = conjunct.args
    if not all(side.dtype.is_int and side.dtype is not DType.U64 for side in (left, right)):
        return ()
    known = _slope(left, axis), _slope(right, axis)
    if known[0] is None or known[1] is None or known[0] == known[1]:
        return ()
    slope, name = known[0] - known[1], conjunct.name
    bound = _difference(_without(right, axis), _without(left, axis))
    if slope < 0:
        slope, name, bound = -slope, _MIRRORED[name], _difference(_without(left, axis), _without(right, axis))
    return tuple(HalfSpace(conjunct, slope, bound, below, after) for below, after in _EDGES[name])


def congruence(conjunct: Expr, axis: Axis) -> Congruence | None:
    """``conjunct`` as ``axis % modulus == residue``, or None if it does not say so."""
    match conjunct:
        case Op(name=OpName.EQ, args=(left, right)) if left.dtype.is_int and right.dtype.is_int:
            value, wanted = to_int_expr(left), to_int_expr(right)
        case _:
            return None
    if isinstance(wanted, Mod):
        value, wanted = wanted, value
    if not isinstance(value, Mod) or wanted is None or not isinstance(value.den, IntConst):
        return None
    modulus = value.den.value
    if axis.name in free_symbols(wanted) or not (isinstance(wanted, IntConst) and 0 <= wanted.value < modulus):
        return None
    slope = affine_in(value.num, [axis.name]).get(axis.name)
    if not isinstance(slope, IntConst) or math.gcd(slope.value, modulus) != 1:
        return None
    rest = with_values(value.num, {axis.name: 0})
    return Congruence(conjunct, modulus, (wanted - rest) * pow(slope.value, -1, modulus) % modulus)


def _slope(expr: Expr, axis: Axis) -> int | None:
    """The literal coefficient of ``axis`` in ``expr``, or None where it enters in another way."""

    def leaf(node: Expr) -> IntExpr | None:
        if axis in axes_of(node) or not node.dtype.is_int:
            return None
        known = to_int_expr(node)
        return sym(f"?{id(node)}") if known is None else known

    value = to_int_expr(expr, leaf)
    if value is None:
        return None
    if axis.name not in free_symbols(value):
        return 0
    slope = affine_in(value, [axis.name]).get(axis.name)
    return slope.value if isinstance(slope, IntConst) else None


def _without(expr: Expr, axis: Axis) -> Expr:
    value = substitute(expr, {axis: Const(0, INDEX)})
    return value if value.dtype is INDEX else Cast(value, INDEX)


def _difference(left: Expr, right: Expr) -> Expr:
    """``left - right``, without arithmetic where it is one of them: what is read may be as large as its type."""
    known = to_int_expr(right)
    return left if known == IntConst(0) else Op(OpName.SUB, (left, right), INDEX)


# ---- trimming ------------------------------------------------------------------------------------------------------


def trimmed(
    func: str,
    where: Expr | None,
    loops: tuple[LoopAxis, ...],
    sizes: Mapping[Axis, int],
    place: Place,
    inside: frozenset[Func],
) -> tuple[tuple[LoopAxis, ...], Expr | None]:
    """The loops of a reduction bounded as ``trim`` asks, and what is left of its guard: conjuncts that hold at every
    point of the trimmed loops are dropped. ``inside`` are the funcs computed in the loops. Raises ``TrimInvalid``."""
    if not place.trim:
        return loops, where
    parts = conjuncts(where)
    settled: list[Expr] = []
    found = {loop.axis: loop for loop in loops}
    for name, mode in place.trim.items():
        at = place.trim.location_of(name) or place.location_of("trim")
        loop = next((loop for loop in loops if loop.axis.name == name), None)
        if loop is None:
            choices = ", ".join(loop.axis.name for loop in loops) or "none"
            raise TrimInvalid(func=func, axis=name, why="it has no such loop", hint=f"one of {choices}", at=at)
        trim, exact = _trim_of(func, parts, loop, loops, sizes, mode, at)
        for read in (read for half in trim.halves for read in reads_of(half.bound)):
            if read.source in inside:
                why = f"its bound depends on {read.source.name}, which is computed inside of the loop"
                raise TrimInvalid(func=func, axis=name, why=why, hint=f"place {read.source.name} at tile", at=at)
        found[loop.axis] = dataclasses.replace(loop, trim=trim)
        settled += exact
    split = [name for name, mode in place.trim.items() if mode is TrimMode.SPLIT]
    if len(split) > 1:
        why = f"{split[0]} is split as well, and every part of one loop would hold all parts of the other"
        raise TrimInvalid(func=func, axis=split[1], why=why, hint=f"{split[1]}: mask", at=place.location_of("trim"))
    left = [part for part in parts if not any(part is done for done in settled)]
    return tuple(found[loop.axis] for loop in loops), conjunction(left) if left else None


def _trim_of(
    func: str,
    parts: Sequence[Expr],
    loop: LoopAxis,
    loops: Sequence[LoopAxis],
    sizes: Mapping[Axis, int],
    mode: TrimMode,
    at: Location | None,
) -> tuple[Trim, list[Expr]]:
    """How one loop is trimmed, and the conjuncts that then hold in all of its steps."""

    def refuse(why: str, hint: str | None = None) -> TrimInvalid:
        return TrimInvalid(func=func, axis=loop.axis.name, why=why, hint=hint, at=at)

    if loop.unrolled:
        raise refuse("an unrolled loop has all of its steps", f"take {loop.axis.name} out of unroll")
    halves: list[HalfSpace] = []
    stepped: Congruence | None = None
    exact: list[Expr] = []
    for part in parts:
        if loop.axis not in axes_of(part):
            continue
        found = half_spaces(part, loop.axis)
        around = _around(part, loop, loops)
        beside = [half for half in (_beside(half, around) for half in found) if half is not None]
        if beside:
            halves += beside
            if loop.size == 1 and not around and not _wide(found[0].bound, sizes):
                exact.append(part)
            continue
        periodic = congruence(part, loop.axis)
        if periodic is None or _moves(periodic, loop, loops) or stepped is not None:
            continue
        if loop.size > 1:
            name, by = loop.axis.name, periodic.modulus
            why = f"{expr_text(part)} holds at one point in {by}"
            halves_of = f"split: {{{name}: {{into: [{name}o, {name}i], by: {by}}}}}"
            wide = f"loop: {{{name}o: {loop.size}, {name}i: 1}}, trim: [{name}i]"
            raise refuse(why, f"loop: {{{name}: 1}}, or {halves_of} with {wide}")
        if not is_uniform(periodic, sizes):
            wide = sorted(axis.name for axis in axes_of(part) if sizes.get(axis, 1) > 1)[0]
            why = f"{expr_text(part)} holds for other {loop.axis.name} at the next point along {wide}"
            cut = f"{{{wide}: {{into: [{wide}o, {wide}i], by: {periodic.modulus}}}}}"
            raise refuse(why, f"split: {cut} and a tile of 1 along {wide}i")
        stepped = periodic
        exact.append(part)
    if not halves and stepped is None:
        raise refuse(_nothing(parts, loop, loops))
    return Trim(tuple(halves), stepped, mode), exact


def _nothing(parts: Sequence[Expr], loop: LoopAxis, loops: Sequence[LoopAxis]) -> str:
    name = loop.axis.name
    mentioning = [part for part in parts if loop.axis in axes_of(part)]
    if not mentioning:
        return f"its guard says nothing of {name}" if parts else "it has no guard (where=)"
    other = _around(mentioning[0], loop, loops)
    if other:
        return f"{expr_text(mentioning[0])} depends on {other[0].name} as well, another loop of {name}'s nest"
    return f"{expr_text(mentioning[0])} is neither a*{name} <= e, a*{name} >= e nor (a*{name} + e) % c == 0"


def _around(part: Expr, loop: LoopAxis, loops: Sequence[LoopAxis]) -> list[Axis]:
    """The other loops of the reduction that a conjunct depends on: they are stepped through together."""
    return [other.axis for other in loops if other is not loop and other.axis in axes_of(part)]


def _moves(periodic: Congruence, loop: LoopAxis, loops: Sequence[LoopAxis]) -> bool:
    """Whether the residue differs from step to step of another loop: a multiple of the modulus leaves it alone."""
    others = {other.axis.name for other in loops if other is not loop}
    return bool(others & free_symbols(periodic.residue))


def _beside(half: HalfSpace, others: Sequence[Axis]) -> HalfSpace | None:
    """A half-space whose bound is at the first points of ``others``, with what these add to it; None where one of them
    enters in another way than linearly."""
    bound, beside = half.bound, []
    for axis in others:
        slope = _slope(bound, axis)
        if slope is None:
            return None
        bound = _without(bound, axis)
        beside.append((slope, axis.extent))
    return dataclasses.replace(half, bound=bound, beside=tuple(beside))


def _wide(expr: Expr, sizes: Mapping[Axis, int]) -> bool:
    return any(sizes.get(axis, 1) > 1 for axis in axes_of(expr))


def is_uniform(periodic: Congruence, sizes: Mapping[Axis, int]) -> bool:
    """Whether the residue is the same at all points of a tile: every lane adds a multiple of the modulus."""
    wide = [axis.name for axis, size in sizes.items() if size > 1]
    names = [name for name in wide if name in free_symbols(periodic.residue)]
    inner = periodic.residue.num if isinstance(periodic.residue, Mod) else periodic.residue
    slopes = affine_in(inner, names)
    if set(slopes) != set(names):
        return False
    return all(isinstance(s, IntConst) and s.value % periodic.modulus == 0 for s in slopes.values())


