"""Scans that look back: one program for every tile, and one pass over memory.

A program scans its tile, publishes what the tile comes to, combines what the tiles before it have published until it
meets one that knows what everything up to it comes to, and then publishes the same of its own tile (Merrill and
Garland, Single-pass Parallel Prefix Scan with Decoupled Look-back, 2016). Value and state of a tile share 64-bit words
(``words``), so that whoever sees the one sees the other. Programs take their tiles in the order in which they start:
those that a program waits for are running or done. The words are zeroed before every launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.ir import Def, Monoid, ReduceOp, Scan
from texpr.lang.user_code import TileOp
from texpr.math.expr import IntExpr, ceildiv
from texpr.math.integer import product
from texpr.plan import ragged
from texpr.plan.errors import LookBackInvalid, NoEffect, OrderNotRelaxed, ScanInTiles
from texpr.plan.ir import LookBack, Scratch
from texpr.plan.resolve import Context
from texpr.plan.tile_ops import refuse_steps
from texpr.plan.words import MOST_WORDS, WORD_BITS, word_count
from texpr.schedule.places import Scan as ScanRecord
from texpr.schedule.records import Order
from texpr.schedule.words import Across, OrderKind, RelaxKind, Tile

WINDOW: Final = 32
"""How many words are looked at together if the schedule does not say: one per lane of a warp."""

_IN_WORDS: Final = frozenset(
    {DType.BOOL, DType.I8, DType.U8, DType.I16, DType.U16, DType.I32, DType.U32, DType.I64, DType.U64}
    | {DType.F16, DType.BF16, DType.F32, DType.F64}
)
_EXACT: Final = frozenset(
    {ReduceOp.MIN, ReduceOp.MAX, ReduceOp.ANY, ReduceOp.ALL, ReduceOp.AND, ReduceOp.OR, ReduceOp.XOR}
)


def looking_back(context: Context) -> list[tuple[Def, Scan, str, ScanRecord]]:
    """The scans of a kernel that look back, in definition order, each with the name it goes by and its record."""
    found = []
    for definition in context.needed:
        for func in definition.funcs:
            record = context.record.scan.get(func.name)
            if record is not None and record.across is Across.LOOKBACK and isinstance(definition.top, Scan):
                found.append((definition, definition.top, func.name, record))
    return found


def look_back_of(context: Context, definition: Def) -> LookBack | None:
    """How the scan that ``definition`` is looks back; None if it does not."""
    entries = looking_back(context)
    for number, (other, scan, _, record) in enumerate(entries):
        if other is definition:
            (size,) = record.by.values()
            tiles = ceildiv(scan.axis.extent, size)
            before = sum(word_count(state_widths(earlier)) for _, earlier, _, _ in entries[:number])
            first = 1 + before * _programs(context)
            return LookBack(_words(context), first, tiles, record.window or WINDOW, state_widths(scan))
    return None


def scratch_of(context: Context) -> tuple[Scratch, ...]:
    """The memory through which the programs of a kernel tell each other of their tiles."""
    return (_words(context),) if looking_back(context) else ()


def order_of(context: Context) -> Order | None:
    """The order of a kernel's tiles: those that a program waits for come before its own."""
    for _, scan, _, _ in looking_back(context):
        if scan.reverse:
            return Order(kind=OrderKind.REVERSE, axes=(scan.axis.name,))
    return context.record.order


def depends_on_arrival(op: ReduceOp | Monoid, dtypes: Sequence[DType]) -> bool:
    """Whether results depend on which programs have been quicker: how tiles are combined does, and floats may tell."""
    return any(dtype.is_float for dtype in dtypes) and (isinstance(op, Monoid) or op not in _EXACT)


def is_exact_in_words(scan: Scan) -> bool:
    """Whether a scan may look back whatever the schedule relaxes: its state can be published, and results do not
    depend on who is first."""
    dtypes = [expr.dtype for expr in scan.exprs]
    fits = all(dtype in _IN_WORDS for dtype in dtypes) and word_count(state_widths(scan)) <= MOST_WORDS
    return fits and not isinstance(scan.op, TileOp) and not depends_on_arrival(scan.op, dtypes)


def state_widths(scan: Scan) -> tuple[int, ...]:
    """The bits that the state of a scan takes: whether it has started anew, and its values."""
    anew = () if scan.reset is None else (1,)
    return (*anew, *(1 if expr.dtype is DType.BOOL else expr.dtype.bits for expr in scan.exprs))


def check_look_backs(context: Context) -> None:
    """Everything that looking back demands of a kernel. Raises ``LookBackInvalid`` and others."""
    _check_windows(context)
    entries = looking_back(context)
    for definition, scan, name, record in entries:
        op = refuse_steps(name, scan, _location(record))
        _check_tiles(context, definition, scan, name, record)
        _check_state(scan, name, record)
        _check_direction(context, entries[0], scan, name, record)
        relaxed = {r.name for r in context.variant.relax if r.kind is RelaxKind.ORDER}
        said = not relaxed.isdisjoint(func.name for func in definition.funcs)
        if depends_on_arrival(op, [expr.dtype for expr in scan.exprs]) and not said:
            dtype = next(expr.dtype for expr in scan.exprs if expr.dtype.is_float)
            raise OrderNotRelaxed(
                what="tiles",
                func=name,
                dtype=dtype,
                why="a program combines those before it as it finds them",
                summed=name,
                instead="across: two_pass",
                at=_location(record),
            )


def _check_windows(context: Context) -> None:
    for name, record in context.record.scan.items():
        if record.window is not None and record.across is not Across.LOOKBACK:
            why = f"across: {record.across.value} does not look back"
            raise NoEffect(directive="window", name=f"scan {name}", why=why, at=record.location_of("window"))


def _check_tiles(context: Context, definition: Def, scan: Scan, name: str, record: ScanRecord) -> None:
    ((axis, size),) = record.by.items()
    at = _location(record)
    if axis != scan.axis.name:
        hint = f"by: {{{scan.axis.name}: {size}}}"
        raise ScanInTiles(func=name, axis=scan.axis.name, why=f"by names {axis}", at=at, hint=hint)
    if context.record.grid.get(axis) != size:
        why = f"a look-back over tiles of {size} needs a grid of them"
        raise ScanInTiles(func=name, axis=axis, why=why, at=at, hint=f"grid: {{{axis}: {size}}}")
    for other in definition.axes:
        for sizes in (context.record.grid, context.record.whole):
            if other is not scan.axis and sizes.get(other.name, 1) > 1:
                why = f"a program has {sizes[other.name]} lines along {other.name}, and looks back along one"
                raise _invalid(scan, name, why, at=sizes.location_of(other.name), hint=f"grid: {{{other.name}: 1}}")
    for other_name in context.record.grid:
        if ragged.knows_its_group(context, context.axis(other_name, "grid", at)):
            why = f"tiles along {other_name} lie in groups, and their number is not known before"
            raise _invalid(scan, name, why, at=context.record.grid.location_of(other_name))
    if context.record.persistent is not None:
        why = "a program that loops over tiles would wait for tiles of its own"
        raise _invalid(scan, name, why, at=context.record.location_of("persistent"), hint="remove persistent")
    for func in definition.funcs:
        place = context.record.place.get(func.name)
        if place is not None and place.at is not None and not isinstance(place.at, Tile):
            why = f"it does so once for every tile, not at {place.at}"
            raise _invalid(scan, name, why, at=place.location_of("at"), hint="drop at")


def _check_state(scan: Scan, name: str, record: ScanRecord) -> None:
    at = _location(record)
    others = f"across: two_pass, or loop, for {name}"
    for expr in scan.exprs:
        if expr.dtype not in _IN_WORDS:
            raise _invalid(scan, name, f"values of type {expr.dtype} are not published", at=at, hint=others)
    count = word_count(state_widths(scan))
    if count > MOST_WORDS:
        values = " and ".join(str(expr.dtype) for expr in scan.exprs)
        start = "" if scan.reset is None else ", with a bit for the reset"
        why = f"its state ({values}{start}) takes {count} words of {WORD_BITS} bits, and at most {MOST_WORDS} are read"
        raise _invalid(scan, name, why, at=at, hint=others)


def _check_direction(
    context: Context, first: tuple[Def, Scan, str, ScanRecord], scan: Scan, name: str, record: ScanRecord
) -> None:
    """Tiles are taken in one order, in which every scan of the kernel goes."""
    _, other, other_name, _ = first
    if (other.axis, other.reverse) != (scan.axis, scan.reverse):
        why = f"the kernel's tiles are taken in the order of {other_name}, which goes another way"
        raise _invalid(scan, name, why, at=_location(record), hint=f"another kernel for {name}")
    order = context.record.order
    if order is None:
        return
    at = context.record.location_of("order")
    if order.kind is OrderKind.HILBERT and scan.axis.name in order.axes:
        why = "it waits for the tiles before, and a curve comes to some of them later"
        raise _invalid(scan, name, why, at=at, hint="remove order")
    backwards = order.kind is OrderKind.REVERSE and order.axis == scan.axis.name
    if scan.reverse and not backwards:
        why = "it goes from the last tile to the first, and tiles are taken in that order"
        raise _invalid(scan, name, why, at=at, hint="remove order")
    if backwards and not scan.reverse:
        why = "it waits for the tiles before, and this order begins with the last"
        raise _invalid(scan, name, why, at=at, hint="remove order")


def _programs(context: Context) -> IntExpr:
    """How many programs the kernel has: one for every tile."""
    grid = context.record.grid
    return product(ceildiv(context.axis(name, "grid", None).extent, size) for name, size in grid.items())


def _words(context: Context) -> Scratch:
    """A counter of programs, then the words of every scan for every tile."""
    each = sum(word_count(state_widths(scan)) for _, scan, _, _ in looking_back(context))
    return Scratch(f"{context.record.name}.tiles", DType.U64, (1 + each * _programs(context),))


def _location(record: ScanRecord) -> Location | None:
    return record.location_of("across") or record.location


def _invalid(scan: Scan, name: str, why: str, at: Location | None, hint: str | None = None) -> LookBackInvalid:
    return LookBackInvalid(func=name, axis=scan.axis.name, why=why, at=at, hint=hint)
