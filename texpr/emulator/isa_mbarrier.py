"""mbarrier.*: barriers in shared memory that count arrivals and bytes; see `mbarriers.py`.

The state that an arrival gives is the number of the phase.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import per_lane
from texpr.emulator.effects import Effects, Memory, Orders
from texpr.emulator.generic_space import SHARED_WINDOW
from texpr.emulator.isa_memory import address_source
from texpr.emulator.mbarriers import Promise
from texpr.emulator.ptx import Instruction, Operand
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, ControlKind, Mask, Modifiers, Row, Step, control, special
from texpr.emulator.types import PREDICATE, TYPES


def shared_addresses(batch: Batch, operand: Operand, *, generic: bool) -> Callable[[Array], Array]:
    """Addresses in shared memory of the chosen lanes; `generic` ones are taken out of their window first."""
    addresses = address_source(batch, operand)
    if not generic:
        return addresses
    return lambda lanes: addresses(lanes) - np.uint64(SHARED_WINDOW)


def _lanes(batch: Batch, mask: Mask) -> Array:
    return np.arange(batch.lanes) if mask is None else np.flatnonzero(mask)


def _object(batch: Batch, operand: Operand, modifiers: Modifiers) -> Callable[[Array], Array]:
    batch.shared_space.declare_async()
    return shared_addresses(batch, operand, generic="space" not in modifiers)


def _reaches_cluster(modifiers: Modifiers) -> bool:
    """Whether the address may be one of another program; a generic address says itself where it leads."""
    return modifiers.get("space") in ("", "shared::cluster")


def _init(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    addresses = _object(batch, instruction.operands[0], modifiers)
    counts = per_lane(batch, instruction.operands[1], TYPES["u32"])

    def run(mask: Mask) -> None:
        lanes = _lanes(batch, mask)
        batch.mbarriers.init(instruction, lanes, addresses(lanes), counts[lanes])

    return run


def _invalidate(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    addresses = _object(batch, instruction.operands[0], modifiers)

    def run(mask: Mask) -> None:
        lanes = _lanes(batch, mask)
        batch.mbarriers.invalidate(instruction, lanes, addresses(lanes))

    return run


def _arrive(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """arrive and arrive_drop, with a count or with bytes to expect."""
    to, at, *rest = instruction.operands
    state = batch.registers.destination(to, TYPES["b64"])
    addresses = _object(batch, at, modifiers)
    given = per_lane(batch, rest[0], TYPES["u32"]) if rest else np.ones(batch.lanes, np.uint32)
    expects = "expect_tx" in modifiers
    if expects and not rest:
        raise OperandError("the number of bytes to expect is missing")
    one = np.ones(batch.lanes, np.uint32)
    releases = modifiers.get("order") != "relaxed"
    drops = modifiers["action"] == "arrive_drop"
    cluster = _reaches_cluster(modifiers)
    if state is not None and modifiers.get("space") == "shared::cluster":
        raise OperandError("an arrival at shared::cluster gives no state (write _)")

    def run(mask: Mask) -> None:
        lanes = _lanes(batch, mask)
        phases = batch.mbarriers.arrive(
            instruction,
            lanes,
            addresses(lanes),
            (one if expects else given)[lanes],
            given[lanes] if expects else None,
            releases=releases,
            drops=drops,
            cluster=cluster,
        )
        if state is not None:
            state[lanes] = phases

    return run


def _expect(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """expect_tx, and complete_tx (which takes bytes away)."""
    addresses = _object(batch, instruction.operands[0], modifiers)
    count = per_lane(batch, instruction.operands[1], TYPES["u32"])
    none = np.zeros(batch.lanes, np.uint32)
    completes = modifiers["action"] == "complete_tx"
    cluster = _reaches_cluster(modifiers)

    def run(mask: Mask) -> None:
        lanes = _lanes(batch, mask)
        size = count[lanes].astype(np.int64)
        moved = -size if completes else size
        batch.mbarriers.arrive(
            instruction, lanes, addresses(lanes), none[lanes], moved, releases=False, cluster=cluster
        )

    return run


def _copies_arrive(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """cp.async.mbarrier.arrive: an arrival when the thread's copies have landed; without .noinc one that is extra."""
    addresses = _object(batch, instruction.operands[0], modifiers)
    extra = "noinc" not in modifiers

    def run(mask: Mask) -> None:
        lanes = _lanes(batch, mask)
        if not len(lanes):
            return
        stamps = batch.shared_space.stamps()
        for promise in batch.mbarriers.promise(instruction, lanes, addresses(lanes), extra=extra):
            land = batch.copies.landing(promise.lanes, stamps)

            def deliver(promise: Promise = promise, land: Callable[[], None] = land) -> None:
                land()
                batch.mbarriers.keep(promise)

            batch.bulk.issue_load(instruction, int(promise.lanes[0]), promise.barrier, deliver)

    return run


def bind_wait(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Callable[[Mask], Array]:
    """A function that asks for the lanes of a mask and gives the lanes that must wait on (try_wait) or none."""
    to, at, wanted = instruction.operands[:3]
    result = batch.registers.destination(to, PREDICATE)
    addresses = _object(batch, at, modifiers)
    parity = "parity" in modifiers
    values = per_lane(batch, wanted, TYPES["u32" if parity else "b64"])
    blocks = modifiers["action"] == "try_wait"
    acquires = modifiers.get("order") != "relaxed"

    def ask(mask: Mask) -> Array:
        lanes = _lanes(batch, mask)
        if not len(lanes):
            return lanes
        # try_wait may give up at any time: under a seed it sometimes does, and the program must ask again.
        gives_up = batch.bulk.random is not None and batch.bulk.random.random() < 0.25
        return batch.mbarriers.wait(
            instruction,
            lanes,
            addresses(lanes),
            values[lanes],
            result,
            parity=parity,
            blocks=blocks and not gives_up,
            acquires=acquires,
        )

    return ask


def _test(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    ask = bind_wait(batch, instruction, modifiers)

    def run(mask: Mask) -> None:
        ask(mask)

    return run


def _fence_init(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    return lambda mask: batch.mbarriers.make_visible(_lanes(batch, mask))


def _fence_async(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """fence.proxy.async orders the generic proxy before the async proxy, for shared or global memory or both."""
    space = modifiers.get("space")

    def run(mask: Mask) -> None:
        if (shadow := batch.shared_space.async_shadow) is not None:
            shadow.fence(mask, shared=space != "global", globally=space in ("", "global"))

    return run


_SPACE = "space:(shared|shared::cta|shared::cluster)?"
_ORDER = "order:(release|acquire|relaxed)?.(cta|cluster)?"

_OBJECT = Effects((Memory.NAMED,), (Memory.NAMED,))
_SIGNALS = Effects((Memory.NAMED,), (Memory.NAMED,), (Orders.MBARRIER,))

ROWS: tuple[Row, ...] = (
    special(f"mbarrier.init.{_SPACE}.b64", "address u32", _init,
            effects=_OBJECT),
    special(f"mbarrier.inval.{_SPACE}.b64", "address", _invalidate,
            effects=_OBJECT),
    special(f"mbarrier.action:(arrive|arrive_drop).expect_tx?.{_ORDER}.{_SPACE}.b64", "b64 = address u32?", _arrive,
            effects=_SIGNALS,
            since="expect_tx|relaxed|cluster|shared::cluster: sm_90 ptx8.0, relaxed: ptx8.6, release: ptx8.0"),
    special(f"mbarrier.action:(expect_tx|complete_tx).(relaxed)?.(cta|cluster)?.{_SPACE}.b64", "address u32", _expect,
            effects=_OBJECT,
            since="sm_90 ptx8.0"),
    special(f"mbarrier.action:test_wait.parity?.{_ORDER}.{_SPACE}.b64", "pred = address any", _test,
            effects=_SIGNALS,
            since="relaxed|cluster: sm_90 ptx8.0, relaxed: ptx8.6, acquire: ptx8.0, parity: ptx7.1"),
    control(f"mbarrier.action:try_wait.parity?.{_ORDER}.{_SPACE}.b64", "pred = address any u32?",
            ControlKind.MBARRIER_WAIT,
            effects=_SIGNALS,
            since="sm_90 ptx7.8, relaxed: ptx8.6, acquire: ptx8.0"),
    special(f"cp.async.mbarrier.arrive.noinc?.{_SPACE}.b64", "address", _copies_arrive,
            effects=Effects(orders=(Orders.MBARRIER, Orders.CP_ASYNC), late=True)),
    special("fence.proxy.async.space:(global|shared::cta|shared::cluster)?", "", _fence_async,
            effects=Effects(orders=(Orders.PROXIES,)), since="sm_90 ptx8.0"),
    special("fence.mbarrier_init.release.cluster", "", _fence_init,
            effects=Effects(orders=(Orders.PROXIES,)), since="sm_90 ptx8.0"),
)
