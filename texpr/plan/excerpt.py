"""What a planning error shows: the line of the schedule, and the loop nest that the schedule asks for with the node of
the mistake marked.

The nest is drawn from the kernel's record, so it exists however early planning failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from texpr.errors import Location
from texpr.plan.errors import PlanError
from texpr.schedule.base import Record
from texpr.schedule.nodes import Spot
from texpr.schedule.places import Place, Stage
from texpr.schedule.records import Kernel, Variant
from texpr.schedule.words import Copy, LoopOf, Position
from texpr.targets import Target

_MARK = "   <---"
_Line: TypeAlias = tuple[int, str, str, Record | None]  # depth, text, name, record


@contextmanager
def in_variant(variant: Variant, target: Target) -> Iterator[None]:
    """Add the variant and the line of the schedule to a ``PlanError`` raised inside, unless ``in_kernel`` has."""
    try:
        yield
    except PlanError as error:
        if not error.kernel:
            _locate(error, variant, target)
            error.excerpt = "\n".join(line for line in (excerpt_of(error.at), error.excerpt) if line)
        raise


@contextmanager
def in_kernel(record: Kernel, variant: Variant, target: Target) -> Iterator[None]:
    """Add kernel, place and loop nest to a ``PlanError`` raised inside."""
    try:
        yield
    except PlanError as error:
        error.kernel = record.name
        _locate(error, variant, target)
        lines = [excerpt_of(error.at), error.excerpt, nest_of(record, error)]
        error.excerpt = "\n".join(line for line in lines if line)
        raise


def _locate(error: PlanError, variant: Variant, target: Target) -> None:
    if error.at is not None and not error.at.context:
        error.at = dataclasses.replace(error.at, context=f"variant {variant.name}, {target}")


def excerpt_of(at: Location | None) -> str:
    """The line of the schedule, numbered; nothing if the file cannot be read."""
    return "" if at is None or not at.line else Spot(at).excerpt


def nest_of(record: Kernel, error: PlanError) -> str:
    """The loop nest of a kernel as its record spells it, one node a line, the node of the error marked."""
    nodes: list[_Line] = [(0, f"kernel {record.name}   writes {', '.join(record.writes)}", "", None)]
    sizes = [f"{axis}:{size}" for axis, size in (*record.grid.items(), *record.whole.items())]
    nodes.append((0, f"tile {' '.join(sizes) or 'all'}", "tile", None))
    depths = {name: _depth(place.at, record.place) for name, place in record.place.items()}
    for name, stage in record.stage.items():
        nodes.append((_depth(stage.at, record.place), _stage_line(name, stage), name, stage))
    for name, place in record.place.items():
        nodes.append((depths[name], _place_line(name, place), name, place))
    for name in record.writes:
        if name not in record.place:
            nodes.append((1, f"write {name}", name, None))
    marked = _marked(nodes, record, error)
    return "\n".join(
        "| " * depth + text + (_MARK if n == marked else "") for n, (depth, text, _, _) in enumerate(nodes)
    )


def _depth(position: Position | None, places: Mapping[str, Place]) -> int:
    depth = 1
    seen: set[str] = set()
    while isinstance(position, LoopOf) and position.func not in seen:
        depth += 1
        seen.add(position.func)
        outer = places.get(position.func)
        position = outer.at if outer is not None else None
    return depth


def _stage_line(name: str, stage: Stage) -> str:
    how = "" if stage.copy is Copy.SYNC else f"   {stage.copy.value}, depth {stage.depth}"
    return f"stage {name} at {stage.at} in {stage.where.value}{how}"


def _place_line(name: str, place: Place) -> str:
    parts = [name]
    if place.at is not None:
        parts.append(f"at {place.at}")
    if place.where is not None:
        parts.append(f"in {place.where.value}")
    if place.loop:
        parts.append("for " + ", ".join(f"{axis} by {step}" for axis, step in place.loop.items()))
    if place.unroll:
        parts.append(f"unroll {', '.join(place.unroll)}")
    if place.mma is not None:
        parts.append(f"mma {place.mma.op.value}")
    return "  ".join(parts)


def _marked(nodes: list[_Line], record: Kernel, error: PlanError) -> int:
    """The node that an error is about: the one written on its line, else the one it names, else the whole kernel.

    Of several nodes on one line the named one is meant.
    """
    named = [n for n, node in enumerate(nodes) if node[2] and node[2] in _subjects(error)]
    line = error.at.line if error.at is not None else 0
    here = [n for n, (_, _, _, own) in enumerate(nodes) if own is not None and _stands_on(own, line)]
    sizes = [number for key, number in record.key_lines if key in ("grid", "whole", "map")]
    sizes += [number for table in (record.grid, record.whole, record.map) for _, number in table.key_lines]
    if line in sizes:
        here = here or [1]
    both = [n for n in here if n in named]
    return next(iter([*both, *here, *named]), 1 if "axis" in error.fields else 0)


def _stands_on(record: Record, line: int) -> bool:
    if record.location is None or not line:
        return False
    return line == record.location.line or any(line == number for _, number in record.key_lines)


def _subjects(error: PlanError) -> set[str]:
    named = {str(error.fields[key]) for key in ("func", "name", "output") if key in error.fields}
    return named | {word.strip(",:") for word in str(error.fields.get("what", "")).split()}
