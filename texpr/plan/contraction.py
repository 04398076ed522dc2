"""Recognising contractions: a sum of products whose two sides vary over different kept axes, and the unit that
multiplies them.

``match_dot`` splits the factors of the summand by the kept axes that they mention (rows belong to one side, columns
to the other), strips the conversions up to the accumulator's type, and asks the instruction table. It either returns
a ``Dot`` or says in words why there is none; it never falls back silently from what the schedule asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.instructions import (
    FMA_LEAST_K,
    WARPGROUP_FORMS,
    WARPGROUP_LEAST_COLUMNS,
    WARPGROUP_ROWS,
    mma_form,
    mma_operand_types,
    warpgroup_form,
)
from texpr.lang.ir import Axis, Cast, Const, Expr, Op, OpName, Reduce, ReduceOp, Select
from texpr.plan.inline import axes_of, conjuncts
from texpr.plan.ir import Dot, Unit
from texpr.schedule.places import Mma
from texpr.schedule.words import MmaOp
from texpr.targets import Target


@dataclass(frozen=True, slots=True)
class NoDot:
    """Why a reduction is not a contraction on a matrix unit. ``hint`` is a "try:" line."""

    why: str
    hint: str = "remove mma (the reduction is then done element by element)"


def match_dot(
    top: Reduce,
    exprs: Sequence[Expr],
    where: Expr | None,
    sizes: Mapping[Axis, int],
    kept: Sequence[Axis],
    record: Mma,
    target: Target,
) -> Dot | NoDot:
    """The contraction that ``sum(exprs) over top.axes where where`` is, given the tile size of every axis.

    Axes of tile size 1 are uniform inside a program and belong to no side.
    """
    if top.op is not ReduceOp.SUM or len(exprs) != 1:
        return NoDot("only a sum is a contraction")
    factors = _factors(exprs[0])
    wide_kept = [axis for axis in kept if sizes[axis] > 1]
    sides = _sides(factors, wide_kept, record)
    if isinstance(sides, NoDot):
        return sides
    rows, cols, a_factors, b_factors = sides
    reduced = [axis for axis in top.axes if sizes[axis] > 1]
    accumulator = exprs[0].dtype
    a, b = _operand(a_factors), _operand(b_factors)
    a_axes, b_axes = axes_of(a), axes_of(b)
    a_where: list[Expr] = []
    b_where: list[Expr] = []
    sums_where: list[Expr] = []
    for part in conjuncts(where):
        mentioned = {axis for axis in axes_of(part) if sizes.get(axis, 1) > 1}  # groups of ragged axes are uniform
        if mentioned & set(rows) and mentioned & set(cols):
            if not axes_of(part) & set(top.axes):
                sums_where.append(part)
                continue
            return NoDot("its where= mixes rows and columns")
        if mentioned <= a_axes or not mentioned & set(cols):
            a_where.append(part)
        if mentioned <= b_axes or not mentioned & set(rows):
            b_where.append(part)
    unit = _unit(a, b, accumulator, rows, cols, reduced, sizes, record, target)
    if isinstance(unit, NoDot):
        return unit
    if unit is Unit.FMA:
        a, b = _widened(a, accumulator), _widened(b, accumulator)
    return Dot(unit, tuple(rows), tuple(cols), a, b, tuple(a_where), tuple(b_where), tuple(sums_where))


def one_sided(dot: Dot) -> list[tuple[Expr, str]]:
    """Guards that zero only one operand, with the side left alone ("a" or "b"): exact only if that side is finite."""
    a_keys, b_keys = {id(e) for e in dot.a_where}, {id(e) for e in dot.b_where}
    return [(e, "b") for e in dot.a_where if id(e) not in b_keys] + [
        (e, "a") for e in dot.b_where if id(e) not in a_keys
    ]


def _factors(expr: Expr) -> list[Expr]:
    if isinstance(expr, Op) and expr.name is OpName.MUL:
        return [factor for arg in expr.args for factor in _factors(arg)]
    return [expr]


def _sides(
    factors: list[Expr], kept: list[Axis], record: Mma
) -> tuple[list[Axis], list[Axis], list[Expr], list[Expr]] | NoDot:
    mentions = [frozenset(axis for axis in axes_of(factor) if axis in kept) for factor in factors]
    groups: list[set[Axis]] = []
    for mentioned in mentions:
        joined = set(mentioned)
        rest = []
        for group in groups:
            if group & joined:
                joined |= group
            else:
                rest.append(group)
        groups = [*rest, joined] if joined else rest
    if len(groups) != 2:
        found = " and ".join("{" + ", ".join(sorted(a.name for a in g)) + "}" for g in groups) or "none"
        return NoDot(
            "a contraction needs one factor with the rows and one with the columns; "
            f"the factors vary together over {found}"
        )
    first = next(m for m in mentions if m)
    groups.sort(key=lambda group: not first <= group)
    named_rows, named_cols = set(record.rows), set(record.cols)
    names = [{axis.name for axis in group} for group in groups]
    if named_rows & names[1] or named_cols & names[0]:
        groups.reverse()
        names.reverse()
    if not named_rows <= names[0] or not named_cols <= names[1]:
        return NoDot(
            f"rows: {_listed(named_rows)} and cols: {_listed(named_cols)} do not separate the factors, "
            f"which vary over {_listed(names[0])} and {_listed(names[1])}"
        )
    rows = [axis for axis in kept if axis in groups[0]]
    cols = [axis for axis in kept if axis in groups[1]]
    b_factors = [f for f, m in zip(factors, mentions, strict=True) if m & groups[1]]
    a_factors = [f for f, m in zip(factors, mentions, strict=True) if not m & groups[1]]
    return rows, cols, a_factors, b_factors


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "any"


def _operand(factors: list[Expr]) -> Expr:
    """The product of ``factors``; conversions of a single factor to a wider type are stripped, since the unit widens
    for free."""
    if len(factors) == 1:
        return _narrowed(factors[0])
    product = factors[0]
    for factor in factors[1:]:
        product = Op(OpName.MUL, (product, factor), factor.dtype)
    return product


def _narrowed(expr: Expr) -> Expr:
    """The same values in the narrowest type that holds them all: what was widened, also inside of a selection."""
    match expr:
        case Cast(value=value) if _widens(value.dtype, expr.dtype):
            return value
        case Select(condition=condition, then=then, otherwise=otherwise):
            then, otherwise = _narrowed(then), _narrowed(otherwise)
            if isinstance(then, Const) and _widens(otherwise.dtype, then.dtype) and then.value in (0, 1):
                then = Const(then.value, otherwise.dtype)
            if isinstance(otherwise, Const) and _widens(then.dtype, otherwise.dtype) and otherwise.value in (0, 1):
                otherwise = Const(otherwise.value, then.dtype)
            return Select(condition, then, otherwise) if then.dtype is otherwise.dtype else expr
        case _:
            return expr


def _widens(narrow: DType, wide: DType) -> bool:
    """Every value of ``narrow`` is exact in ``wide``."""
    if narrow.is_float and wide.is_float:
        return narrow.bits < wide.bits or (narrow is DType.TF32 and wide is DType.F32)
    return narrow.is_int and wide.is_int and narrow.kind is wide.kind and narrow.bits < wide.bits


def _widened(expr: Expr, dtype: DType) -> Expr:
    return expr if expr.dtype is dtype else Cast(expr, dtype)


def _unit(
    a: Expr,
    b: Expr,
    accumulator: DType,
    rows: list[Axis],
    cols: list[Axis],
    reduced: list[Axis],
    sizes: Mapping[Axis, int],
    record: Mma,
    target: Target,
) -> Unit | NoDot:
    extents = tuple(_product(sizes[axis] for axis in group) for group in (rows, cols, reduced))
    if record.op is MmaOp.WGMMA:
        return warpgroup_unit(a, b, accumulator, extents, target)
    form = mma_form(a.dtype, b.dtype, target)
    if form is not None and (form.accumulator is not accumulator or (record.op is MmaOp.AUTO and a.dtype is DType.F64)):
        form = None  # f64 matrix instructions are slow outside data-centre parts: only on request
    why = ""
    if form is None:
        why = f"{target} has no instruction for {a.dtype} x {b.dtype} -> {accumulator}"
    else:
        why = _too_small(extents, (form.m, form.n, form.k), str(a.dtype))
    match record.op:
        case MmaOp.MMA if why:
            return NoDot(why, _types_hint(a, b, target) if form is None else "larger tiles, or mma: fma")
        case MmaOp.MMA:
            return Unit.MMA
        case MmaOp.AUTO if not why:
            return Unit.MMA
        case MmaOp.AUTO | MmaOp.FMA if accumulator not in FMA_LEAST_K:
            return NoDot(f"fma multiplies f32 and f64, not {accumulator}")
        case MmaOp.AUTO | MmaOp.FMA if extents[2] < FMA_LEAST_K[accumulator]:
            return NoDot(
                f"the reduction tile is {extents[2]}, and {accumulator} fma needs {FMA_LEAST_K[accumulator]} or more",
                "a larger step of its loop, or remove mma (the reduction is then done element by element)",
            )
        case MmaOp.AUTO | MmaOp.FMA:
            return Unit.FMA
        case _:
            return NoDot(f"{record.op.value} is not lowered yet", "op: mma")


def warpgroup_unit(a: Expr, b: Expr, accumulator: DType, extents: Sequence[int], target: Target) -> Unit | NoDot:
    """The instruction of a warpgroup, or why it does not multiply these operands."""
    if not target.has_wgmma:
        return NoDot(f"{target} has no wgmma, only sm_90a does", "op: mma, or a variant for sm_90a alone")
    form = warpgroup_form(a.dtype, b.dtype, target)
    if form is None or form.accumulator is not accumulator:
        types = ", ".join(f"{one.a} x {one.b}" for one in WARPGROUP_FORMS)
        why = f"wgmma does not multiply {a.dtype} x {b.dtype} -> {accumulator}"
        return NoDot(why, f"convert both factors in the algorithm (x.to(..) rounds there), to one of {types}")
    why = _too_small(extents, (WARPGROUP_ROWS, WARPGROUP_LEAST_COLUMNS, form.k), f"wgmma of {a.dtype}")
    return NoDot(why, "larger tiles, the rows on the larger side, or op: mma") if why else Unit.WGMMA


def _too_small(extents: Sequence[int], least: Sequence[int], what: str) -> str:
    """Which side of a tile is smaller than the instruction; empty if none is."""
    for extent, wanted, side in zip(extents, least, ("rows", "columns", "reduction"), strict=True):
        if extent < wanted:
            return f"the {side} tile is {extent}, and {what} needs at least {wanted}"
    return ""


def _types_hint(a: Expr, b: Expr, target: Target) -> str:
    types = ", ".join(f"{left} x {right}" for left, right in mma_operand_types(target))
    return f"convert both factors, to one of {types}, in the algorithm (x.to(..) rounds there), or mma: fma"


def _product(values: Iterable[int]) -> int:
    total = 1
    for value in values:
        total *= value
    return total
