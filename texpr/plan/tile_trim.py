"""``trim: {grid: ...}``: nothing is computed in tiles of the grid in which the guard of a reduction holds nowhere.

Such a tile has the value of a reduction of no points everywhere, which is what the accumulators start with. The
conjuncts that decide mention an axis that ``trim`` names; they are known at the tile, so that they mention no axis of a
loop and read nothing that is computed with the reduction.
"""

from __future__ import annotations

from collections.abc import Sequence

from texpr.lang.ir import Def, Expr, Func, Monoid, Ranking, Reduce
from texpr.plan.checks import nodes_of
from texpr.plan.errors import NotLowered, TrimInvalid, UnknownAxis, near
from texpr.plan.inline import axes_of, conjuncts, reads_of
from texpr.plan.ir import Group, KernelPlan, LoopAxis, Reduction
from texpr.plan.resolve import Context
from texpr.schedule.places import Place
from texpr.schedule.words import Tile


def live_parts(
    context: Context,
    definition: Def,
    where: Expr | None,
    loops: Sequence[LoopAxis],
    place: Place,
    inside: frozenset[Func],
) -> tuple[Expr, ...]:
    """The conjuncts of a reduction's guard that tell which tiles are live. Raises ``NotLowered``."""
    trim = context.record.trim
    if trim is None or not (place.at is None or isinstance(place.at, Tile)):
        return ()
    looped = {loop.axis for loop in loops}
    found = []
    for part in conjuncts(where):
        axes = axes_of(part)
        named = any(axis.name in trim.grid for axis in axes)
        if named and not looped & axes and not any(read.source in inside for read in reads_of(part)):
            found.append(part)
    op = definition.top.op if isinstance(definition.top, Reduce) else None
    if found and (isinstance(op, Ranking) or (isinstance(op, Monoid) and not op.commutative)):
        what = f"trim of tiles of {definition.name}, whose points are taken in order"
        raise NotLowered(what=what, instead="no trim", at=trim.location)
    return tuple(found)


def check_trimmed_tiles(context: Context, plan: KernelPlan) -> None:
    """Every axis that ``trim`` names is one of the grid, and some guard speaks of it. Raises ``TrimInvalid``,
    ``UnknownAxis``, ``NotLowered``."""
    trim = context.record.trim
    if trim is None:
        return
    if context.record.roles:
        what = "trim of tiles in a kernel with roles"
        raise NotLowered(what=what, instead="warps", at=context.record.location_of("roles"))
    live = [part for node in nodes_of(plan.nodes) if isinstance(node, Reduction | Group) for part in node.live]
    for name in trim.grid:
        at = trim.location_of("grid")
        if name not in context.record.grid:
            grid = context.record.grid
            raise UnknownAxis(directive="trim", name=name, owner="the grid", near=near(name, grid), at=at)
        if not any(axis.name == name for part in live for axis in axes_of(part)):
            why = f"no reduction at the tile has a guard that speaks of {name} and of no loop"
            hint = f"remove {name} from trim"
            raise TrimInvalid(axis=name, func=", ".join(f.name for f in plan.writes), why=why, hint=hint, at=at)
