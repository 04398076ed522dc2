"""Live steps: those of a loop in which a guard holds somewhere in the tile, listed by an argument or found.

A list has a row per tile: the number of points, then the points, which the loop loads one after the other.

A mask is found before the loop: the guard is evaluated over the tile and all points of the axis at once, and the bits
of live steps are combined by or into one word, the same for all threads. The loop runs as often as the word has bits,
and cursors, copies of the word that lose their lowest bit at a time, say where it stands: one for the computation, and
one for every distance at which copies run ahead of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Expr, OpName, ReduceOp, Tensor
from texpr.math.expr import IntExpr, Sym, const, sym
from texpr.plan.access import memory_of
from texpr.plan.inline import axes_of, reads_of
from texpr.plan.ir import LoopAxis, PointList, Skip
from texpr.tile import build as tile
from texpr.tile.declarations import PhysicalDim, Space
from texpr.tile.evaluate import evaluate, live, store_space
from texpr.tile.ir import Assign, Load, Reduce, ScalarOf, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, assign
from texpr.tile.layouts import blocked
from texpr.tile.scope import AxisValue, Scope

_WORD = 32


@dataclass(frozen=True, slots=True)
class Mask:
    """The live steps of a loop: a word with a bit for each, and how many there are."""

    axis: Axis
    size: int
    word: Var
    count: IntExpr


@dataclass(frozen=True, slots=True)
class Listed:
    """The points of a loop: ``count`` elements of a tensor from element ``first`` on."""

    axis: Axis
    tensor: Tensor
    first: IntExpr
    count: IntExpr

    def step_at(self, index: IntExpr, name: Sym, block: Block) -> None:
        """``name`` = point number ``index``; 0 past the last one."""
        here = [tile.op(OpName.GE, tile.uniform(index), tile.uniform(0))]
        here.append(tile.op(OpName.LT, tile.uniform(index), tile.uniform(self.count)))
        block.add(ScalarOf(name.name, _element(self.tensor, self.first + index, tile.both(here))))


LiveSteps = Mask | Listed


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a walk along live steps stands: ``rest`` has the bits of those that come."""

    steps: Mask
    rest: Var


def live_steps(loop: LoopAxis, skip: Skip, kernel: Kernel, scope: Scope, block: Block) -> LiveSteps:
    """Find the live steps of a loop; ``scope`` is that around it."""
    if skip.listed is not None:
        return _listed(loop.axis, skip.listed, kernel, scope, block)
    return _found(loop, skip, kernel, scope, block)


def _listed(axis: Axis, points: PointList, kernel: Kernel, scope: Scope, block: Block) -> Listed:
    tensor = points.tensor
    kernel.needs.tensors[tensor.name] = tensor
    row = scope.axes[points.axis].origin // points.size * tensor.shape[1]
    count = kernel.name(f"{axis.name}_count")
    block.add(ScalarOf(count, _element(tensor, row, None), f"points of {axis.name} that {tensor.name} lists"))
    return Listed(axis, tensor, row + 1, sym(count))


def _element(tensor: Tensor, at: IntExpr, mask: TileExpr | None) -> TileExpr:
    zero = tile.literal(0, tensor.dtype)
    return tile.cast(Load(tensor.name, at, None, mask, zero, tensor.dtype, None, ()), DType.I32)


def _found(loop: LoopAxis, skip: Skip, kernel: Kernel, scope: Scope, block: Block) -> Mask:
    axis, name = loop.axis, loop.axis.name
    points = (1 << (skip.most - 1).bit_length()) * loop.size
    inside = scope.with_axes({axis: AxisValue(const(0), points, False)})
    dtype = DType.U32 if skip.most <= _WORD else DType.U64
    own = (PhysicalDim(((name, points),)),) if points > 1 else ()
    space = _space(skip.guard, own, inside, kernel)
    holds = _holds(skip.guard, inside, space, kernel)
    bit: TileExpr = tile.literal(1, dtype)
    if own and space is not None:
        step = tile.op(OpName.FLOORDIV, tile.lane(space, name), tile.uniform(loop.size))
        bit = tile.op(OpName.SHL, bit, tile.cast(step, dtype))
    bits = _anywhere(tile.choose(holds, bit, tile.literal(0, dtype)), space)
    word = assign(f"{name}_live", bits, kernel, block)
    count = kernel.name(f"{name}_count")
    block.add(ScalarOf(count, _population(word), f"live steps of {name}"))
    return Mask(axis, loop.size, word, sym(count))


def cursor_of(steps: Mask, kernel: Kernel, block: Block) -> Cursor:
    """A cursor at the first live step."""
    name = kernel.name(f"{steps.axis.name}_rest")
    block.add(Assign(name, steps.word))
    return Cursor(steps, dataclasses.replace(steps.word, name=name))


def step_at(cursor: Cursor, name: Sym, block: Block) -> None:
    """``name`` = the first point of the step that the cursor is at; past the last one, some point that is not read."""
    rest = cursor.rest
    below = tile.op(OpName.AND, tile.op(OpName.NOT, rest), _minus_one(rest))
    step = _population(below)
    block.add(ScalarOf(name.name, tile.op(OpName.MUL, step, tile.uniform(cursor.steps.size))))


def advance(cursor: Cursor, when: TileExpr | None, again: bool, block: Block) -> None:
    """Move the cursor to the next live step if ``when`` holds; with ``again`` the first comes after the last."""
    rest = cursor.rest
    following = tile.op(OpName.AND, rest, _minus_one(rest))
    if again:
        over = tile.op(OpName.EQ, following, tile.literal(0, rest.dtype))
        following = tile.choose(over, cursor.steps.word, following)
    block.add(Assign(rest.name, following if when is None else tile.choose(when, following, rest)))


def holds_somewhere(guard: Sequence[Expr], name: str, kernel: Kernel, scope: Scope, block: Block) -> TileExpr:
    """Whether all parts of a guard hold together at some point of the tile: a condition that is the same for all
    threads."""
    space = _space(guard, (), scope, kernel)
    found = tile.choose(_holds(guard, scope, space, kernel), tile.literal(1, DType.I32), tile.literal(0, DType.I32))
    unique = kernel.name(name)
    block.add(ScalarOf(unique, _anywhere(found, space)))
    return tile.op(OpName.NE, tile.uniform(sym(unique)), tile.uniform(0))


def _space(guard: Sequence[Expr], own: tuple[PhysicalDim, ...], scope: Scope, kernel: Kernel) -> Space | None:
    """Where a guard is evaluated: over ``own`` dims and those of the tile that it depends on, along which what it reads
    is coalesced."""
    known = {name for dim in own for name, _ in dim.axes}
    sizes = {axis: scope.lanes(axis) for axis in _mentioned(guard, scope) if axis.name not in known}
    dims = (*own, *kernel.grouping.dims(sizes))
    if not dims:
        return None
    shape, warps = tuple(dim.size for dim in dims), kernel.plan.warps
    space = Space(f"{'_'.join(dim.axes[0][0] for dim in dims)}_live", dims, blocked(shape, warps, 1, len(dims) - 1))
    for read in (read for part in guard for read in reads_of(part)):
        axes = [axis for axis in axes_of(read) if axis in scope.axes and scope.lanes(axis) > 1]
        if axes and scope.held(read) is None:
            memory = memory_of(read.source, scope.guard)
            best = store_space(memory, read.indices, read.boundary.mode, axes, scope, space, warps)
            return dataclasses.replace(best, name=space.name)
    return space


def _mentioned(guard: Iterable[Expr], scope: Scope) -> list[Axis]:
    axes = frozenset[Axis]().union(*(axes_of(part) for part in guard))
    return sorted((axis for axis in axes if axis in scope.axes), key=lambda axis: axis.name)


def _holds(guard: Sequence[Expr], scope: Scope, space: Space | None, kernel: Kernel) -> TileExpr:
    """The guard at every live point of a space."""
    conditions = live(_mentioned(guard, scope), scope, space)
    conditions += [evaluate(part, scope, space, kernel.needs) for part in guard]
    result = tile.both(conditions)
    assert result is not None
    return result


def _anywhere(value: TileExpr, space: Space | None) -> TileExpr:
    """``or`` of a value over all points of a space."""
    for d in reversed(range(0 if space is None else len(space.dims))):
        if d in value.dims:
            assert space is not None
            dims = tuple(dim for dim in value.dims if dim != d)
            value = Reduce(ReduceOp.OR, (value,), d, 0, value.dtype, space, dims)
    return value


def _minus_one(value: Var) -> TileExpr:
    return tile.op(OpName.SUB, value, tile.literal(1, value.dtype))


def _population(value: TileExpr) -> TileExpr:
    """How many bits of a word are set."""
    bits, register = (32, "r") if value.dtype is DType.U32 else (64, "l")
    return tile.inline_ptx(f"popc.b{bits} $0, $1;", f"=r,{register}", [value], (DType.I32,))
