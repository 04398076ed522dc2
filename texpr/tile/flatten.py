"""The share of a program where the steps of a loop in all tiles are one sequence (``plan.flatten``): its tiles from the
last one to the first, each with the steps of it that are the program's."""

from __future__ import annotations

from collections.abc import Callable

from texpr.math.expr import IntExpr, const, maximum, minimum, sym
from texpr.plan.flatten import steps_of_axis
from texpr.plan.ir import LoopAxis
from texpr.tile.ir import For
from texpr.tile.kernel import Block, Kernel
from texpr.tile.share import Share
from texpr.tile.uniform import Scalar

LowerTile = Callable[[IntExpr, Block], None]
"""What is done in the tile of a number."""


def lower_share(
    loop: LoopAxis, tiles: IntExpr, programs: IntExpr, pid: IntExpr, kernel: Kernel, block: Block, tile: LowerTile
) -> None:
    """All that a program has, of ``tiles`` tiles."""

    def named(name: str, value: IntExpr, to: Block, note: str = "") -> IntExpr:
        unique = kernel.name(name)
        to.add(Scalar(unique, value, note))
        return sym(unique)

    steps = named("tile_steps", steps_of_axis(loop.axis, loop.size), block, "of a tile")
    kernel.needs.limits[tiles * steps_of_axis(loop.axis, loop.size)] = None
    total = named("all_steps", tiles * steps, block)
    each = named("each", total // programs, block, "steps of every program")
    more = named("more", total % programs, block, "programs with one more")
    begin = named("begin", pid * each + minimum(pid, more), block)
    end = named("end", (pid + 1) * each + minimum(pid + 1, more), block)
    last = named("last_tile", (end - 1) // steps, block)
    turn, inner = kernel.name("turn"), Block()
    number = named("tile", last - sym(turn), inner)
    first = named("first_step", maximum(begin - number * steps, 0), inner, "those before are of programs before")
    stop = named("stop_step", minimum(end - number * steps, steps), inner, "those from here on of programs after")
    kernel.share = Share(pid, first, stop, steps)
    tile(number, inner)
    kernel.share = None
    count = last - begin // steps + 1
    block.add(For(turn, const(0), count, const(1), tuple(inner.statements), "tiles with steps of the program's"))
