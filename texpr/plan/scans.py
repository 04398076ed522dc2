"""Scans in a kernel: how each one goes along its axis, and the loop that carries it from tile to tile.

A scan whose tile holds whole lines needs no loop. One with ``across: loop`` runs inside the loop of the first written
func that has the axis, the *leader*; all other written funcs with the axis are stored in the same loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from texpr.errors import Location
from texpr.lang.ir import Axis, Def, Func, Scan
from texpr.lang.user_code import TileOp
from texpr.math.expr import le
from texpr.math.prove import is_proved
from texpr.plan import checks
from texpr.plan.errors import (
    AxisCoveredTwice,
    BadPosition,
    ByInvalid,
    LoopAxisInvalid,
    NoEffect,
    NoInstruction,
    NotLowered,
    ScanInTiles,
    UnknownFunc,
    near,
)
from texpr.plan.inline import inline
from texpr.plan.ir import Cover, Prefixes, TileAxis
from texpr.plan.lookback import check_look_backs, look_back_of, looking_back
from texpr.plan.resolve import Context
from texpr.plan.tile_ops import check_lines, check_rows, refuse_steps
from texpr.schedule.places import Place
from texpr.schedule.words import Across, LoopOf, Memory


@dataclass(frozen=True, slots=True)
class Carried:
    """The loop over ``axis`` in steps of ``size`` that scans of a kernel are carried along, inside the store of
    ``leader``. ``record`` is the location of the ``scan:`` entry that asked for it."""

    axis: Axis
    size: int
    reverse: bool
    leader: Func
    record: Location | None


def scans_of(context: Context) -> list[tuple[Def, Scan]]:
    """The scans that a kernel computes, in definition order."""
    return [(d, d.top) for d in context.needed if isinstance(d.top, Scan)]


def carried_loop(context: Context) -> Carried | None:
    """The loop that the kernel's scans are carried along; None if it has no such scan. Raises ``PlanError``."""
    _check_names(context)
    found: Carried | None = None
    for definition, scan in scans_of(context):
        entry = _entry(context, definition)
        if entry is None:
            continue
        name, size, at = entry
        refuse_steps(name, scan, at)
        _check_entry(context, definition, scan, name)
        leader = next((f for f in context.writes if scan.axis in context.algorithm.definition(f).axes), None)
        if leader is None:
            hint = f"write {name} here, or reduce it in a later kernel"
            what = f"a scan over {scan.axis.name} in a loop of which this kernel stores nothing"
            raise NotLowered(what=what, instead=hint, at=at)
        own = Carried(scan.axis, size, scan.reverse, leader, at)
        if found is not None and (found.axis, found.size, found.reverse) != (own.axis, own.size, own.reverse):
            raise ScanInTiles(
                func=name,
                axis=scan.axis.name,
                why="the kernel's other scan needs another loop: one axis, one step, one direction",
                at=at,
                hint=f"another kernel for {name}",
            )
        found = found or own
    return found


def is_carried(context: Context, definition: Def) -> bool:
    return isinstance(definition.top, Scan) and _entry(context, definition) is not None


def _entry(context: Context, definition: Def) -> tuple[str, int, Location | None] | None:
    for func in definition.funcs:
        record = context.record.scan.get(func.name)
        if record is not None and record.across is Across.LOOP:
            (size,) = record.by.values()
            return func.name, size, record.location or context.record.scan.location_of(func.name)
    return None


def _check_names(context: Context) -> None:
    """Every func that ``scan`` names is a scan that this kernel computes, named once."""
    known = {func.name: d for d in context.algorithm.defs for func in d.funcs}
    seen: set[int] = set()
    for name in context.record.scan:
        at = context.record.scan.location_of(name)
        if name not in known:
            owner = context.algorithm.name
            raise UnknownFunc(directive="scan", name=name, algorithm=owner, near=near(name, known), at=at)
        cut = context.record.scan[name].across is Across.TWO_PASS
        definition = known[f"{name}.local" if cut else name]
        if definition not in context.needed:
            why = f"kernel {context.record.name} does not compute it"
            raise NoEffect(directive="scan", name=name, why=why, at=at)
        if not isinstance(definition.top, Scan):
            raise NoEffect(directive="scan", name=name, why="it is not a scan", at=at)
        if id(definition) in seen:
            raise NoEffect(directive="scan", name=name, why="its tuple is named before", at=at)
        seen.add(id(definition))


def _check_entry(context: Context, definition: Def, scan: Scan, name: str) -> None:
    record = context.record.scan[name]
    ((axis, _),) = record.by.items()
    at = record.by.location_of(axis) or record.location
    if axis != scan.axis.name:
        raise LoopAxisInvalid(func=name, axis=axis, why="it does not scan along it", choices=scan.axis.name, at=at)
    for other, sizes in (("grid", context.record.grid), ("whole", context.record.whole)):
        if axis in sizes:
            raise AxisCoveredTwice(axis=axis, first=other, second=f"the loop of {name}", at=at)
    for func in definition.funcs:
        place = context.record.place.get(func.name)
        if place is not None and place.at is not None and func not in context.writes:
            why = "across: loop puts it into the loop along its axis"
            raise BadPosition(
                position=str(place.at),
                name=func.name,
                why=why,
                choices="none",
                at=place.location_of("at"),
                hint="drop at",
            )
    for func in context.writes:
        place = context.record.place.get(func.name)
        if place is not None and axis in place.loop:
            why = f"across: loop of {name} makes this loop"
            raise LoopAxisInvalid(
                func=func.name, axis=axis, why=why, choices="none", at=place.loop.location_of(axis), hint="drop it"
            )


def check_place(name: str, place: Place, scan: Scan, written: bool) -> None:
    """What a place says of a scan has an effect: scans stay in registers, and ``scan`` makes their loops."""
    kind = "what a function gives" if isinstance(scan.op, TileOp) else "a scan"
    if place.where is Memory.SHARED:
        raise NotLowered(what=f"in: shared of {name}, {kind}", instead="registers", at=place.location_of("in"))
    if place.mma is not None:
        raise NoInstruction(func=name, why=f"it is {kind}", hint="remove mma", at=place.location_of("mma"))
    for axis in place.loop:
        if axis == scan.axis.name or not written:
            hint = f"scan: {{{name}: {{across: loop, by: {{{scan.axis.name}: {place.loop[axis]}}}}}}}"
            if isinstance(scan.op, TileOp):
                hint = f"whole: {{{scan.axis.name}: N}}"
            raise LoopAxisInvalid(
                func=name,
                axis=axis,
                why=f"it is {kind}",
                choices="none",
                at=place.loop.location_of(axis) or place.location,
                hint=hint,
            )
    if place.by and not written:
        why = f"it is {kind}; only what is stored or kept in shared memory comes in pieces"
        raise ByInvalid(func=name, why=why, at=place.location_of("by"))


def check_scans(context: Context, tile: Sequence[TileAxis]) -> None:
    """A scan sees its whole line: in one tile, carried by a loop, in tiles where it starts anew, or looking back."""
    _check_names(context)
    check_look_backs(context)
    looking = {id(definition) for definition, _, _, _ in looking_back(context)}
    by_axis = {t.axis: t for t in tile}
    for definition, scan in scans_of(context):
        if scan.axis not in definition.axes:  # recut
            what = f"split or fuse of {scan.axis.name}, along which {definition.name} scans,"
            at = context.record.location_of("split" if context.record.split else "fuse")
            raise NotLowered(what=what, instead="the axis as it is", at=at)
        if is_carried(context, definition) or id(definition) in looking:
            continue
        cut = by_axis.get(scan.axis)
        name, axis = definition.name, scan.axis
        if isinstance(scan.op, TileOp):
            check_lines(context, definition, scan, scan.op, cut)
            continue
        if cut is None:
            why = "it is in neither grid nor whole, and no loop carries the scan"
            raise ScanInTiles(func=name, axis=axis.name, why=why, at=context.record.location)
        single = cut.cover is Cover.WHOLE or is_proved(le(axis.extent, cut.size), context.facts)
        if not single and (not scan.every or cut.size % scan.every):
            why = "a program of the grid has only one tile of it"
            at = context.record.grid.location_of(axis.name)
            raise ScanInTiles(func=name, axis=axis.name, why=why, at=at)


def prefixes_node(
    context: Context,
    definition: Def,
    place: Place,
    sizes: Mapping[Axis, int],
    keep: Callable[[Func], bool],
    schedule: str,
) -> Prefixes:
    """The node of a scan where every axis has the size in ``sizes``."""
    scan = definition.top
    assert isinstance(scan, Scan)
    exprs = tuple(inline(e, keep, context.body_of) for e in scan.exprs)
    reset = None if scan.reset is None else inline(scan.reset, keep, context.body_of)
    read = exprs if reset is None else (*exprs, reset)
    checks.check_visible(context, definition.name, read, sizes, place, ())
    for axis in definition.axes:
        if axis not in sizes:
            why = f"its axis {axis.name} is in neither grid nor whole"
            raise ScanInTiles(func=definition.name, axis=scan.axis.name, why=why, at=context.record.location)
    if isinstance(scan.op, TileOp):
        check_rows(context, definition, scan, scan.op, sizes)
    carried = is_carried(context, definition)
    funcs, axes = definition.funcs, definition.axes
    return Prefixes(
        funcs, axes, scan.axis, scan.op, exprs, scan.exclusive, scan.reverse, reset, carried, schedule,
        look_back_of(context, definition),
    )  # fmt: skip


def position_in(loop: Carried) -> LoopOf:
    """Where carried scans are computed."""
    return LoopOf(loop.leader.name, loop.axis.name)
