"""st.async: stores to shared memory of a program of the cluster that report to an mbarrier beside them.

They take effect some time later, as bulk copies do; those who wait for the mbarrier see them.
"""

from __future__ import annotations

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import source
from texpr.emulator.effects import Effects, Memory, Orders
from texpr.emulator.faults import FaultKind
from texpr.emulator.isa_mbarrier import shared_addresses
from texpr.emulator.isa_memory import ELEMENTS, address_source, vector_items
from texpr.emulator.mbarriers import Mbarrier
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.types import UNSIGNED_OF_SIZE


def _store(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """st.async [shared], value, [mbarrier]"""
    to, given, at = instruction.operands
    scalar = UNSIGNED_OF_SIZE[modifiers.type("type").bytes]
    count = ELEMENTS[modifiers.get("vec")]
    sources = [source(batch, item, scalar) for item in vector_items(given, count)]
    addresses = address_source(batch, to)
    barriers = shared_addresses(batch, at, generic=False)
    size = scalar.bytes * count
    batch.shared_space.declare_async()
    batch.shared_space.declare_access(size, stores=True)

    def run(mask: Mask) -> None:
        lanes = np.arange(batch.lanes) if mask is None else np.flatnonzero(mask)
        rows = np.empty((len(lanes), count), scalar.dtype)
        for number, values in enumerate(sources):
            rows[:, number] = values[lanes] if values.ndim else values
        where = addresses(lanes)
        for barrier, positions in batch.mbarriers.reported(instruction, lanes, barriers(lanes)):
            _issue(batch, instruction, lanes[positions], where[positions], rows[positions], barrier)

    return run


def _issue(batch: Batch, site: Instruction, lanes: Array, address: Array, rows: Array, barrier: Mbarrier) -> None:
    """Begin the stores of some lanes that report to one mbarrier."""
    space, size, lane = batch.shared_space, rows.itemsize * rows.shape[1], int(lanes[0])
    index = space.begin_report(site, lanes, address, size)
    elsewhere = np.flatnonzero(index // space.size != barrier.slot)
    if len(elsewhere):
        message = "an asynchronous store reports to an mbarrier of another program than it writes to"
        first = int(lanes[elsewhere[0]])
        raise batch.fault(FaultKind.BARRIER_MISUSE, message, site, first, buffer="shared memory")
    barrier.load = (site, lane, barrier.phase)

    def deliver() -> None:
        space.land_report(index, rows, barrier.slot, barrier.actor)
        barrier.load = (site, lane, barrier.phase)
        batch.mbarriers.complete_bytes(site, lane, barrier, len(lanes) * size)

    batch.bulk.issue_load(site, lane, barrier, deliver, "the program ends while this store is in flight")


ROWS: tuple[Row, ...] = (
    special(
        "st.async.weak?.shared::cluster.mbarrier::complete_tx::bytes.vec:(v2|v4)?"
        ".type:(b32|b64|u32|u64|s32|s64|f32|f64)",
        "address any address", _store,
        effects=Effects((), (Memory.SHARED,), (Orders.MBARRIER,), late=True), since="sm_90 ptx8.1",
    ),
)  # fmt: skip
