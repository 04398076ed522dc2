"""Reduction operators as monoids on algorithm expressions.

Argmin and argmax are tuple monoids built from the language's rules (ties take the lowest index, NaN ranks beyond
every number), so the rest of the compiler knows only single operators and ``Monoid``. Small reductions over constant
axes are expanded into expressions.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final

from texpr.dtypes import DType, Kind
from texpr.lang.ir import (
    INDEX,
    Axis,
    Const,
    Def,
    Expr,
    Func,
    Monoid,
    Op,
    OpName,
    Ranking,
    Reduce,
    ReduceOp,
    Select,
    Var,
)
from texpr.math.expr import Const as IntConst
from texpr.plan.inline import rewrite, substitute

EXPANDED_POINTS: Final = 64
"""A reduction over at most this many constant points, if the schedule does not place it, is written out as an
expression."""

OPERATION: Final = {
    ReduceOp.SUM: OpName.ADD,
    ReduceOp.PROD: OpName.MUL,
    ReduceOp.MIN: OpName.MIN,
    ReduceOp.MAX: OpName.MAX,
    ReduceOp.ANY: OpName.OR,
    ReduceOp.ALL: OpName.AND,
    ReduceOp.AND: OpName.AND,
    ReduceOp.OR: OpName.OR,
    ReduceOp.XOR: OpName.XOR,
}


def is_arg(op: ReduceOp | Monoid) -> bool:
    """Whether the operator yields a position. Of no points the position is -1; while reducing, the largest integer
    stands for that, so that every real position beats it."""
    return op is ReduceOp.ARGMIN or op is ReduceOp.ARGMAX


def kept_as(expr: Expr, func: Func) -> DType:
    """The type that partial results are kept in: the summand's, except that positions fit the func's 32 bits when it
    has no more."""
    return DType.I32 if expr.dtype is INDEX and func.dtype.bits <= 32 else expr.dtype


def as_monoid(op: ReduceOp | Monoid, dtypes: tuple[DType, ...]) -> ReduceOp | Monoid:
    """Argmin/argmax as the tuple monoid on (key, index); everything else unchanged."""
    if isinstance(op, Monoid) or not is_arg(op):
        return op
    key, index = dtypes
    left = (Var("key_a", key), Var("index_a", index))
    right = (Var("key_b", key), Var("index_b", index))
    better = OpName.LT if op is ReduceOp.ARGMIN else OpName.GT
    take_right: Expr = _or(
        Op(better, (right[0], left[0]), DType.BOOL),
        _and(Op(OpName.EQ, (right[0], left[0]), DType.BOOL), Op(OpName.LT, (right[1], left[1]), DType.BOOL)),
    )
    if key.is_float:
        a_nan, b_nan = (Op(OpName.NE, (v, v), DType.BOOL) for v in (left[0], right[0]))
        both_nan = _and(_and(a_nan, b_nan), Op(OpName.LT, (right[1], left[1]), DType.BOOL))
        not_a = Op(OpName.NOT, (a_nan,), DType.BOOL)
        take_right = _or(both_nan, _and(not_a, _or(b_nan, take_right)))
    worst = identity(ReduceOp.MIN if op is ReduceOp.ARGMIN else ReduceOp.MAX, (key,))[0]
    return Monoid(
        op.value,
        left,
        right,
        (Select(take_right, right[0], left[0]), Select(take_right, right[1], left[1])),
        (Const(worst.value, key), Const(2 ** (index.bits - 1) - 1, index)),
        commutative=True,
    )


def identity(op: ReduceOp | Monoid, dtypes: tuple[DType, ...]) -> tuple[Const, ...]:
    """The neutral element, one constant per component."""
    if isinstance(op, Monoid):
        return op.identity
    (dtype,) = dtypes
    match op:
        case ReduceOp.SUM | ReduceOp.OR | ReduceOp.XOR | ReduceOp.ANY:
            value: int | float | bool = False if dtype is DType.BOOL else 0.0 if dtype.is_float else 0
        case ReduceOp.PROD:
            value = 1.0 if dtype.is_float else 1
        case ReduceOp.ALL:
            value = True
        case ReduceOp.AND:
            value = True if dtype is DType.BOOL else -1 if dtype.kind is Kind.SIGNED else (1 << dtype.bits) - 1
        case ReduceOp.MIN:
            value = math.inf if dtype.is_float else _largest(dtype)
        case ReduceOp.MAX:
            value = -math.inf if dtype.is_float else _smallest(dtype)
        case ReduceOp.ARGMIN | ReduceOp.ARGMAX:
            raise AssertionError("use as_monoid")
    return (Const(value, dtype),)


def combine(op: ReduceOp | Monoid, left: Sequence[Expr], right: Sequence[Expr]) -> tuple[Expr, ...]:
    """``left . right``, component by component."""
    if isinstance(op, ReduceOp):
        return (Op(OPERATION[op], (left[0], right[0]), left[0].dtype),)
    values = dict(zip((*op.left, *op.right), (*left, *right), strict=True))

    def change(node: Expr) -> Expr | None:
        return values.get(node) if isinstance(node, Var) else None

    return tuple(rewrite(expr, change) for expr in op.combine)


@functools.cache  # one operator is printed once
def scan_monoid(op: ReduceOp | Monoid, dtypes: tuple[DType, ...], *, flagged: bool, exclusive: bool) -> Monoid:
    """The operator of a scan with more to each element than its values, components in this order:

        flagged    whether the scan starts anew at some point of the range (I32, 0 or 1)
        exclusive  the prefix that ends before the last point of the range
        always     the prefix that ends with it

    It is associative; its only left identity is (0, e, e), and it has none on the right (Blelloch, Prefix sums and
    their applications, 1990, section 1.5, for the flags)."""
    sides = []
    for side in ("a", "b"):
        flag = [Var(f"anew_{side}", DType.I32)] if flagged else []
        before = [Var(f"before_{side}{n}", dtype) for n, dtype in enumerate(dtypes)] if exclusive else []
        sides.append((flag, before, [Var(f"with_{side}{n}", dtype) for n, dtype in enumerate(dtypes)]))
    (flag_a, before_a, with_a), (flag_b, before_b, with_b) = sides
    inclusive = combine(op, with_a, with_b)
    earlier = combine(op, with_a, before_b) if exclusive else ()
    results: tuple[Expr, ...] = (*earlier, *inclusive)
    flags: tuple[Expr, ...] = ()
    if flagged:
        anew = Op(OpName.NE, (flag_b[0], Const(0, DType.I32)), DType.BOOL)
        results = tuple(Select(anew, own, new) for own, new in zip((*before_b, *with_b), results, strict=True))
        flags = (Op(OpName.OR, (flag_a[0], flag_b[0]), DType.I32),)
    start = identity(op, dtypes)
    neutral = (*([Const(0, DType.I32)] if flagged else []), *(start if exclusive else ()), *start)
    name = op.name if isinstance(op, Monoid) else op.value
    return Monoid(
        f"{'segmented_' if flagged else ''}{'exclusive_' if exclusive else ''}{name}",
        (*flag_a, *before_a, *with_a),
        (*flag_b, *before_b, *with_b),
        (*flags, *results),
        neutral,
        commutative=False,
    )


def is_small(definition: Def) -> bool:
    """Whether a reduction runs over few enough constant points to be written out."""
    top = definition.top
    if not isinstance(top, Reduce) or isinstance(top.op, Ranking):
        return False
    points = 1
    for axis in top.axes:
        extent = constant_extent(axis)
        if extent is None:
            return False
        points *= extent
    return 1 <= points <= EXPANDED_POINTS


def expanded(definition: Def) -> tuple[Expr, ...]:
    """A small reduction as one expression per func, combined in row-major order of its axes: one after the other, so
    that products fuse into multiply-adds, or for a ``Monoid`` neighbours first, so that the expression is not deep."""
    top = definition.top
    assert isinstance(top, Reduce) and not isinstance(top.op, Ranking)
    dtypes = tuple(expr.dtype for expr in top.exprs)
    op = as_monoid(top.op, dtypes)
    start = identity(op, dtypes)
    terms: list[tuple[Expr, ...]] = []
    for point in itertools.product(*(range(constant_extent(axis) or 0) for axis in top.axes)):
        at: Mapping[Axis, Expr] = {axis: Const(n, INDEX) for axis, n in zip(top.axes, point, strict=True)}
        values = tuple(substitute(expr, at) for expr in top.exprs)
        if top.where is not None:
            guard = substitute(top.where, at)
            values = tuple(Select(guard, v, e) for v, e in zip(values, start, strict=True))
        terms.append(values)
    total = _combined(op, terms)
    if is_arg(top.op) and top.where is not None:
        nowhere = Op(OpName.EQ, (total[1], start[1]), DType.BOOL)
        total = (total[0], Select(nowhere, Const(-1, total[1].dtype), total[1]))
    return total


def _combined(op: ReduceOp | Monoid, terms: Sequence[tuple[Expr, ...]]) -> tuple[Expr, ...]:
    if isinstance(op, ReduceOp):
        return functools.reduce(lambda total, values: combine(op, total, values), terms)
    while len(terms) > 1:
        pairs = itertools.zip_longest(terms[::2], terms[1::2])
        terms = [left if right is None else combine(op, left, right) for left, right in pairs]
    return terms[0]


def constant_extent(axis: Axis) -> int | None:
    """The extent of an axis if it is a literal."""
    return axis.extent.value if isinstance(axis.extent, IntConst) else None


def _and(a: Expr, b: Expr) -> Expr:
    return Op(OpName.AND, (a, b), DType.BOOL)


def _or(a: Expr, b: Expr) -> Expr:
    return Op(OpName.OR, (a, b), DType.BOOL)


def _largest(dtype: DType) -> int:
    return (1 << (dtype.bits - 1)) - 1 if dtype.kind is Kind.SIGNED else (1 << dtype.bits) - 1


def _smallest(dtype: DType) -> int:
    return -(1 << (dtype.bits - 1)) if dtype.kind is Kind.SIGNED else 0
