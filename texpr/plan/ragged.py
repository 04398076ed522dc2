"""Ragged axes in a kernel: tiles of the grid that lie in one group each, loops over the points of the groups that a
tile is at, and what these make superfluous."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from texpr.lang.ir import Axis, Expr, Func, group_conditions, top_exprs
from texpr.lang.show import expr_text
from texpr.plan.errors import LoopAxisInvalid, NotLowered, TrimInvalid
from texpr.plan.inline import conjunction, conjuncts
from texpr.plan.ir import Cover, LoopAxis, TileAxis
from texpr.plan.resolve import Context, mentioned
from texpr.schedule.places import Place
from texpr.schedule.words import Base


def knows_its_group(context: Context, axis: Axis) -> bool:
    """Whether something that the kernel computes depends on the group of a ragged axis that is stored along."""
    if axis.ragged is None:
        return False
    exprs = [expr for definition in context.needed for expr in top_exprs(definition.top)]
    return axis.ragged.group in mentioned(exprs)


def grouped_tiles(context: Context, axis: Axis, size: int, earlier: Sequence[TileAxis]) -> list[TileAxis]:
    """The tiles of a ragged axis in the grid, none of which crosses a group, and the group that each lies in."""
    assert axis.ragged is not None
    group, at = axis.ragged.group, context.record.grid.location_of(axis.name)
    if group.name in context.record.grid or group.name in context.record.whole:
        raise NotLowered(
            what=f"{axis.name} in the grid beside its groups {group.name}",
            instead=f"one of them: tiles of {axis.name} lie in one {group.name} each",
            at=at,
        )
    if any(t.grouped is not None for t in earlier):
        raise NotLowered(what="two ragged axes in one grid", instead="a loop over one of them", at=at)
    missing = f"groups of {axis.name} of multiples of {size}"
    return [TileAxis(axis, size, Cover.GRID, False, missing, axis.ragged), TileAxis(group, 1, Cover.GROUP, True)]


def covers_groups(func: Func, axis: Axis, context: Context) -> bool:
    """Whether ``func`` is stored at all points of the groups ``axis`` in the tile, by a loop over them."""
    place = context.record.place.get(func.name, Place())
    own = context.algorithm.definition(func).axes
    return any(a.ragged is not None and a.ragged.group is axis and a.name in place.loop for a in own)


def check_one_group(context: Context, func: Func, loops: Sequence[LoopAxis], sizes: Mapping[Axis, int]) -> None:
    """What is stored along the points of groups belongs to the one group that the tile is at."""
    for loop in loops:
        ragged = loop.axis.ragged
        if loop.base is not None and ragged is not None and sizes[ragged.group] > 1:
            raise NotLowered(
                what=f"{func.name} over the points {loop.axis.name} of {sizes[ragged.group]} groups at once",
                instead=f"grid: {{{ragged.group.name}: 1}}",
                at=context.record.grid.location_of(ragged.group.name),
            )


def base_of(context: Context, axis: Axis, place: Place, at_hand: Collection[Axis]) -> Base | None:
    """How a loop over ``axis`` follows its groups; None where it is not ragged, or where the tile is at no group, so
    that the loop runs over all points and ``where`` leaves out those of other groups."""
    wanted = place.base.get(axis.name)
    if wanted is Base.ROW:
        return wanted  # the axis is that of positions in groups already
    if axis.ragged is None or axis.ragged.group not in at_hand:
        if wanted is not None:
            group = "" if axis.ragged is None else f", and {axis.ragged.group.name} is not in the tile"
            raise LoopAxisInvalid(
                func="base",
                axis=axis.name,
                why=f"it does not follow groups{group}",
                choices="ragged axes whose group is in the tile",
                at=place.location_of("base"),
                hint="leave base out",
            )
        return None
    return Base.TILE


def check_bases(context: Context, func: str, place: Place, loops: Sequence[LoopAxis]) -> None:
    """``base`` names loops of the func, and a loop that follows groups is not trimmed as well."""
    for loop in loops:
        if loop.base is Base.TILE and loop.axis.name in place.trim:
            raise TrimInvalid(
                func=func,
                axis=loop.axis.name,
                why="its loop runs over the points of its groups already",
                hint=f"leave trim out, or base: {{{loop.axis.name}: row}}",
                at=place.location_of("trim"),
            )
    looped = [loop.axis.name for loop in loops]
    for name in place.base:
        if name not in looped:
            raise LoopAxisInvalid(
                func=func,
                axis=name,
                why="base names it, but there is no such loop",
                choices=", ".join(looped) or "none",
                at=place.location_of("base"),
            )


def without_bounds(where: Expr | None, loops: Sequence[LoopAxis], sizes: Mapping[Axis, int]) -> Expr | None:
    """``where`` without the bounds of a group that a loop runs over alone: it has no other points."""
    implied: set[str] = set()
    for loop in loops:
        if loop.base is Base.TILE and loop.axis.ragged is not None and sizes.get(loop.axis.ragged.group) == 1:
            implied |= {expr_text(condition) for condition in group_conditions(loop.axis)}
    if where is None or not implied:
        return where
    kept = [part for part in conjuncts(where) if expr_text(part) not in implied]
    return conjunction(kept) if kept else None
