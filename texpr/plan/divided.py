"""Tiles of the grid that are no power of two: they come in parts that are.

    grid: {i: 128, j: 192}          192 = 128 + 64

Tiles in registers and in shared memory have powers of two of points along each dim. A tile of 192 columns therefore is
two accumulators, of 128 and of 64, that share operand A; operand B is staged as two tiles; and the output is stored
part by part. Nothing else may lie along such an axis.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from texpr.lang.ir import Axis
from texpr.plan.attach import node_loops, node_names
from texpr.plan.checks import nodes_of
from texpr.plan.errors import NotLowered
from texpr.plan.inline import axes_of
from texpr.plan.ir import (
    AxisTile,
    Compute,
    Group,
    KernelPlan,
    Node,
    Prefixes,
    Reduction,
    Stage,
    TileAxis,
    Window,
    Write,
)
from texpr.plan.resolve import Context
from texpr.schedule.words import Copy


def parts_of(size: int) -> tuple[int, ...]:
    """The powers of two that a size is the sum of, the largest first."""
    return tuple(1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1)


def starts_of(size: int, most: int) -> list[tuple[int, int]]:
    """First point and size of the pieces of a tile: its parts, in pieces of at most ``most`` points each."""
    found = []
    start = 0
    for part in parts_of(size):
        width = min(part, most)
        found += [(start + n, width) for n in range(0, part, width)]
        start += part
    return found


def divided_axes(plan: KernelPlan) -> list[TileAxis]:
    """The axes whose tiles come in parts."""
    return [tile for tile in plan.tile if len(parts_of(tile.size)) > 1]


def check_divided(context: Context, plan: KernelPlan) -> None:
    """What lies along an axis whose tiles come in parts is staged, multiplied on a matrix unit, or stored."""
    for tile in divided_axes(plan):
        if tile.programs > 1:
            raise _refused(context, f"a cluster along {tile.axis.name},", tile)
        if any(role.split == tile.axis.name for role in context.record.roles.values()):
            raise _refused(context, f"roles with split: {tile.axis.name}", tile)
        for node in nodes_of(plan.nodes):
            what = _undivided(node, tile.axis)
            if not what and tile.axis.ragged is not None:
                what = f"{tile.axis.name}, a ragged axis,"
            if not what and isinstance(node, Write) and node.copy is Copy.TMA:
                what = _unequal(node, tile)
            if what:
                raise _refused(context, what, tile)


def _refused(context: Context, what: str, tile: TileAxis) -> NotLowered:
    parts = parts_of(tile.size)
    return NotLowered(
        what=f"{what} in tiles of {' + '.join(map(str, parts))} points along {tile.axis.name}",
        instead=f"grid: {{{tile.axis.name}: {parts[0]}}}",
        at=context.record.grid.location_of(tile.axis.name),
    )


def _undivided(node: Node, axis: Axis) -> str:
    """What keeps a node from being done part by part; empty if nothing does."""
    name = (node_names(node) or ("",))[0]
    if any(axis in axes_of(expr) for loop in node_loops(node) for expr in loop.tested):
        return f"steps of {name} that depend on {axis.name},"
    match node:
        case Stage(form=Window(), reads=reads) if any(axis in axes_of(read) for read in reads):
            return f"the window of {name}"
        case Compute(axes=axes) | Prefixes(axes=axes) if axis in axes:
            return f"{name}, held over {axis.name},"
        case Group(body=body):
            members = (one for one in body if isinstance(one, Reduction))
            return f"the group of {name}" if any(axis in one.keep for one in members) else ""
        case Reduction(keep=keep, dot=None) if axis in keep:
            return f"{name}, which no matrix unit sums up,"
        case Reduction(keep=keep, dot=dot, copies=copies, live=live) if dot is not None and axis in keep:
            if copies or any(axis in axes_of(expr) for expr in live):
                return f"accumulators of {name} per point, or only in some tiles,"
            side = dot.rows if axis in dot.rows else dot.cols
            if len(side) > 1:
                joined = " and ".join(one.name for one in side)
                return f"{name}, whose {'rows' if side is dot.rows else 'columns'} join {joined},"
        case Write(update=update) if update is not None:
            return f"the updates of {name}"
        case _:
            pass
    return ""


def _unequal(node: Write, tile: TileAxis) -> str:
    """The copy engine takes pieces of one shape out of the slots of an output."""
    width = dict(node.chunk).get(tile.axis.name, tile.size)
    if len({size for _, size in starts_of(tile.size, width)}) == 1:
        return ""
    least = min(parts_of(tile.size))
    return f"copy: tma of {node.func.name}, in pieces of several sizes (by: {{{tile.axis.name}: {least}}} has one)"


def with_divided_stages(plan: KernelPlan) -> KernelPlan:
    """The plan with a stage for each part of a tile, in the place of the stage of the tile."""
    divided = {tile.axis for tile in divided_axes(plan)}
    if not divided:
        return plan
    return dataclasses.replace(
        plan,
        prologue=_with_parts(plan.prologue, divided),
        body=_with_parts(plan.body, divided),
        epilogue=_with_parts(plan.epilogue, divided),
    )


def _with_parts(nodes: Sequence[Node], divided: set[Axis]) -> tuple[Node, ...]:
    result: list[Node] = []
    for node in nodes:
        match node:
            case Stage(form=AxisTile(axes=axes) as form):
                pieces = [starts_of(size, size) if axis in divided else [(0, size)] for axis, size in axes]
                if math.prod(map(len, pieces)) == 1:
                    result.append(node)
                    continue
                for places in itertools.product(*pieces):
                    at = tuple((axis, start) for (axis, _), (start, _) in zip(axes, places, strict=True))
                    own = tuple((axis, size) for (axis, _), (_, size) in zip(axes, places, strict=True))
                    part = tuple((axis, start) for axis, start in at if axis in divided)
                    result.append(dataclasses.replace(node, form=AxisTile(own, form.read), part=part))
            case Reduction(body=body) | Write(body=body) | Group(body=body):
                result.append(dataclasses.replace(node, body=_with_parts(body, divided)))
            case _:
                result.append(node)
    return tuple(result)
