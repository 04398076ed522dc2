"""Branches, exits, barriers, and instructions that only order memory or hint at performance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.effects import Effects, Orders
from texpr.emulator.faults import FaultKind
from texpr.emulator.isa_warp import require_whole_warps
from texpr.emulator.ordering import ordering_of
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, ControlKind, Mask, Modifiers, Row, Step, control, special


def _nothing(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """No effect on values: programs run one instruction at a time, so memory is always in order."""
    return lambda mask: None


def _trap(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    def run(mask: Mask) -> None:
        lane = batch.lane_at(batch.active(mask), 0)
        raise batch.fault(FaultKind.TRAP, "the kernel executed trap", instruction, lane)

    return run


def _fence(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Memory is always in order; the checks take note of what the fence orders (membar is fence.sc)."""
    words = (modifiers.get("sem", "acq_rel" if modifiers["name"] == "fence" else "sc"), modifiers["scope"])
    ordering = ordering_of(words)
    batch.global_space.declare_fence(ordering)
    for_cluster = ordering.releases and modifiers["scope"] != "cta"

    def run(mask: Mask) -> None:
        lanes = batch.active(mask)
        if for_cluster:
            batch.cluster_barriers.fence(lanes)
        batch.global_space.fence(lanes, ordering)

    return run


def _arrive(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    releases = modifiers.get("order") != "relaxed"

    def run(mask: Mask) -> None:
        if "aligned" in modifiers:
            require_whole_warps(batch, instruction, mask)
        lanes = batch.alive.copy() if mask is None else mask
        batch.cluster_barriers.arrive(instruction, lanes, releases=releases)

    return run


def bind_cluster_wait(
    batch: Batch, instruction: Instruction, modifiers: Modifiers
) -> Callable[[Mask], Array]:
    """A function that gives those lanes of a mask which cannot go on yet."""

    def wait(mask: Mask) -> Array:
        if "aligned" in modifiers:
            require_whole_warps(batch, instruction, mask)
        lanes = np.flatnonzero(batch.alive if mask is None else mask)
        return batch.cluster_barriers.wait(instruction, lanes, acquires=True)

    return wait


_BARRIER = Effects(orders=(Orders.BARRIER,))
_CLUSTER = Effects(orders=(Orders.CLUSTER,))
_MEMORY = Effects(orders=(Orders.MEMORY,))

ROWS: tuple[Row, ...] = (
    control("bra.uni?", "label", ControlKind.BRANCH),
    control("brx.idx.uni?", "u32 label", ControlKind.TABLE_BRANCH),
    control("ret.uni?", "", ControlKind.EXIT),
    control("exit", "", ControlKind.EXIT),
    control("bar.cta?.sync", "u32 u32?", ControlKind.BARRIER,
            effects=_BARRIER, since="cta: ptx7.8"),
    control("barrier.cta?.sync.aligned?", "u32 u32?", ControlKind.BARRIER,
            effects=_BARRIER, since="cta: ptx7.8"),
    control("bar.cta?.action:arrive", "u32 u32", ControlKind.BARRIER,
            effects=_BARRIER, since="cta: ptx7.8"),
    control("barrier.cta?.action:arrive.aligned?", "u32 u32", ControlKind.BARRIER,
            effects=_BARRIER, since="cta: ptx7.8"),
    special("barrier.cluster.arrive.order:(release|relaxed)?.aligned?", "", _arrive,
            effects=_CLUSTER, since="sm_90 ptx7.8, release|relaxed: ptx8.0"),
    control("barrier.cluster.wait.acquire?.aligned?", "", ControlKind.CLUSTER_WAIT,
            effects=_CLUSTER, since="sm_90 ptx7.8, acquire: ptx8.0"),
    special("trap", "", _trap),
    special("brkpt", "", _trap),
    special("name:membar.scope:(cta|gl|sys)", "", _fence,
            effects=_MEMORY),
    special("name:fence.sem:(sc|acq_rel|acquire|release)?.scope:(cta|cluster|gpu|sys)", "", _fence,
            effects=_MEMORY, since="cluster: sm_90 ptx7.8, acquire|release: sm_90 ptx8.6"),
    special("fence.proxy.alias", "", _nothing,
            effects=_MEMORY, since="ptx7.5"),
    special("nanosleep.u32", "u32", _nothing),
    special("griddepcontrol.(wait|launch_dependents)", "", _nothing,
            since="sm_90 ptx7.8"),
    special("pmevent.mask?", "integer", _nothing),
)
