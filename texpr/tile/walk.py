"""Where the loops of a pipeline stand at a step: several loops are flattened into one counter, the last is the fastest.

A loop that leaves out steps counts the live ones, which a cursor walks along (``live``). Whoever goes along the steps
at a distance of their own, copies that run ahead or the computation, has cursors of their own, so that no copy stands
under a condition.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from texpr.lang.ir import Axis, OpName
from texpr.math.expr import IntExpr, const, sym
from texpr.math.integer import product
from texpr.plan.inline import axes_of
from texpr.plan.ir import Stage
from texpr.tile import build as tile
from texpr.tile.ir import Expr
from texpr.tile.kernel import Block, Kernel
from texpr.tile.live import Cursor, Listed, Mask, advance, cursor_of, step_at
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.stages import tile_form
from texpr.tile.trim import Steps
from texpr.tile.uniform import Scalar


@dataclass(frozen=True, slots=True)
class Walk:
    """The flattened ``loops``, ``count`` steps in all, around which ``scope`` holds. ``cursors`` are those of every
    walker, by axis."""

    loops: tuple[Steps, ...]
    count: IntExpr
    kernel: Kernel
    scope: Scope
    cursors: Mapping[Hashable, Mapping[Axis, Cursor]]

    def at(self, step: IntExpr, walker: Hashable, suffix: str, block: Block) -> Scope:
        """The scope of ``step``, the one that follows the last for which this walker has asked."""
        inside = self.scope.with_axes(_positions(self, step, self.cursors[walker], suffix, block))
        for loop in self.loops:
            inside = inside.with_holding(loop.holds)  # in all steps: nothing is copied for one past the last
        return inside

    def is_step(self, step: IntExpr) -> Expr:
        """Whether there is such a step."""
        return tile.op(OpName.LT, tile.uniform(step), tile.uniform(self.count))

    def before_end(self, stage: Stage, step: IntExpr) -> Expr | None:
        """The condition that keeps a copy from running past the last step; None if its own mask does: one loop over all
        of its axis, not full, and the tile has lanes on that."""
        first = self.loops[0]
        own = len(self.loops) == 1 and not (first.full or first.trimmed or first.reverse or first.live)
        masked = own and any(axis is first.axis for axis in axes_of(tile_form(stage).read))
        return None if masked else self.is_step(step)


def count_steps(loops: Sequence[Steps], kernel: Kernel, block: Block) -> IntExpr:
    """Give the number of steps of flattened loops a name."""
    name = kernel.name("steps")
    note = f"steps of {' x '.join(loop.axis.name for loop in loops)}"
    block.add(Scalar(name, product(loop.count for loop in loops), note))
    return sym(name)


def walk_along(
    loops: Sequence[Steps],
    count: IntExpr,
    walkers: Iterable[Hashable],
    kernel: Kernel,
    scope: Scope,
    block: Block,
) -> Walk:
    """The loops with a cursor for every walker in turn, where steps are left out."""
    masks = [loop.live for loop in loops if isinstance(loop.live, Mask)]
    cursors = {
        walker: {mask.axis: cursor_of(mask, kernel, block) for mask in masks} for walker in dict.fromkeys(walkers)
    }
    return Walk(tuple(loops), count, kernel, scope, cursors)


def _positions(
    walk: Walk, step: IntExpr, cursors: Mapping[Axis, Cursor], suffix: str, block: Block
) -> dict[Axis, AxisValue]:
    """Where every loop's axis stands at a step. Cursors stand there and move on to the next step."""
    found: dict[Axis, AxisValue] = {}
    rest = step
    inside: IntExpr = const(1)
    for n, loop in reversed(list(enumerate(walk.loops))):
        count = loop.count
        index = rest if n == 0 else rest % count
        rest = rest if n == 0 else rest // count
        name = walk.kernel.name(f"{loop.axis.name}{'_' if suffix.isalpha() else ''}{suffix}")
        if isinstance(loop.live, Listed):
            loop.live.step_at(index, sym(name), block)
        elif loop.live is not None:
            cursor = cursors[loop.axis]
            step_at(cursor, sym(name), block)
            last = tile.op(OpName.EQ, tile.uniform(step % inside), tile.uniform(inside - 1))
            advance(cursor, None if inside == const(1) else last, n > 0, block)
        else:
            index = count - 1 - index if loop.reverse else index
            block.add(Scalar(name, loop.first + index * loop.by))
        inside = inside * count
        found[loop.axis] = AxisValue(sym(name), loop.size, loop.full, stop=loop.end)
    return found
