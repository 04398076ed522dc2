"""The points of a ragged axis: where the groups that a tile is at begin and end, loaded from the offsets, and the group
that a tile of the grid lies in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Ragged
from texpr.math.expr import IntExpr, Sym, const, minimum, sym
from texpr.plan.errors import NotLowered
from texpr.plan.ir import TileAxis
from texpr.tile import build as tile
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.ir import For, Literal, Load, ScalarOf, Statement
from texpr.tile.kernel import Block, Kernel
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.uniform import FindGroup, Scalar


@dataclass(frozen=True, slots=True)
class TileInGroup:
    """A tile of a ragged axis of the grid: the names of its group, of its first point and of the end of the group.

    Numbers of tiles are given to groups by where they begin: group e has those from ``offsets[e] // size + e`` on, so
    that the group of a number is found without a sum over the groups before. A number may stand for no tile.
    """

    tile: TileAxis
    groups: Ragged
    kernel: Kernel
    group: Sym
    first: Sym
    stop: Sym

    def axes(self, origins: Mapping[Axis, Sym]) -> dict[Axis, AxisValue]:
        """Where the axis and its group stand."""
        inside = AxisValue(origins[self.tile.axis], self.tile.size, False, stop=self.stop)
        return {self.tile.axis: inside, self.groups.group: AxisValue(self.group, 1, True)}

    def located(self, number: IntExpr) -> list[Statement]:
        """What finds the tile with a number."""
        size, offsets, block = self.tile.size, self.groups.offsets.name, Block()
        groups = self.groups.group.extent
        block.add(FindGroup(self.group.name, offsets, groups, number, size, f"the group of tile {number}"))
        begin = load_offset(f"{self.tile.axis.name}_begin", self.groups, self.group, "", self.kernel, block)
        stop = _offset(self.groups, self.group + 1, self.kernel)
        block.add(ScalarOf(self.stop.name, stop, f"{self.tile.axis.name} ends here in its group"))
        block.add(Scalar(self.first.name, begin + (number - begin // size - self.group) * size))
        return block.statements

    def around(self, origins: Mapping[Axis, Sym], body: Block) -> For:
        """``body`` once, or not at all where the number stands for no tile."""
        size = self.tile.size
        last = minimum(self.first + size, self.stop)
        note = f"a tile of {size} along {self.tile.axis.name}, unless its group ends before"
        return For(origins[self.tile.axis].name, self.first, last, const(size), tuple(body.statements), note)


def tile_in_group(tile: TileAxis, groups: Ragged, kernel: Kernel) -> TileInGroup:
    """The names for a tile of a ragged axis."""
    name = tile.axis.name
    names = [sym(kernel.name(wanted)) for wanted in (f"{groups.group.name}0", f"{name}_first", f"{name}_stop")]
    return TileInGroup(tile, groups, kernel, names[0], names[1], names[2])


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
    unique = kernel.name(name)
    block.add(ScalarOf(unique, _offset(ragged, index, kernel), note))
    return sym(unique)


def _offset(ragged: Ragged, index: IntExpr, kernel: Kernel) -> TileExpr:
    offsets = ragged.offsets
    kernel.needs.tensors[offsets.name] = offsets
    value = Load(offsets.name, index, None, None, Literal(0, offsets.dtype), offsets.dtype, None, ())
    return tile.cast(value, DType.I32)
