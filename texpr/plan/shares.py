"""``split_reduction: {by: program}``: a part of a reduction is what a program of a persistent kernel comes across.

    dg[j] = sum over i of e(i, j)     in a persistent kernel whose grid cuts i

becomes ``dg.part[p, j]``, the sum over the points of the tiles that program p works on, kept in registers from tile
to tile and stored once, and ``dg[j] = sum over p of dg.part[p, j]``. Programs partition the points: every tile is
worked on by one program (``tile/program.py`` counts ``p, p + programs, ..``), and a point is in one tile, since the
axes of the grid are all reduced, and what else is reduced is whole in the tile.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from texpr.lang.ir import Algorithm, Axis, Def, Func, Reduce
from texpr.math.expr import IntExpr, ceildiv, maximum, minimum, sym
from texpr.math.expr import substitute as with_values
from texpr.math.integer import product
from texpr.plan.errors import BadPosition, NotLowered, SplitNotAssociative
from texpr.plan.ir import Cover, TileAxis
from texpr.plan.resolve import Context
from texpr.schedule.places import SplitReduction
from texpr.schedule.records import Kernel, Variant
from texpr.schedule.words import Program


def programs_of(kernel: Kernel, tiles: IntExpr, statics: Sequence[tuple[str, int]]) -> IntExpr:
    """How many programs of a persistent kernel are launched for ``tiles`` tiles; clusters of them, if they form some.
    """
    assert kernel.persistent is not None
    programs = sym("sms") if kernel.persistent.programs is None else kernel.persistent.programs.value
    return minimum(tiles, maximum(with_values(programs, dict(statics)) // math.prod(kernel.cluster.values()), 1))


def shares_axis(algorithm: Algorithm, variant: Variant, record: SplitReduction) -> Axis:
    """The axis of the parts: one per program of the kernel that writes them. Raises ``SplitNotAssociative``."""
    name = record.of[0]
    kernel = next((k for k in variant.kernels if f"{name}.part" in k.writes), None)
    at = record.location_of("by")
    if kernel is None or kernel.persistent is None:
        why = "its parts belong to programs, which only a persistent kernel keeps from tile to tile"
        raise SplitNotAssociative(func=name, why=why, at=at)
    if record.over not in kernel.grid:
        why = f"the grid of {kernel.name} does not cut {record.over}, so its programs do not divide it"
        raise SplitNotAssociative(func=name, why=why, at=at)
    extents = {axis.name: axis.extent for axis in algorithm.axes}
    tiles = product(ceildiv(extents[axis], size) for axis, size in kernel.grid.items() if axis in extents)
    return Axis(f"{record.over}.part", programs_of(kernel, tiles, algorithm.statics))


def share_of(definition: Def, top: Reduce, part: Axis) -> Def:
    """The reduction over the points of a program's share."""
    axes = (part, *definition.axes)
    funcs = tuple(
        Func(f"{func.name}.part", value.dtype, axes, location=func.location)
        for func, value in zip(definition.funcs, top.exprs, strict=True)
    )
    return Def(funcs, axes, dataclasses.replace(top, shares=part), definition.location)


def is_shared(definition: Def) -> bool:
    """Whether a definition is of parts that belong to programs."""
    return isinstance(definition.top, Reduce) and definition.top.shares is not None


def program_axes(context: Context) -> list[TileAxis]:
    """The axes of a kernel's tile of which a program is one point."""
    found = [d.top.shares for d in context.needed if isinstance(d.top, Reduce) and d.top.shares is not None]
    return [TileAxis(axis, 1, Cover.PROGRAM, True) for axis in dict.fromkeys(found)]


def check_shares(context: Context, tile: Sequence[TileAxis]) -> None:
    """Programs partition the points of what they keep, and what they keep is the same in all of their tiles."""
    grid = [t.axis for t in tile if t.cover is Cover.GRID]
    covered = {t.axis for t in tile}
    for definition in context.needed:
        top = definition.top
        if not isinstance(top, Reduce) or top.shares is None:
            continue
        name = definition.name
        place = context.record.place.get(name)
        at = context.record.location if place is None else place.location or context.record.location
        if context.record.split or context.record.fuse:
            raise NotLowered(what=f"parts of {name} by program under split or fuse", instead="parts: n", at=at)
        if place is not None and place.at is not None and not isinstance(place.at, Program):
            why = "it is kept from tile to tile"
            found = place.location_of("at")
            raise BadPosition(position=str(place.at), name=name, why=why, choices="program", at=found)
        if place is not None and (place.loop or place.mma is not None):
            what = f"{'a loop' if place.loop else 'mma'} of {name}, a part that belongs to a program"
            raise NotLowered(what=what, instead="whole tiles of its axes, element by element", at=at)
        for axis in grid:
            if axis not in top.axes:
                why = f"tiles of one program lie at several {axis.name}, an axis that it keeps"
                found = context.record.grid.location_of(axis.name)
                raise SplitNotAssociative(func=name.removesuffix(".part"), why=why, at=found)
        for axis in top.axes:
            if axis not in covered:
                why = f"{axis.name}, over which it runs as well, is neither in the grid nor whole"
                raise SplitNotAssociative(func=name.removesuffix(".part"), why=why, at=at)
