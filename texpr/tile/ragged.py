"""The points of a ragged axis: where the groups that a tile is at begin and end, loaded from the offsets."""

from __future__ import annotations

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Ragged
from texpr.math.expr import IntExpr, minimum, sym
from texpr.plan.errors import NotLowered
from texpr.tile import build as tile
from texpr.tile.ir import Literal, Load, ScalarOf
from texpr.tile.kernel import Block, Kernel
from texpr.tile.scope import Scope


def points_of_groups(axis: Axis, ragged: Ragged, kernel: Kernel, scope: Scope, block: Block) -> tuple[IntExpr, IntExpr]:
    """``first`` and ``stop``: from the first point of the first group in the tile to the last one of the last."""
    group = scope.axes.get(ragged.group)
    if group is None or group.tile is not None:
        raise NotLowered(
            what=f"a loop over {axis.name} around or beside the one over its groups {ragged.group.name}",
            instead=f"{ragged.group.name} in the grid",
            at=kernel.plan.record.location,
        )
    following = group.origin + group.size
    last = following if group.full or group.size == 1 else minimum(following, ragged.group.extent)
    what = f"of {axis.name} in the groups {ragged.group.name} of the tile"
    return (
        load_offset(f"{axis.name}_first", ragged, group.origin, f"points {what}", kernel, block),
        load_offset(f"{axis.name}_stop", ragged, last, "", kernel, block),
    )


def load_offset(name: str, ragged: Ragged, index: IntExpr, note: str, kernel: Kernel, block: Block) -> IntExpr:
    """A name for ``offsets[index]``: 32 bits hold it, since no dim is larger."""
    offsets = ragged.offsets
    kernel.needs.tensors[offsets.name] = offsets
    unique = kernel.name(name)
    value = Load(offsets.name, index, None, None, Literal(0, offsets.dtype), offsets.dtype, None, ())
    block.add(ScalarOf(unique, tile.cast(value, DType.I32), note))
    return sym(unique)
