"""Where kept funcs are computed, one inside the loops of another."""

from __future__ import annotations

from collections.abc import Mapping

from texpr.lang.ir import Axis, Def, Func, Reduce, Scan
from texpr.plan.errors import BadPosition
from texpr.plan.ir import LoopAxis
from texpr.plan.resolve import Context
from texpr.schedule.places import Place
from texpr.schedule.words import LoopOf, Position, Tile


def in_loop_of(position: Position, definition: Def) -> bool:
    """Whether a position is in a loop of a reduction."""
    return (
        isinstance(position, LoopOf)
        and any(f.name == position.func for f in definition.funcs)
        and isinstance(definition.top, Reduce)
    )


def in_store_of(position: Position, func: Func, context: Context) -> bool:
    """Whether a position is in a loop in which a func is stored."""
    definition = context.algorithm.definition(func)
    return isinstance(position, LoopOf) and position.func == func.name and not isinstance(definition.top, Reduce)


def depth_of(position: Position, pending: list[tuple[Def, Place, Position]], context: Context) -> int:
    """How many loops are around a position. Raises ``BadPosition``."""
    depth = 0
    while isinstance(position, LoopOf):
        depth += 1
        owner = position.func
        held = [p for d, _, p in pending if any(f.name == owner for f in d.funcs) and not isinstance(d.top, Scan)]
        position = held[0] if held else Tile()  # the loop of a scan is the one that stores it
        if depth > len(pending) + 1:
            raise BadPosition(
                position=str(position),
                name=owner,
                why="the positions form a cycle",
                choices="tile",
                at=context.record.location,
            )
    return depth


def sizes_at(
    position: Position, sizes: Mapping[Axis, int], loops_of: Mapping[str, tuple[LoopAxis, ...]], context: Context
) -> dict[Axis, int]:
    """Tile sizes seen at a position: the kernel's tile axes, plus the loops that enclose it."""
    local = dict(sizes)
    while isinstance(position, LoopOf):
        local.update({loop.axis: loop.size for loop in loops_of.get(position.func, ())})
        place = context.record.place.get(position.func)
        position = place.at if place is not None and place.at is not None else Tile()
    return local
