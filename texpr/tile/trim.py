"""The steps of a loop: all of its axis, what a guard leaves of it, or a program's share of them.

    k < edge      stop = the largest edge over the tile      without the test up to the smallest
    k >= edge     first = the smallest edge over the tile    without the test from the largest
    k % c == r    from the first such k on, in steps of c

Edges are a closed form over the origins of the tile where the guard's bound is linear in its axes, else the extrema of
the bound's values, which the program finds by a reduction before the loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.index import to_int_expr
from texpr.lang.ir import Axis, Expr, OpName, ReduceOp
from texpr.math.expr import Const, IntExpr, Sym, ceildiv, const, maximum, minimum, substitute, sym
from texpr.math.integer import total
from texpr.plan.inline import axes_of
from texpr.plan.ir import Congruence, HalfSpace, LoopAxis, Trim
from texpr.schedule.words import TrimMode
from texpr.tile import build as tile
from texpr.tile.evaluate import evaluate
from texpr.tile.index import lane_symbol, with_origins
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.ir import ScalarOf
from texpr.tile.kernel import Block, Kernel, space_for
from texpr.tile.live import LiveSteps
from texpr.tile.possible import extremum_of
from texpr.tile.ragged import points_of_groups
from texpr.tile.reduce import across_lanes
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.uniform import Scalar


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of ``size`` points along ``axis`` at ``first``, ``first + by``, .. below ``stop``. ``full``: they do not
    reach past the axis' end; ``holds``: parts of guards that are true in all of them; points from ``end`` on, if there
    is one, are dead. ``reverse``: the last one first. ``live``: only these of them."""

    axis: Axis
    size: int
    first: IntExpr
    stop: IntExpr
    by: int
    full: bool
    holds: tuple[Expr, ...] = ()
    trimmed: bool = True
    reverse: bool = False
    end: IntExpr | None = None
    live: LiveSteps | None = None

    @property
    def count(self) -> IntExpr:
        if self.live is not None:
            return self.live.count
        if not self.trimmed:
            return ceildiv(self.stop, self.by)
        return ceildiv(maximum(self.stop - self.first, 0), self.by)

    def at(self, origin: IntExpr, scope: Scope) -> Scope:
        """The scope of the step at ``origin``."""
        inside = scope.with_axes({self.axis: AxisValue(origin, self.size, self.full, stop=self.end)})
        return inside.with_holding(self.holds)


def steps_of(
    loop: LoopAxis, live: LiveSteps | None, kernel: Kernel, scope: Scope, block: Block
) -> tuple[Steps, ...]:
    """The parts of a loop, one after the other; one part unless it is split. Bounds are computed into ``block``."""
    if loop.base is not None and loop.axis.ragged is not None:
        first, stop = points_of_groups(loop.axis, loop.axis.ragged, kernel, scope, block)
        return (Steps(loop.axis, loop.size, first, stop, loop.size, False, end=stop),)
    shared = None if kernel.plan.turnstile is None else kernel.plan.turnstile.shared
    if kernel.share is not None and shared is not None and shared.axis is loop.axis:
        first, stop = kernel.share.first * loop.size, minimum(kernel.share.stop * loop.size, loop.axis.extent)
        return (Steps(loop.axis, loop.size, first, stop, loop.size, loop.full),)
    if loop.trim is None:
        whole = Steps(loop.axis, loop.size, const(0), loop.axis.extent, loop.size, loop.full, (), False, loop.reverse)
        return (dataclasses.replace(whole, live=live),)
    return _trimmed(loop, loop.trim, kernel, scope, block)


def _trimmed(loop: LoopAxis, trim: Trim, kernel: Kernel, scope: Scope, block: Block) -> tuple[Steps, ...]:
    name, size, extent = loop.axis.name, loop.size, loop.axis.extent
    above = [half for half in trim.halves if not half.below]
    below = [half for half in trim.halves if half.below]

    def named(suffix: str, value: IntExpr, note: str) -> IntExpr:
        if isinstance(value, Const | Sym):
            return value
        unique = kernel.name(f"{name}_{suffix}")
        block.add(Scalar(unique, value, note))
        return sym(unique)

    def edges(halves: Sequence[HalfSpace], *, largest: bool) -> list[IntExpr]:
        return [_edge(half, loop, largest, kernel, scope, block) for half in halves]

    def steps(first: IntExpr, stop: IntExpr, full: bool, holds: tuple[Expr, ...] = ()) -> Steps:
        if trim.congruence is None:
            return Steps(loop.axis, size, first, stop, size, full, holds)
        modulus = trim.congruence.modulus
        begin = named("begin", first + (_residue(trim.congruence, scope) - first) % modulus, f"step by {modulus}")
        return Steps(loop.axis, size, begin, stop, modulus, full, holds)

    start = maximum(0, *edges(above, largest=False)) if above else const(0)
    first = named("first", start // size * size, "where the guard can hold first")
    stop = named("stop", minimum(extent, *edges(below, largest=True)) if below else extent, "where it no longer can")
    if trim.mode is TrimMode.MASK:
        return (steps(first, stop, loop.full),)
    enter = first
    if above:
        always = maximum(first, *edges(above, largest=True))
        enter = named("enter", ceildiv(always, size) * size, "from here on it holds everywhere")
    if below or not loop.full:
        always = minimum(stop, *edges(below, largest=False))
        leave = named("leave", maximum(always // size * size, enter), "up to here it holds everywhere")
    else:
        leave = maximum(stop, enter)
    holds = tuple(dict.fromkeys(half.conjunct for half in trim.halves))
    parts = [steps(first, minimum(enter, stop), loop.full)] if above else []
    parts.append(steps(enter, leave, True, holds))
    if below or not loop.full:
        parts.append(steps(leave, stop, loop.full))
    return tuple(parts)


def _residue(congruence: Congruence, scope: Scope) -> IntExpr:
    """The residue here: lanes add multiples of the modulus."""
    lanes = {lane_symbol(axis.name): 0 for axis in scope.axes}
    return substitute(with_origins(congruence.residue, scope), dict(lanes))


def _edge(
    half: HalfSpace, loop: LoopAxis, largest: bool, kernel: Kernel, scope: Scope, block: Block
) -> IntExpr:
    """The largest or smallest edge of a half-space over the tile."""
    beside = total(slope * (extent - 1) for slope, extent in half.beside if (slope > 0) == largest)
    known = to_int_expr(half.bound)
    bound = None if known is None else extremum_of(known, largest, scope)
    if bound is not None:
        bound = bound + beside
        return bound // half.slope + 1 if half.after else ceildiv(bound, half.slope)
    axes = sorted((axis for axis in axes_of(half.bound) if scope.lanes(axis) > 1), key=lambda axis: axis.name)
    space = space_for([half.bound], {axis: scope.lanes(axis) for axis in axes}, kernel, scope, whole=True)
    value = tile.cast(evaluate(half.bound, scope, space, kernel.needs), DType.I64)
    if value.dims:
        (value,) = across_lanes(ReduceOp.MAX if largest else ReduceOp.MIN, (value,), space, axes)
    if beside != const(0):
        value = tile.op(OpName.ADD, value, tile.uniform(beside, DType.I64))
    name = kernel.name(f"{loop.axis.name}_{'most' if largest else 'least'}")
    block.add(ScalarOf(name, _within(value, half, loop.axis.extent), f"of the bounds of {loop.axis.name} in the tile"))
    return sym(name)


def _within(value: TileExpr, half: HalfSpace, extent: IntExpr) -> TileExpr:
    """The edge of a bound found in data, as a position of the axis: bounds beyond its ends are as good as the ends, and
    the smaller numbers fit."""
    ends = tile.uniform(-half.slope), tile.uniform(extent * half.slope, DType.I64)
    value = tile.op(OpName.MIN, tile.op(OpName.MAX, value, ends[0]), ends[1])
    if half.slope > 1:
        if not half.after:
            value = tile.op(OpName.ADD, value, tile.uniform(half.slope - 1))
        value = tile.op(OpName.FLOORDIV, value, tile.uniform(half.slope))
    if half.after:
        value = tile.op(OpName.ADD, value, tile.uniform(1))
    return tile.cast(tile.op(OpName.MAX, value, tile.uniform(0)), DType.I32)
