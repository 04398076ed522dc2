"""What can be wrong inside one record without knowing the algorithm: names given twice, numbers that contradict each
other."""

from __future__ import annotations

import math
from collections.abc import Iterable

from texpr.errors import Location
from texpr.math.expr import FALSE, Const
from texpr.schedule import errors
from texpr.schedule.base import Record
from texpr.schedule.places import Group, Mma, Place, Scan, Skip, SplitReduction, Stage, TileTrim
from texpr.schedule.records import Kernel, Order, Schedule, Split, Variant
from texpr.schedule.words import Copy, Memory, Num, OrderKind

_LANES = 32
_MOST_WARPS = 32
_LARGEST_SQUARE = 32
_LARGEST_CLUSTER = 8


def check_record(record: Record, subject: str) -> None:
    """Checks one record whose parts are checked already. ``subject`` names it in messages. Raises a ScheduleError."""
    match record:
        case Schedule():
            _not_empty(record, "variants", record.variants, "variants: [{name: any, ...}]")
            _distinct_records("variants", record.variants)
        case Variant():
            _check_variant(record)
        case Kernel():
            _check_kernel(record)
        case Order():
            _check_order(record)
        case Mma():
            axes = (*record.rows, *record.cols)
            _distinct(record, "rows", axes, "give each axis to rows or to cols", subject)
        case Place():
            _distinct(record, "unroll", record.unroll, "name each axis once", f"{subject}.unroll")
            _distinct(record, "invert", record.invert, "name each axis once", f"{subject}.invert")
            _distinct(record, "once", record.once, "name each axis once", f"{subject}.once")
        case TileTrim():
            _not_empty(record, "grid", record.grid, "trim: {grid: w}", f"{subject}.grid")
            _distinct(record, "grid", record.grid, "name each axis once", f"{subject}.grid")
        case Skip():
            if (record.test is None) == (record.list_ is None):
                found = "both" if record.test is not None else "neither"
                example = f"{subject.rpartition('.')[2]}: {{test: mask}}"
                raise errors.WrongShape(
                    at=record.location, subject=subject, expected="test or list", found=found, example=example
                )
        case Split():
            _distinct(record, "into", record.into, "give the two halves different names", f"{subject}.into")
            _new_names(record, "into", record.into)
        case Stage():
            _check_stage(record)
        case Group():
            _not_empty(record, "funcs", record.funcs, f"{subject}: {{funcs: [m, l], at: tile, loop: {{j: 4096}}}}")
            _distinct(record, "funcs", record.funcs, "name each func once", f"{subject}.funcs")
        case SplitReduction():
            _check_split_reduction(record, subject)
        case Scan():
            _check_scan(record, subject)
        case Num():
            _check_num(record, subject)
        case _:
            pass


def _distinct(record: Record, key: str, names: Iterable[str], remedy: str, subject: str = "") -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            at = record.location_of(key)
            raise errors.DuplicateName(at=at, subject=subject or key, name=name, remedy=remedy)
        seen.add(name)


def _distinct_records(subject: str, records: tuple[Variant, ...] | tuple[Kernel, ...]) -> None:
    seen: set[str] = set()
    for record in records:
        if record.name in seen:
            remedy = f"give each of the {subject} its own name"
            at = record.location_of("name")
            raise errors.DuplicateName(at=at, subject=subject, name=record.name, remedy=remedy)
        seen.add(record.name)


def _not_empty(record: Record, key: str, items: tuple[object, ...], example: str, subject: str = "") -> None:
    if not items:
        raise errors.NothingThere(at=record.location_of(key), subject=subject or key, example=example)


def _new_names(record: Record, key: str, names: Iterable[str]) -> None:
    """Axes that a schedule makes have plain names: dots belong to ``func.axis``, and ``part`` is taken."""
    for name in names:
        if "." in name or name == "part":
            reason = "'part' is reserved" if name == "part" else "the name of a new axis has no dots"
            remedy = name.replace(".", "_") if "." in name else "pieces"
            raise errors.BadName(
                at=record.location_of(key), text=name, what="the name of a new axis", reason=reason, remedy=remedy
            )


def _check_variant(variant: Variant) -> None:
    _not_empty(variant, "target", variant.target, "target: [sm_80, sm_90a]")
    _distinct(variant, "target", variant.target, "name each target once")
    _distinct(variant, "assume", variant.assume, "name each assumption once")
    if variant.when is FALSE:
        raise errors.NeverTrue(at=variant.location_of("when"), name=variant.name)
    _not_empty(variant, "kernels", variant.kernels, "kernels: [{name: copy, writes: [y], grid: {i: 1024}}]")
    _distinct_records("kernels", variant.kernels)
    departures = (f"{relax.kind.value}: {relax.name}" for relax in variant.relax)
    _distinct(variant, "relax", departures, "name each departure once")
    writers: dict[str, Kernel] = {}
    for kernel in variant.kernels:
        for name in kernel.writes:
            if name in writers:
                at = kernel.location_of("writes")
                raise errors.WrittenTwice(at=at, name=name, first=writers[name].name, second=kernel.name)
            writers[name] = kernel
    _check_like(variant)


def _check_like(variant: Variant) -> None:
    """``like`` names an earlier kernel."""
    earlier: list[str] = []
    for kernel in variant.kernels:
        if kernel.like is not None and kernel.like not in earlier:
            at = kernel.location_of("like")
            raise errors.LikeUnknown(at=at, kernel=kernel.name, name=kernel.like, choices=", ".join(earlier) or "none")
        earlier.append(kernel.name)


def _check_kernel(kernel: Kernel) -> None:
    _not_empty(kernel, "writes", kernel.writes, "writes: [y]")
    _distinct(kernel, "writes", kernel.writes, "name each output once")
    _distinct(kernel, "reorder", kernel.reorder, "name each loop once")
    for axis in kernel.whole:
        if axis in kernel.grid:
            remedy = f"whole: {{{axis}: {kernel.whole[axis]}}} alone if one tile covers the axis, else grid alone"
            at = kernel.whole.location_of(axis)
            raise errors.AxisTwice(at=at, axis=axis, first="grid", second="whole", remedy=remedy)
    _check_new_axes(kernel)
    _check_map(kernel)
    _check_cluster(kernel)


def _check_new_axes(kernel: Kernel) -> None:
    """Names made by ``split`` and ``fuse`` are new, and a fused axis has at least two parts."""
    made: dict[str, Location | None] = {}
    for axis, split in kernel.split.items():
        for name in split.into:
            if name in made or name in kernel.split or name == axis:
                raise errors.DuplicateName(
                    at=split.location_of("into"), subject="split", name=name, remedy="give each new axis its own name"
                )
            made[name] = split.location
    for name, axes in kernel.fuse.items():
        at = kernel.fuse.location_of(name)
        _new_names(kernel.fuse, name, (name,))
        if name in made or name in axes or name in kernel.split:
            raise errors.DuplicateName(at=at, subject="fuse", name=name, remedy="give each new axis its own name")
        if len(axes) < 2:
            raise errors.WrongShape(
                at=at,
                subject=f"fuse.{name}",
                expected="two axes or more",
                found=f"{len(axes)}",
                example=f"fuse: {{{name}: [r, i]}}",
            )
        _distinct(kernel.fuse, name, axes, "name each axis once", f"fuse.{name}")


def _check_map(kernel: Kernel) -> None:
    lanes = math.prod(spread.lanes for spread in kernel.map.values())
    if lanes > _LANES:
        remedy = f"divide the lanes of one axis by {lanes // _LANES}"
        at = kernel.location_of("map")
        raise errors.MapTooLarge(at=at, product=lanes, what="lanes", available=_LANES, remedy=remedy)
    warps = math.prod(spread.warps for spread in kernel.map.values())
    available = kernel.warps or _MOST_WARPS
    if warps > available:
        remedy = f"warps: {warps}" if warps <= _MOST_WARPS else f"divide the warps of one axis by {warps // available}"
        at = kernel.location_of("map")
        raise errors.MapTooLarge(at=at, product=warps, what="warps", available=available, remedy=remedy)


def _check_cluster(kernel: Kernel) -> None:
    """Every GPU that has clusters has those of up to eight programs."""
    programs = math.prod(kernel.cluster.values())
    if programs > _LARGEST_CLUSTER:
        at = kernel.location_of("cluster")
        limits = f"at most {_LARGEST_CLUSTER} programs"
        remedy = f"divide the programs along one axis by {programs // _LARGEST_CLUSTER}"
        raise errors.OutOfRange(at=at, subject="cluster", limits=limits, value=programs, remedy=remedy)


def _check_order(order: Order) -> None:
    if order.kind is OrderKind.FLATTEN:
        _check_flattened(order)
        return
    wanted = 2 if order.kind is OrderKind.HILBERT else 1
    if len(dict.fromkeys(order.axes)) != wanted or len(order.axes) != wanted:
        raise errors.BadOrder(
            at=order.location,
            problem=f"order: {order.kind.value} is along {'two axes' if wanted == 2 else 'one axis'}",
            remedy=f"order: {{{order.kind.value}: {'[i, j], by: 8' if wanted == 2 else 'i'}}}",
        )
    named = order.axis if wanted == 1 else f"[{', '.join(order.axes)}]"
    if order.kind is OrderKind.REVERSE:
        if order.by is not None:
            raise errors.BadOrder(
                at=order.location_of("by"),
                problem="order: reverse takes no by",
                remedy=f"order: {{reverse: {named}}}",
            )
        return
    if order.by is None:
        what = f"the tiles of {named} in one group" if wanted == 1 else "the side of a square of tiles"
        raise errors.BadOrder(
            at=order.location,
            problem=f"order: {order.kind.value} needs by, {what}",
            remedy=f"order: {{{order.kind.value}: {named}, by: 8}}",
        )
    if order.kind is OrderKind.HILBERT and (order.by & (order.by - 1) or not 2 <= order.by <= _LARGEST_SQUARE):
        raise errors.BadOrder(
            at=order.location_of("by"),
            problem=f"order: a Hilbert curve fills squares of 2, 4, 8 .. {_LARGEST_SQUARE} tiles, not of {order.by}",
            remedy=f"order: {{hilbert: {named}, by: 8}}",
        )


def _check_stage(stage: Stage) -> None:
    if stage.copy is not Copy.SYNC and stage.where is not Memory.SHARED:
        raise errors.CopyNeedsShared(
            at=stage.location_of("copy"),
            copy=stage.copy.value,
            memory=stage.where.value,
        )


def _check_flattened(order: Order) -> None:
    named = ", ".join(dict.fromkeys(order.axes))
    problem = ""
    if len(dict.fromkeys(order.axes)) < len(order.axes):
        problem = "order: flatten names an axis twice"
    elif len(order.axes) < 2:
        problem, named = "order: flatten is along the axes of the grid and of a loop", f"{named}, k"
    elif order.by is not None:
        problem = "order: flatten takes no by"
    if problem:
        raise errors.BadOrder(at=order.location, problem=problem, remedy=f"order: {{flatten: [{named}]}}")


def _check_split_reduction(split: SplitReduction, subject: str) -> None:
    _not_empty(split, "of", split.of, "of: [acc]", f"{subject}.of")
    _distinct(split, "of", split.of, "name each reduction once", f"{subject}.of")
    if (split.parts is None) == (split.by is None):
        at = split.location_of("parts") or split.location_of("by") or split.location
        found = "neither" if split.parts is None else "both"
        raise errors.WrongShape(at=at, subject=subject, expected="one of parts and by", found=found, example="parts: 8")
    if split.parts is not None and split.parts.max is None and not isinstance(split.parts.value, Const):
        at = split.location_of("parts")
        raise errors.NoBound(at=at, subject=f"{subject}.parts", value=split.parts.value)


def _check_num(num: Num, subject: str) -> None:
    if not isinstance(num.value, Const):
        return
    value = num.value.value
    if value < 1 or (num.max is not None and value > num.max):
        limits = f"at least 1 and at most {num.max}" if num.max is not None else "at least 1"
        remedy = f"{subject.rpartition('.')[2]}: {max(1, min(value, num.max or value))}"
        raise errors.OutOfRange(at=num.location, subject=subject, limits=limits, value=value, remedy=remedy)


def _check_scan(record: Scan, subject: str) -> None:
    if len(record.by) != 1:
        at = record.location_of("by")
        remedy = "by: {i: 1024}"
        found = ", ".join(record.by) or "no axis"
        raise errors.WrongShape(at=at, subject=f"{subject}.by", expected="one axis", found=found, example=remedy)
