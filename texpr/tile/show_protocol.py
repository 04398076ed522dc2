"""Synchronisation statements as text, for ``texpr show --stage tile`` and for messages."""

from __future__ import annotations

from typing import assert_never

from texpr.math.expr import TRUE, BoolExpr, IntExpr
from texpr.tile.protocol import (
    Advance,
    Arrive,
    ArriveCopies,
    CopyTensor,
    DotWait,
    Expect,
    FenceAsync,
    MeetCluster,
    Protocol,
    StoreTensor,
    WaitBarrier,
    WaitStores,
)


def protocol_text(item: Protocol) -> tuple[str, str, str]:
    """One statement, its note and its origin."""
    match item:
        case Expect(barrier=barrier, slot=slot, bytes=count, when=when):
            return f"expect {count} bytes on {barrier}[{slot}]{_where(when)}", "", ""
        case CopyTensor(buffer=buffer, stage=stage, descriptor=descriptor, at=at, barrier=barrier, slot=slot):
            everywhere = " of all programs with this part" if item.multicast else ""
            target = f"{staged(buffer, stage)}, {barrier}[{slot}]{everywhere}{_where(item.when)}"
            return f"copy tensor {_box(descriptor, at)} -> {target}", "", item.origin
        case WaitBarrier(barrier=barrier, slot=slot, phase=phase, note=note):
            return f"wait {barrier}[{slot}] phase {phase}", note, ""
        case Arrive(barrier=barrier, slot=slot, when=when):
            return f"arrive {barrier}[{slot}]{_where(when)}", "", ""
        case ArriveCopies(barrier=barrier, slot=slot):
            return f"arrive {barrier}[{slot}] when copies have landed", "", ""
        case MeetCluster(note=note):
            return "meet the cluster", note, ""
        case StoreTensor(descriptor=descriptor, at=at, buffer=buffer, stage=stage, origin=origin):
            return f"store tensor {staged(buffer, stage)} -> {_box(descriptor, at)}", "", origin
        case WaitStores(pending=pending):
            return f"wait until {pending} tensor stores read shared memory", "", ""
        case FenceAsync(note=note):
            return "fence async", note, ""
        case DotWait(pending=pending, names=names):
            return f"wait until {pending} products are in flight: {', '.join(names)}", "", ""
        case Advance(name=name, by=by):
            return f"{name} += {by}", "", ""
        case _:
            assert_never(item)


def staged(buffer: str, stage: IntExpr | None) -> str:
    """A buffer, or one stage of it."""
    return buffer if stage is None else f"{buffer}[{stage}]"


def _box(descriptor: str, at: tuple[IntExpr, ...]) -> str:
    return f"{descriptor}[{', '.join(map(str, at))}]"


def _where(when: BoolExpr) -> str:
    return "" if when is TRUE else f" where {when}"
