"""Constructors of tile expressions: types and spaces are worked out here, so that lowering reads like the
mathematics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from texpr.dtypes import DType
from texpr.lang.ir import COMPARISONS, OpName
from texpr.math.expr import IntExpr, const
from texpr.tile.declarations import Dims, PhysicalDim, Space
from texpr.tile.ir import Cast, Choose, Elementwise, Expr, Half, InlinePtx, Lane, Literal, Relayout, Uniform
from texpr.tile.layouts import MmaV3

_ORDERINGS: Final = frozenset({OpName.LT, OpName.LE, OpName.GT, OpName.GE})


def uniform(value: IntExpr | int, dtype: DType = DType.I32) -> Expr:
    return Uniform(const(value) if isinstance(value, int) else value, dtype)


def literal(value: int | float | bool, dtype: DType) -> Literal:
    return Literal(value, dtype)


def lane(space: Space, axis: str) -> Expr:
    """The lane of a named axis: a slice of its physical dim's position."""
    dim = space.dim_of(axis)
    assert dim is not None, f"axis {axis} is not in space {space.name}"
    position: Expr = Lane(space, dim)
    inner = 1
    names = [name for name, _ in space.dims[dim].axes]
    for name, size in reversed(space.dims[dim].axes):
        if name == axis:
            if inner > 1:
                position = op(OpName.FLOORDIV, position, uniform(inner))
            if names[0] != axis:
                position = op(OpName.MOD, position, uniform(size))
            return position
        inner *= size
    raise AssertionError(axis)


def position(space: Space, dim: int) -> Expr:
    """The position along a physical dim."""
    return Lane(space, dim)


def op(name: OpName, *args: Expr, dtype: DType | None = None) -> Expr:
    """An elementwise operation; integer operands of different width are widened to the wider one, but for comparisons
    that need no more than 32 bits."""
    args = _narrow_comparison(name, args) if name in _ORDERINGS else args
    args = _same_width(args)
    result = dtype or (DType.BOOL if name in COMPARISONS else args[0].dtype)
    folded = _fold(name, args)
    if folded is not None:
        return folded
    space, dims = join(args)
    return Elementwise(name, args, result, space, dims)


def _narrow_comparison(name: OpName, args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The operands of a comparison in 32 bits where that says the same: both are sign-extended 32-bit values, or one is
    a position of the tile and the other, which varies along fewer dims, is clamped to what 32 bits hold first. A
    position is never the least integer, so ``<=`` and ``>`` mean the same then; ``<`` and ``>=`` would not."""
    left, right = (_unextended(arg) for arg in args)
    if left.dtype is DType.I32 and right.dtype is DType.I32:
        return left, right
    wide = {left.dtype, right.dtype} == {DType.I32, DType.I64}
    if not wide or name not in (OpName.LE, OpName.GT) or left.dtype is not DType.I32 or not _is_position(left):
        return args
    if right.dims == join((left, right))[1]:
        return args
    least, most = literal(-(2**31), DType.I64), literal(2**31 - 1, DType.I64)
    return left, cast(op(OpName.MAX, op(OpName.MIN, right, most), least), DType.I32)


def _unextended(value: Expr) -> Expr:
    extended = isinstance(value, Cast) and value.dtype is DType.I64 and value.value.dtype is DType.I32
    return value.value if extended and isinstance(value, Cast) else value


def _is_position(value: Expr) -> bool:
    """Whether a value is an index along the tile: 32-bit, never the least integer, since the launcher bounds it."""
    match value:
        case Lane() | Uniform():
            return True
        case Elementwise(op=OpName.ADD | OpName.SUB | OpName.MUL, args=args):
            return all(_is_position(arg) for arg in args)
        case _:
            return False


def choose(condition: Expr, then: Expr, otherwise: Expr) -> Expr:
    then, otherwise = _same_width((then, otherwise))
    if then == otherwise:
        return then
    space, dims = join((condition, then, otherwise))
    return Choose(condition, then, otherwise, then.dtype, space, dims)


def cast(value: Expr, dtype: DType) -> Expr:
    if value.dtype is dtype:
        return value
    if isinstance(value, Uniform) and dtype in (DType.I32, DType.I64):
        return uniform(value.value, dtype)
    if isinstance(value, Literal) and dtype.is_float and not value.dtype.is_float:
        return literal(float(value.value), dtype)
    return Cast(value, dtype, value.space, value.dims)


def inline_ptx(
    template: str, constraints: str, args: Sequence[Expr], dtypes: tuple[DType, ...], component: int = 0
) -> Expr:
    """A result of a scalar PTX operation at every point."""
    space, dims = join(args)
    return InlinePtx(template, constraints, tuple(args), dtypes, component, space, dims)


def both(conditions: Sequence[Expr]) -> Expr | None:
    """``and`` of conditions, each once; None if there are none."""
    result: Expr | None = None
    for condition in dict.fromkeys(conditions):
        result = condition if result is None else op(OpName.AND, result, condition)
    return result


def relayout(value: Expr, space: Space) -> Expr:
    """``value`` in another space that has the same physical dims (in any order of its own)."""
    if value.space is None or not value.dims or value.space == space:
        return value
    dims = tuple(sorted(_matching(value.space, dim, space) for dim in value.dims))
    return Relayout(value, value.dtype, space, dims)


def columns(value: Expr, start: int, width: int) -> Expr:
    """``width`` columns of a warpgroup's accumulator from ``start`` on, halves of halves of it."""
    while (space := value.space) is not None and space.dims[1].size > width:
        assert isinstance(space.layout, MmaV3)
        half = space.dims[1].size // 2
        ((axis, _),) = space.dims[1].axes
        dims = (space.dims[0], PhysicalDim(((axis, half),)))
        rows, most, depth = space.layout.instruction
        layout = MmaV3(space.layout.warps, (rows, min(most, half), depth), space.layout.ctas)
        name = f"{space.name.split('_columns')[0]}_columns{half}"
        value = Half(value, start >= half, value.dtype, Space(name, dims, layout), value.dims)
        start %= half
    return value


def spread(value: Expr, space: Space, dim: int) -> Expr:
    """``value`` made to vary along ``dim``: what is the same everywhere still counts once per lane."""
    if dim in value.dims:
        return value
    everywhere = op(OpName.GE, position(space, dim), uniform(0))
    return choose(everywhere, value, literal(0, value.dtype))


def _same_width(args: tuple[Expr, ...]) -> tuple[Expr, ...]:
    kinds = {arg.dtype for arg in args}
    if kinds == {DType.I32, DType.I64}:
        return tuple(cast(arg, DType.I64) for arg in args)
    return args


def _fold(name: OpName, args: tuple[Expr, ...]) -> Expr | None:
    """Uniform integers are folded by ``math``, and neutral elements of index arithmetic vanish."""
    if all(isinstance(arg, Uniform) for arg in args):
        values = [arg.value for arg in args if isinstance(arg, Uniform)]
        match name:
            case OpName.ADD:
                return uniform(values[0] + values[1], args[0].dtype)
            case OpName.SUB:
                return uniform(values[0] - values[1], args[0].dtype)
            case OpName.MUL:
                return uniform(values[0] * values[1], args[0].dtype)
            case _:
                return None
    if len(args) == 2:
        left, right = args
        zero, one = const(0), const(1)
        if isinstance(right, Uniform):
            if name in (OpName.ADD, OpName.SUB) and right.value == zero:
                return left
            if name in (OpName.MUL, OpName.FLOORDIV) and right.value == one:
                return left
        if isinstance(left, Uniform):
            if name is OpName.ADD and left.value == zero:
                return right
            if name is OpName.MUL and left.value == one:
                return right
    return None


def _matching(source: Space, dim: int, target: Space) -> int:
    for d, candidate in enumerate(target.dims):
        if candidate == source.dims[dim]:
            return d
    raise AssertionError(f"space {target.name} has no dim {source.dims[dim]} of {source.name}")


def join(args: Sequence[Expr]) -> tuple[Space | None, Dims]:
    """The space that operands share, and the dims that any of them varies along. What is the same everywhere, such as
    the result of reducing every dim of a space, goes with any other."""
    space: Space | None = None
    dims: set[int] = set()
    for arg in args:
        if arg.space is not None and arg.dims:
            assert space is None or space == arg.space, f"operands live in {space} and {arg.space}"
            space = arg.space
        dims.update(arg.dims)
    return space, tuple(sorted(dims))
