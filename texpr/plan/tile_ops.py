"""A user's function over tiles in a kernel: whether the tile holds whole lines, and what the function relies on."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from texpr.errors import Location
from texpr.lang.ir import Axis, Def, Monoid, ReduceOp, Scan
from texpr.lang.user_code import TileOp
from texpr.math.bounds import bounds
from texpr.math.expr import le
from texpr.math.prove import is_proved
from texpr.plan.errors import LinesNotWhole
from texpr.plan.ir import Cover, TileAxis
from texpr.plan.resolve import Context


def check_lines(context: Context, definition: Def, scan: Scan, op: TileOp, cut: TileAxis | None) -> None:
    """The tile covers every line, and ends where it ends or knows what is beyond. Raises ``LinesNotWhole``."""
    axis, record = scan.axis, context.record
    name = definition.name
    if cut is None:
        why, hint = "no tile of the kernel holds it", f"whole: {{{axis.name}: {_length(context, axis)}}}"
        raise LinesNotWhole(func=name, op=op.name, axis=axis.name, why=why, hint=hint, at=record.location)
    if cut.cover is not Cover.WHOLE and not is_proved(le(axis.extent, cut.size), context.facts):
        why, hint = "it is divided among programs", f"whole: {{{axis.name}: {_length(context, axis)}}}"
        at = record.grid.location_of(axis.name)
        raise LinesNotWhole(func=name, op=op.name, axis=axis.name, why=why, hint=hint, at=at)
    at = record.whole.location_of(axis.name) or record.grid.location_of(axis.name)
    if not cut.full and any(operand.line and operand.beyond is None for operand in op.operands):
        why = f"its tile of {cut.size} may be longer, where {op.name} has no fill= that says what is there"
        hint = f"fill={{...}} of te.gluon_op, or a guard that says {axis.extent} == {cut.size}"
        raise LinesNotWhole(func=name, op=op.name, axis=axis.name, why=why, hint=hint, at=at)
    if cut.size < 2:
        why = "a tile of one point is no tile for a function"
        raise LinesNotWhole(func=name, op=op.name, axis=axis.name, why=why, hint=f"whole: {{{axis.name}: 2}}", at=at)


def check_rows(context: Context, definition: Def, scan: Scan, op: TileOp, sizes: Mapping[Axis, int]) -> None:
    """A function that takes one line at a time gets no tile of several. Raises ``LinesNotWhole``."""
    wide = [axis for axis in definition.axes if axis is not scan.axis and sizes.get(axis, 1) > 1]
    if op.rows or not wide:
        return
    record, lines = context.record, prod(sizes[axis] for axis in wide)
    why = f"{op.name} takes one line at a time, and the tile has {lines}"
    hint = "tiles of one point along " + ", ".join(axis.name for axis in wide)
    if all(axis.name in record.grid for axis in wide):
        hint = f"grid: {{{', '.join(f'{axis.name}: 1' for axis in wide)}}}"
    at = record.location_of("grid")
    raise LinesNotWhole(func=definition.name, op=op.name, axis=scan.axis.name, why=why, hint=hint, at=at)


def refuse_steps(name: str, scan: Scan, at: Location | None) -> ReduceOp | Monoid:
    """The operator of a scan that a schedule takes from tile to tile. Raises ``LinesNotWhole`` for a function, which
    cannot go on."""
    if not isinstance(scan.op, TileOp):
        return scan.op
    op, axis = scan.op.name, scan.axis.name
    why = "it cannot go on from tile to tile"
    raise LinesNotWhole(func=name, op=op, axis=axis, why=why, hint=f"whole: {{{axis}: N}}, without scan", at=at)


def _length(context: Context, axis: Axis) -> str:
    """The power of two that holds an axis, as far as is known."""
    most = bounds(axis.extent, context.facts).hi
    return "N" if most is None else str(power_of_two(most))


def power_of_two(least: int) -> int:
    """The first power of two that is not less, and at least 2."""
    size = 2
    while size < least:
        size *= 2
    return size

