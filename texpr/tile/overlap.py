"""A step of a group in which products overlap: what is done between the copies, waits and arrivals of a pipeline.

    lead            start the products that read staged tiles only, into accumulators of this step
    lag             start those whose operands the step before has made, into accumulators that go on
    await_leading   until the first ones have ended; the others stay in flight
    (the nodes of the body)
    (a wait)        until the lagging ones have ended
    close           what else the step does to their accumulators, and what becomes of the carried values

The first step of a loop has nothing to lag; after the last one its products are made up for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from texpr.tile.kernel import Block
from texpr.tile.scope import Scope


@dataclass(frozen=True, slots=True)
class Overlap:
    """The parts of a step. ``lag`` gets the scope in which stages hold the tiles of the step before; ``await_leading``
    is told whether lagging products were started after the leading ones. ``lagging`` are their accumulators."""

    lead: Callable[[Scope, Block], None]
    lag: Callable[[Scope, Block], None]
    await_leading: Callable[[bool, Block], None]
    lagging: tuple[str, ...]
    close: Callable[[Block], None]
