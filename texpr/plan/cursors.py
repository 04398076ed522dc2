"""``base: row``: a loop over a ragged axis in which every row of the tile has a cursor of its own.

    y[r] = sum over p of e(p, r),  off[r] <= p < off[r + 1]

becomes a sum over the number of a point in its group,

    y[r] = sum over p' of e(off[r] + p', r),  p' < off[r + 1] - off[r]

which is a loop like any other: its guard trims it to the longest group of the tile, and shorter ones are masked. The
new axis has the name of the old one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from texpr.dtypes import DType
from texpr.lang.ir import INDEX, Algorithm, Axis, AxisRef, Def, Expr, Op, OpName, Reduce, group_conditions
from texpr.lang.show import expr_text
from texpr.plan.errors import LoopAxisInvalid, NotLowered
from texpr.plan.inline import conjunction, conjuncts, substitute
from texpr.schedule.base import Map
from texpr.schedule.places import Place
from texpr.schedule.records import Kernel
from texpr.schedule.words import Base, TrimMode


def with_cursors(algorithm: Algorithm, record: Kernel) -> tuple[Algorithm, Kernel]:
    """The algorithm over positions in groups, and the kernel whose loops over them are trimmed. Raises
    ``LoopAxisInvalid`` and ``NotLowered``."""
    bases = [(name, axis, base) for name, place in record.place.items() for axis, base in place.base.items()]
    wanted = {(name, axis) for name, axis, base in bases if base is Base.ROW}
    if not wanted:
        return algorithm, record
    numbered: dict[Axis, Axis] = {}
    places: dict[str, Place] = dict(record.place.items())
    defs: list[Def] = []
    for definition in algorithm.defs:
        for name, axis_name in sorted(wanted):
            if any(func.name == name for func in definition.funcs):
                definition = _numbered(definition, name, axis_name, record, numbered)
                place = places[name]
                trim = {**dict(place.trim.items()), axis_name: place.trim.get(axis_name, TrimMode.MASK)}
                places[name] = dataclasses.replace(place, trim=Map(tuple(trim.items())))
        defs.append(definition)
    _check_alone(record, wanted)
    axes = (*algorithm.axes, *numbered.values())
    record = dataclasses.replace(record, place=Map(tuple(places.items())))
    return dataclasses.replace(algorithm, defs=tuple(defs), axes=axes), record


def _check_alone(record: Kernel, wanted: set[tuple[str, str]]) -> None:
    """All loops over the axis have cursors: it has one meaning in a kernel."""
    for name, place in record.place.items():
        for axis in place.loop:
            if (name, axis) not in wanted and any(axis == other for _, other in wanted):
                what = f"base: row of {axis} beside another loop over it, that of {name},"
                raise NotLowered(what=what, instead=f"base: row for {name} as well", at=place.location_of("loop"))


def _numbered(
    definition: Def, name: str, axis_name: str, record: Kernel, numbered: dict[Axis, Axis]
) -> Def:
    """A definition that reduces over the number of a point in its group."""
    place = record.place[name]
    at = place.location_of("base")
    top = definition.top
    reduced: Mapping[str, Axis] = {axis.name: axis for axis in top.axes} if isinstance(top, Reduce) else {}
    axis = reduced.get(axis_name)
    if axis is None or axis.ragged is None or not isinstance(top, Reduce):
        ragged = [other.name for other in reduced.values() if other.ragged is not None]
        why = f"{name} does not reduce over it" if axis is None else "it does not follow groups"
        hint = None if ragged else "leave base out"
        raise LoopAxisInvalid(func="base", axis=axis_name, why=why, choices=", ".join(ragged), at=at, hint=hint)
    number = numbered.setdefault(axis, Axis(axis.name, axis.extent))
    low, high = group_conditions(axis)
    assert isinstance(low, Op) and isinstance(high, Op)
    begin, end = low.args[1], high.args[1]
    position: Expr = Op(OpName.ADD, (begin, AxisRef(number)), INDEX)
    inside = Op(OpName.LT, (AxisRef(number), Op(OpName.SUB, (end, begin), INDEX)), DType.BOOL)
    implied = {expr_text(low), expr_text(high)}
    rest = [part for part in conjuncts(top.where) if expr_text(part) not in implied]
    moved = {axis: position}
    return dataclasses.replace(
        definition,
        top=dataclasses.replace(
            top,
            exprs=tuple(substitute(expr, moved) for expr in top.exprs),
            axes=tuple(number if other is axis else other for other in top.axes),
            where=conjunction([inside, *(substitute(part, moved) for part in rest)]),
        ),
    )
