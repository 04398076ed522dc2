"""Statements that tell apart who has written and who has read shared memory: mbarriers, tensor copies, proxy fences,
matrix products in flight.

A slot of :class:`~texpr.tile.declarations.Barriers` goes through phases 0, 1, 2, ...; a wait names a phase by its
parity, and returns at once if the phase before the current one has that parity: waiting with parity 1 on a barrier
that nobody has used yet does not block. Statements are executed once by the program, or by the role they stand in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from texpr.math.expr import TRUE, BoolExpr, IntExpr

WARP_THREADS = 32


@dataclass(frozen=True, slots=True)
class Expect:
    """One arrival at a slot, and ``bytes`` more to land before its current phase completes; nothing unless ``when``."""

    barrier: str
    slot: IntExpr
    bytes: int
    when: BoolExpr = TRUE


@dataclass(frozen=True, slots=True)
class CopyTensor:
    """Start copying a box of a tensor, its first element at ``at`` (elements, may be outside), into one stage of a
    buffer, unless ``when`` is false. The bytes of the whole box, zeros for what is outside of the tensor included,
    count for the current phase of the barrier's slot. Done by the asynchronous proxy.

    With ``multicast``, programs of a cluster that have the same part of the buffer get it from the first of them, which
    writes to the memory of all, and reports to the slot of each."""

    buffer: str
    stage: IntExpr | None
    descriptor: str
    at: tuple[IntExpr, ...]
    barrier: str
    slot: IntExpr
    when: BoolExpr = TRUE
    origin: str = ""
    multicast: bool = False


@dataclass(frozen=True, slots=True)
class WaitBarrier:
    """Until the phase of this parity (0 or 1) of a slot has completed: what landed in it, and what was done before its
    arrivals, is visible. Programs that arrive at the slot of another one do not wait for it."""

    barrier: str
    slot: IntExpr
    phase: IntExpr
    note: str = ""


@dataclass(frozen=True, slots=True)
class Arrive:
    """One arrival at a slot by all of the role that executes it, after what it did before; nothing unless ``when``."""

    barrier: str
    slot: IntExpr
    when: BoolExpr = TRUE


@dataclass(frozen=True, slots=True)
class ArriveCopies:
    """Every thread of the role that executes it arrives at a slot, each when its asynchronous copies (cp.async) that
    came before have landed: 32 arrivals per warp, all counted by the barrier."""

    barrier: str
    slot: IntExpr


@dataclass(frozen=True, slots=True)
class MeetCluster:
    """Until all programs of the cluster have come here; what they did before is visible to all."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class StoreTensor:
    """Start copying a stage of a buffer to a box of a tensor, its first element at ``at``; elements outside of the
    tensor are dropped. Forms a group of its own. Done by the asynchronous proxy."""

    descriptor: str
    at: tuple[IntExpr, ...]
    buffer: str
    stage: IntExpr | None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class WaitStores:
    """Until at most ``pending`` groups of tensor stores still read shared memory."""

    pending: int


@dataclass(frozen=True, slots=True)
class FenceAsync:
    """What this role wrote to shared memory by ordinary stores becomes visible to the asynchronous proxy."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class DotWait:
    """Until at most ``pending`` asynchronous products are in flight. ``names`` are the accumulators that have their
    values afterwards, in the order in which their products were started."""

    pending: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advance:
    """``name`` grows by ``by``: an integer that loops carry, introduced by ``Scalar(name, 0)``, never negative."""

    name: str
    by: IntExpr


Protocol = (
    Expect
    | CopyTensor
    | WaitBarrier
    | Arrive
    | ArriveCopies
    | MeetCluster
    | StoreTensor
    | WaitStores
    | FenceAsync
    | DotWait
    | Advance
)


def integers_of(item: Protocol) -> tuple[IntExpr | BoolExpr, ...]:
    """The integer expressions and conditions that a statement evaluates."""
    match item:
        case Expect(slot=slot, when=when) | Arrive(slot=slot, when=when):
            return (slot, when)
        case CopyTensor(stage=stage, at=at, slot=slot, when=when):
            return (*at, slot, when, *([] if stage is None else [stage]))
        case WaitBarrier(slot=slot, phase=phase):
            return (slot, phase)
        case ArriveCopies(slot=slot):
            return (slot,)
        case StoreTensor(at=at, stage=stage):
            return at if stage is None else (*at, stage)
        case Advance(by=by):
            return (by,)
        case WaitStores() | FenceAsync() | DotWait() | MeetCluster():
            return ()
        case _:
            assert_never(item)
