"""What a role of a kernel does to shared memory and to its barriers, one event after the other.

``trace.py`` makes events of a tile program for given trip counts; ``sync.py`` decides whether roles that do these may
run side by side. A *slot* is one stage of a buffer, or one barrier of an array of them. In a cluster, every program has
roles, buffers and barriers with names of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Engine(Enum):
    """Who reads or writes shared memory. All but the threads go on after the instruction that started them."""

    THREADS = "threads"
    CP_ASYNC = "cp.async"
    TMA_LOAD = "TMA load"
    TMA_STORE = "TMA store"
    WGMMA = "wgmma"


ASYNC_PROXY = frozenset({Engine.TMA_LOAD, Engine.TMA_STORE, Engine.WGMMA})
"""Engines that see what threads wrote only after a proxy fence (PTX ISA, "Proxies")."""


@dataclass(frozen=True, slots=True)
class Use:
    """A read or write of one stage of a buffer. A TMA load reports its ``bytes`` to a slot of ``barrier``. The
    registers of an accumulator are a buffer of their own: products on it follow each other, no proxy is between."""

    buffer: str
    slot: int
    writes: bool
    engine: Engine = Engine.THREADS
    barrier: tuple[str, int] | None = None
    bytes: int = 0
    registers: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class EndGroup:
    """What the role has started on ``engine`` since the last such event is one group."""

    engine: Engine


@dataclass(frozen=True, slots=True)
class GroupsDone:
    """Wait until at most the last ``pending`` groups of ``engine`` are in flight."""

    engine: Engine
    pending: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Arrived:
    """``count`` arrivals at once, with ``bytes`` more to come in this phase. ``copies``: those of the role's threads,
    each of which counts only when its cp.async that came before have landed."""

    barrier: tuple[str, int]
    bytes: int = 0
    copies: bool = False
    count: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class PhaseDone:
    """Wait until the phase with this parity has completed: the phase before the current one has it."""

    barrier: tuple[str, int]
    parity: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fenced:
    """Writes by threads that the role knows of can be seen by the async proxy (fence.proxy.async)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The shared memory that holds these buffers and barriers is given back: a program of a cluster has ended."""

    names: frozenset[str]


Event = Use | EndGroup | GroupsDone | Arrived | PhaseDone | Fenced | Ended
