"""The Python spelling of schedules: one function per record, the same keys and the same checks as in YAML.

    from texpr.schedule import kernel, mma, place, schedule, stage, variant

    dense = schedule(
        "dense",
        variant("wide", target=["sm_80", "sm_90a"], when="M >= 128 and aligned(x, w, y, 16)", kernels=[
            kernel("dense", writes=["y"], grid=dict(i=128, j=128), order=dict(group="i", by=8), warps=4,
                place=dict(acc=place(at="tile", loop=dict(k=32), mma=mma(rows="i", cols="j"))),
                stage=dict(x=stage(at="acc.k", in_="shared", depth=3, copy="async"),
                           w=stage(at="acc.k", in_="shared", depth=3, copy="async"))),
        ]),
    )

Keys that are Python words take an underscore: ``in_``, ``with_``. Nested mappings may be dicts or these calls; a
call has its own place in messages. A key whose value is None is not given. Reuse is functions from records to
records: :func:`edit` and :func:`each_kernel`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from texpr.errors import Location
from texpr.schedule.base import Record
from texpr.schedule.decode import decode, decode_keys
from texpr.schedule.errors import ScheduleError
from texpr.schedule.nodes import Fields, Spot, from_python
from texpr.schedule.places import Group, Mma, Place, SplitReduction, Stage
from texpr.schedule.records import Kernel, Schedule, Split, Variant
from texpr.schedule.rules import check_record
from texpr.schedule.schema import KEYS, title_of

R = TypeVar("R", bound=Record)
Keyed = TypeVar("Keyed", Schedule, Variant, Kernel, Place, Stage, Mma, Split, SplitReduction, Group)


def schedule(algorithm: str, *variants: Variant) -> Schedule:
    """A schedule of the named algorithm: variants in the order in which they are tried."""
    return _make(Schedule, {"texpr": 1, "algorithm": algorithm, "variants": variants})


def variant(name: str, **directives: object) -> Variant:
    """One way to compute the algorithm; see ``Variant`` for the keys."""
    return _make(Variant, {"name": name, **directives})


def kernel(name: str, **directives: object) -> Kernel:
    """One launch; see ``Kernel`` for the keys."""
    return _make(Kernel, {"name": name, **directives})


def place(**directives: object) -> Place:
    """Where a func is computed; see ``Place`` for the keys (``in_`` and ``with_`` for ``in`` and ``with``)."""
    return _make(Place, directives)


def stage(**directives: object) -> Stage:
    """A tile held close by; see ``Stage`` for the keys (``in_`` for ``in``)."""
    return _make(Stage, directives)


def mma(op: str = "auto", **directives: object) -> Mma:
    """How a contraction is multiplied; see ``Mma`` for the keys."""
    return _make(Mma, {"op": op, **directives})


def edit(record: Keyed, **directives: object) -> Keyed:
    """The record with some directives changed, each as it would be spelled in a call; None takes one back to its
    default.

    Directives that are not named keep their places; the record and what is changed get the place of this call.
    """
    location = _caller()
    kind = type(record)
    node = from_python(directives, location)
    assert isinstance(node, Fields)
    cleared = {name.removesuffix("_") for name, value in directives.items() if value is None}
    defaults = {key.field: key.default for key in KEYS[kind] if key.name in cleared and not key.required}
    with _excerpts():
        values: dict[str, Any] = {**defaults, **decode_keys(node, kind)}
        changed = dataclasses.replace(record, location=location, key_lines=(), **values)
        check_record(changed, title_of(kind))
    return changed


def each_kernel(schedule: Schedule, change: Callable[[Kernel], Kernel]) -> Schedule:
    """The schedule with ``change`` applied to every kernel of every variant."""
    return dataclasses.replace(
        schedule,
        variants=tuple(
            dataclasses.replace(variant, kernels=tuple(change(kernel) for kernel in variant.kernels))
            for variant in schedule.variants
        ),
    )


def _make(kind: type[R], directives: Mapping[str, object]) -> R:
    with _excerpts():
        return decode(from_python(directives, _caller()), kind)


def _caller() -> Location:
    """The innermost line outside this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno)


@contextmanager
def _excerpts() -> Iterator[None]:
    """Adds the line of the Python call to an error that has no excerpt yet."""
    try:
        yield
    except ScheduleError as error:
        if not error.excerpt and error.at is not None:
            error.excerpt = Spot(error.at).excerpt
        raise
