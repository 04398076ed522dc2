"""A schedule with its defaults filled in by the directives that would say them: what the compiler decides, in its own
notation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from texpr.lang.ir import Algorithm, Func, Reduce
from texpr.plan.resolve import func_named, needed_definitions, written_out
from texpr.plan.scan_split import with_partials
from texpr.schedule.base import Map
from texpr.schedule.like import written_out_kernels
from texpr.schedule.places import Place, Stage
from texpr.schedule.records import Kernel, Schedule, Variant
from texpr.schedule.words import Copy, LoopOf, Tile

DEFAULT_WARPS = 4


def resolved_schedule(schedule: Schedule, algorithm_of: Callable[[Variant], Algorithm]) -> Schedule:
    """``schedule`` with the defaults of every kernel written out: warps, the position of every func that is kept, how
    far stages run ahead. What depends on types (the unit of a contraction) stays ``auto``. ``algorithm_of`` gives a
    binding that a variant is for: others may lack its funcs."""
    return dataclasses.replace(schedule, variants=tuple(_variant(v, algorithm_of(v)) for v in schedule.variants))


def _variant(variant: Variant, algorithm: Algorithm) -> Variant:
    variant = written_out_kernels(variant)
    split = with_partials(algorithm, variant)
    stored: set[Func] = set()
    kernels = []
    for record in variant.kernels:
        kernels.append(_kernel(record, split, frozenset(stored)))
        stored.update(func_named(split, name, "writes", record.location) for name in record.writes)
    return dataclasses.replace(variant, kernels=tuple(kernels))


def _kernel(record: Kernel, algorithm: Algorithm, stored: frozenset[Func]) -> Kernel:
    if record.extern is not None:
        return dataclasses.replace(record, warps=record.warps or DEFAULT_WARPS)
    writes = [func_named(algorithm, name, "writes", record.location) for name in record.writes]
    members = {name for group in (record.online, record.merge) if group is not None for name in group.funcs}
    places = {name: place if name in members else _place(place) for name, place in record.place.items()}
    if not record.split and not record.fuse:
        for definition in needed_definitions(algorithm, writes, stored, {}, record):
            kept = isinstance(definition.top, Reduce) and not written_out(definition, record)
            if kept and not any(func.name in places or func.name in members for func in definition.funcs):
                places[definition.name] = Place(at=Tile())
    stages = {name: _stage(stage) for name, stage in record.stage.items()}
    warps = None if record.roles else record.warps or DEFAULT_WARPS
    return dataclasses.replace(record, warps=warps, place=Map.of(places), stage=Map.of(stages))


def _place(place: Place) -> Place:
    return place if place.at is not None else dataclasses.replace(place, at=Tile())


def _stage(stage: Stage) -> Stage:
    if stage.copy is not Copy.SYNC and isinstance(stage.at, LoopOf) and stage.ahead is None:
        return dataclasses.replace(stage, ahead=stage.depth - 1)
    return stage
