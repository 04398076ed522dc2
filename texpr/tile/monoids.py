"""Combining partial results of a reduction, on tile expressions."""

from __future__ import annotations

from texpr.dtypes import DType
from texpr.lang.ir import Cast, Const, Expr, Monoid, Op, OpName, Ptx, ReduceOp, Select, Var, children
from texpr.plan.monoids import OPERATION
from texpr.plan.monoids import combine as combine_constants
from texpr.plan.monoids import identity as identity_constants
from texpr.tile import build as tile
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.ir import Literal


def identity(op: ReduceOp | Monoid, dtypes: tuple[DType, ...]) -> tuple[Literal, ...]:
    """The neutral element, one constant per component."""
    return tuple(tile.literal(c.value, c.dtype) for c in identity_constants(op, dtypes))


def combine(op: ReduceOp | Monoid, left: tuple[TileExpr, ...], right: tuple[TileExpr, ...]) -> tuple[TileExpr, ...]:
    """``left . right``, component by component."""
    if isinstance(op, ReduceOp):
        return (tile.op(OPERATION[op], left[0], right[0]),)
    values = dict(zip((*op.left, *op.right), (*left, *right), strict=True))
    return tuple(_apply(expr, values) for expr in op.combine)


def _apply(expr: Expr, values: dict[Var, TileExpr]) -> TileExpr:
    match expr:
        case Var():
            return values[expr]
        case Const(value=value, dtype=dtype):
            return tile.literal(value, dtype)
        case Op(name=name, args=args, dtype=dtype):
            return tile.op(name, *(_apply(arg, values) for arg in args), dtype=dtype)
        case Select():
            return tile.choose(*(_apply(child, values) for child in children(expr)))
        case Cast(value=value, dtype=dtype):
            return tile.cast(_apply(value, values), dtype)
        case Ptx(template=template, constraints=constraints, args=args, dtype=dtype):
            return tile.inline_ptx(template, constraints, [_apply(arg, values) for arg in args], dtype)
        case _:
            raise AssertionError(f"{expr} in a monoid")


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
    inclusive = combine_constants(op, with_a, with_b)
    earlier = combine_constants(op, with_a, before_b) if exclusive else ()
    results: tuple[Expr, ...] = (*earlier, *inclusive)
    flags: tuple[Expr, ...] = ()
    if flagged:
        anew = Op(OpName.NE, (flag_b[0], Const(0, DType.I32)), DType.BOOL)
        results = tuple(Select(anew, own, new) for own, new in zip((*before_b, *with_b), results, strict=True))
        flags = (Op(OpName.OR, (flag_a[0], flag_b[0]), DType.I32),)
    start = tuple(c for c in identity_constants(op, dtypes))
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
