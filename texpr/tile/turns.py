"""Tiles in turn: instances of a role that take every ``times``-th tile of a persistent program.

    pass by the tiles of the instances before it
    for every times-th tile:
        wait for the turn;  main loops;  give the turn to the next instance;  the rest of the tile
        pass by the tiles of the others

To pass by a tile is to count the steps of its rings as done: the slots after them hold the next tile of the instance.
The turn keeps the main loops of the instances apart: one multiplies while another stores its results. It also tells an
instance that the tiles before its own have landed: without it, one phase of a slot could be taken for the next but one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from texpr.math.expr import IntExpr, const, sym
from texpr.tile.consumers import Instance
from texpr.tile.declarations import Barriers
from texpr.tile.ir import Statement, walk
from texpr.tile.kernel import Block, Kernel
from texpr.tile.protocol import Advance, Arrive, WaitBarrier

LowerTile = Callable[[IntExpr, Kernel, Block], None]
"""Appends the statements of the tile of a number."""


@dataclass(frozen=True, slots=True)
class TileLoop:
    """The tiles of a program that a role visits: from ``first`` in steps of ``by``, each as ``lower`` says."""

    first: IntExpr
    by: IntExpr
    lower: LowerTile
    note: str


def in_turn(tiles: TileLoop, instance: Instance, kernel: Kernel, before: Block) -> TileLoop:
    """The tiles that an instance takes of all ``tiles`` of a program, with those of others that it passes by after
    each; those before its first one it passes by in ``before``."""
    passing = dataclasses.replace(kernel, passing=True)
    for number in range(instance.number):
        tiles.lower(tiles.first + tiles.by * number, passing, before)

    def one(index: IntExpr, own: Kernel, into: Block) -> None:
        inner = Block()
        tiles.lower(index, own, inner)
        into.add(*_main_loops_in_turn(instance, inner.statements, own))
        for number in range(1, instance.role.times):
            tiles.lower(index + tiles.by * number, passing, into)

    first, by = tiles.first + tiles.by * instance.number, tiles.by * instance.role.times
    return TileLoop(first, by, one, "persistent: tiles in turn")


def _main_loops_in_turn(instance: Instance, statements: Sequence[Statement], kernel: Kernel) -> list[Statement]:
    """The statements of a tile, those that wait for what other roles fetch within the turn of the instance."""
    loops = [n for n, item in enumerate(statements) if _waits(item)]
    if not loops:
        return list(statements)
    if not kernel.turn:
        turn, count = kernel.name("turn"), kernel.name("turns")
        note = "the main loops of the instance before it have started their last step"
        kernel.barriers.append(Barriers(turn, instance.role.times, 1, note))
        kernel.carried.append(count)
        kernel.turn += [turn, count]
    turn, count = kernel.turn
    number = instance.number
    following = (number + 1) % instance.role.times
    passed = sym(count) if number else sym(count) + 1  # the first instance begins without being told to
    return [
        *statements[: loops[0]],
        WaitBarrier(turn, const(number), passed % 2, "the turn of this instance"),
        *statements[loops[0] : loops[-1] + 1],
        Arrive(turn, const(following)),
        Advance(count, const(1)),
        *statements[loops[-1] + 1 :],
    ]


def _waits(item: Statement) -> bool:
    found: list[Statement] = []
    walk((item,), lambda inner: found.append(inner) if isinstance(inner, WaitBarrier) else None)
    return bool(found)
