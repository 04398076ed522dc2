"""The copy of an inverted func that a program keeps in shared memory: which of its elements it holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from texpr.lang.ir import Axis
from texpr.plan.ir import Cover, KernelPlan, Update, Write
from texpr.plan.resolve import constant


@dataclass(frozen=True, slots=True)
class CopyDim:
    """An axis of the copy that a program keeps: ``size`` positions, a power of two, for ``points`` points. ``local``:
    those of the tile, from its origin on; else those of the axis."""

    axis: Axis
    size: int
    points: int
    local: bool


def copy_dims(write: Write, update: Update, plan: KernelPlan) -> tuple[CopyDim, ...]:
    """The shape of the copy in shared memory; extents that are known only at launch count as 0."""
    looped = {loop.axis for loop in write.loops}
    keyed = {axis for axis, _ in update.elements if axis not in write.axes}
    found = []
    for axis, _ in update.elements:
        tile = plan.tile_axis(axis)
        stays = tile is not None and (tile.cover is Cover.WHOLE or copied_each_tile(update, plan))
        if tile is not None and stays and axis not in keyed and axis not in looped:
            found.append(CopyDim(axis, tile.size, tile.size, True))
            continue
        extent = constant(axis.extent) or 0
        found.append(CopyDim(axis, 1 << (extent - 1).bit_length() if extent else 0, extent, False))
    return tuple(found)


def copied_each_tile(update: Update, plan: KernelPlan) -> bool:
    """Whether a copy lives as long as a tile: programs with one tile have no other."""
    return update.each_tile or plan.persistence is None


def copy_points(write: Write, update: Update, plan: KernelPlan) -> int:
    """How many elements the copy has, unused ones included."""
    return math.prod(dim.size for dim in copy_dims(write, update, plan))
