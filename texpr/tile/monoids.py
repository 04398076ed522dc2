"""Combining partial results of a reduction, on tile expressions."""

from __future__ import annotations

from texpr.dtypes import DType
from texpr.lang.ir import Cast, Const, Expr, Monoid, Op, Ptx, ReduceOp, Select, Var, children
from texpr.plan.monoids import OPERATION
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
        case Ptx(template=template, constraints=constraints, args=args, dtypes=dtypes, component=component):
            return tile.inline_ptx(template, constraints, [_apply(arg, values) for arg in args], dtypes, component)
        case _:
            raise AssertionError(f"{expr} in a monoid")
