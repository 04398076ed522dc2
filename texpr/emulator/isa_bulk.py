"""cp.async.bulk: copies and reductions of contiguous bytes between global and shared memory, and their groups.

A lane that executes one of these issues one whole copy.  See `bulk_copies.py` for when it takes effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import per_lane
from texpr.emulator.cluster_space import moved_to, rank_of
from texpr.emulator.effects import Effects, Memory, Orders, Proxy
from texpr.emulator.faults import FaultKind
from texpr.emulator.isa_mbarrier import shared_addresses
from texpr.emulator.isa_memory import address_source
from texpr.emulator.mbarriers import Mbarrier
from texpr.emulator.memory import Part
from texpr.emulator.ptx import Instruction, Integer, Operand
from texpr.emulator.reductions import reduce_global
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.types import TYPES

PIECE = 16
"""Bulk copies move multiples of 16 aligned bytes."""


def declare(batch: Batch, piece: int) -> None:
    """The kernel has bulk copies, whose pieces in global memory have so many bytes or more."""
    batch.shared_space.declare_async()
    batch.global_space.declare_access(piece, stores=False)
    batch.bulk.in_use = True


def each_lane(batch: Batch, mask: Mask) -> list[int]:
    """The executing lanes one by one."""
    return [int(lane) for lane in (np.arange(batch.lanes) if mask is None else np.flatnonzero(mask))]


def fetch_global(batch: Batch, site: Instruction, lane: int, address: Array, size: int) -> Array:
    """Pieces of `size` bytes from global memory, as rows of bytes."""
    width = min(size, 8)
    lanes = np.full(len(address), lane)
    return batch.global_space.load(site, lanes, address, width, size // width, by_copy=True).view(np.uint8)


def put_global(batch: Batch, site: Instruction, lane: int, address: Array, octets: Array) -> None:
    """Write rows of bytes to pieces of global memory."""
    width = min(octets.shape[1], 8)
    rows = np.ascontiguousarray(octets).view(f"u{width}")
    batch.global_space.store(site, np.full(len(address), lane), address, rows, by_copy=True)


@dataclass(frozen=True, slots=True)
class Destination:
    """Pieces of shared memory into which a copy writes, and the mbarrier to which it reports that."""

    shared: Array
    barrier: Mbarrier


def bind_destinations(
    batch: Batch, instruction: Instruction, modifiers: Modifiers, at: Operand, mask: Operand | None
) -> Callable[[int, Array], list[Destination]]:
    """A function that says where a copy goes, given the issuing lane and the pieces as the instruction names them:
    there, or, for a multicast, to the same places of all programs of the cluster whose bits are set in `mask`.
    """
    barriers = shared_addresses(batch, at, generic=False)
    cluster = modifiers["to"] == "shared::cluster"
    if mask is None:

        def alone(lane: int, shared: Array) -> list[Destination]:
            barrier = batch.mbarriers.find(instruction, lane, barriers(np.array([lane])), cluster=cluster)
            if shared.size and int(rank_of(shared[:1])[0]) != int(batch.rank[barrier.slot]):
                message = "a bulk copy reports to an mbarrier of another program than it writes to"
                raise batch.fault(FaultKind.BARRIER_MISUSE, message, instruction, lane, buffer="shared memory")
            return [Destination(shared, barrier)]

        return alone
    masks = per_lane(batch, mask, TYPES["u16"])
    size = batch.shape.cluster_size

    def everywhere(lane: int, shared: Array) -> list[Destination]:
        chosen = int(masks[lane])
        if not chosen or chosen >> size:
            message = f"a multicast to the programs in the mask 0x{chosen:x} of a cluster of {size}"
            raise batch.fault(FaultKind.OUT_OF_BOUNDS, message, instruction, lane, buffer="shared memory")
        found: list[Destination] = []
        for rank in range(size):
            if chosen >> rank & 1:
                there = np.array([rank])
                at = moved_to(barriers(np.array([lane])), there)
                barrier = batch.mbarriers.find(instruction, lane, at, cluster=True)
                found.append(Destination(moved_to(shared, there), barrier))
        return found

    return everywhere


def start_load(
    batch: Batch,
    site: Instruction,
    lane: int,
    destination: Destination,
    size: int,
    given: Array,
    fetch: Callable[[], Array],
) -> None:
    """Begin a copy into pieces of shared memory; `given` are the addresses of those that come from global memory, and
    `fetch` gives all bytes when they arrive.
    """
    shared, barrier = destination.shared, destination.barrier
    parts = _locate(batch, site, lane, given, size)
    tracker = batch.global_space.bulk
    read = None if tracker is None else tracker.begin_read(site, lane, parts, size)
    index, granules = batch.shared_space.region(site, lane, shared, size, "wrote", cluster=True)
    shadow = batch.shared_space.async_shadow
    if shadow is not None and granules is not None:
        shadow.begin_async_write(site, lane, granules)
    barrier.load = (site, lane, barrier.phase)

    def deliver() -> None:
        batch.shared_space.poke(index, size, fetch())
        if tracker is not None and read is not None:
            tracker.end_read(read)
        if shadow is not None and granules is not None:
            shadow.land(barrier.slot, barrier.actor, granules)
        barrier.load = (site, lane, barrier.phase)
        batch.mbarriers.complete_bytes(site, lane, barrier, len(shared) * size)

    leftover = "the program ends while this copy into its shared memory is in flight"
    batch.bulk.issue_load(site, lane, barrier, deliver, leftover)


def start_store(
    batch: Batch,
    site: Instruction,
    lane: int,
    shared: Array,
    size: int,
    given: Array,
    write: Callable[[Array], None],
    *,
    reduces: bool,
) -> None:
    """Begin a copy out of pieces of shared memory; `given` are the addresses that it changes, `write` takes the
    bytes.
    """
    parts = _locate(batch, site, lane, given, size)
    index, granules = batch.shared_space.region(site, lane, shared, size, "read")
    shadow = batch.shared_space.async_shadow
    if shadow is not None and granules is not None:
        shadow.begin_async_read(site, lane, granules)
    tracker = batch.global_space.bulk
    target = None if tracker is None else tracker.begin_write(site, lane, parts, size, reduces=reduces)
    batch.bulk.issue_store(site, lane, granules, target, lambda: batch.shared_space.peek(index, size), write)


def _locate(batch: Batch, site: Instruction, lane: int, address: Array, size: int) -> list[Part]:
    """Where pieces of global memory lie; a copy that reaches outside is found out when it is issued."""
    return batch.global_space.locate(site, np.full(len(address), lane), address, size) if len(address) else []


def _range(batch: Batch, site: Instruction, lane: int, start: int, size: int) -> Array:
    """The pieces of a contiguous range."""
    if size % PIECE or size <= 0:
        message = f"a bulk copy of {size} bytes, which is not a positive multiple of {PIECE}"
        raise batch.fault(FaultKind.MISALIGNED, message, site, lane)
    return np.asarray(np.uint64(start) + np.arange(0, size, PIECE, dtype=np.uint64))


def _load(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """cp.async.bulk.shared.global [shared], [global], size, [mbarrier], programs"""
    to, given, size_operand, at = instruction.operands[:4]
    several = instruction.operands[4] if "several" in modifiers else None
    declare(batch, PIECE)
    shared = shared_addresses(batch, to, generic=False)
    addresses = address_source(batch, given)
    sizes = per_lane(batch, size_operand, TYPES["u32"])
    destinations = bind_destinations(batch, instruction, modifiers, at, several)

    def run(mask: Mask) -> None:
        for lane in each_lane(batch, mask):
            one = np.array([lane])
            size = int(sizes[lane])
            source = _range(batch, instruction, lane, int(addresses(one)[0]), size)
            pieces = _range(batch, instruction, lane, int(shared(one)[0]), size)

            def fetch(lane: int = lane, source: Array = source) -> Array:
                return fetch_global(batch, instruction, lane, source, PIECE)

            for destination in destinations(lane, pieces):
                start_load(batch, instruction, lane, destination, PIECE, source, fetch)

    return run


def _store(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """cp.async.bulk.global.shared::cta [global], [shared], size, and cp.reduce.async.bulk"""
    to, given, size_operand = instruction.operands[:3]
    declare(batch, PIECE)
    shared = shared_addresses(batch, given, generic=False)
    addresses = address_source(batch, to)
    sizes = per_lane(batch, size_operand, TYPES["u32"])
    operation = modifiers.get("op")
    if not operation:
        batch.global_space.declare_access(PIECE, stores=True)

    def run(mask: Mask) -> None:
        for lane in each_lane(batch, mask):
            one = np.array([lane])
            size = int(sizes[lane])
            target = _range(batch, instruction, lane, int(addresses(one)[0]), size)
            pieces = _range(batch, instruction, lane, int(shared(one)[0]), size)

            def write(octets: Array, lane: int = lane, target: Array = target) -> None:
                if operation:
                    reduce_global(batch, instruction, lane, target, octets, operation, modifiers["type"])
                else:
                    put_global(batch, instruction, lane, target, octets)

            start_store(batch, instruction, lane, pieces, PIECE, target, write, reduces=bool(operation))

    return run


def _commit(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    return batch.bulk.commit


def _wait(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    operand = instruction.operands[0]
    if not isinstance(operand, Integer):
        raise OperandError("wait_group needs a constant")
    allowed, reading_only = operand.value, "read" in modifiers
    return lambda mask: batch.bulk.wait(mask, allowed, reading_only=reading_only)


def nothing(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Prefetches change no values."""
    return lambda mask: None


TO_SHARED = "to:(shared::cta|shared::cluster)"
MULTICAST = "several:(multicast::cluster)?"
HINT = "L2::cache_hint?"
REPORT = "mbarrier::complete_tx::bytes"
_BITWISE = "op:(and|or|xor).type:(b32|b64)"
_ARITHMETIC = "op:(add|inc|dec|min|max).type:(u32|s32|u64|s64)"
_FLOAT_ADD = "op:add.noftz?.type:(f16|bf16|f32|f64)"
_FLOAT_LIMIT = "op:(min|max).type:(f16|bf16)"

SINCE = "sm_90 ptx8.0"
LOADS = Effects((Memory.GLOBAL,), (Memory.SHARED,), (Orders.MBARRIER,), Proxy.ASYNC, late=True)
STORES = Effects((Memory.SHARED,), (Memory.GLOBAL,), proxy=Proxy.ASYNC, late=True)
REDUCES = Effects((Memory.SHARED, Memory.GLOBAL), (Memory.GLOBAL,), proxy=Proxy.ASYNC, late=True)
_GROUPS = Effects(orders=(Orders.BULK,))

ROWS: tuple[Row, ...] = (
    special(f"cp.async.bulk.{TO_SHARED}.global.{REPORT}.{MULTICAST}.{HINT}", "address address u32 address any? any?",
            _load,
            effects=LOADS, since="sm_90 ptx8.0, cp+shared::cta: ptx8.6"),
    special(f"cp.async.bulk.global.shared::cta.bulk_group.{HINT}", "address address u32 any?", _store,
            effects=STORES, since=SINCE),
    *(
        special(f"cp.reduce.async.bulk.global.shared::cta.bulk_group.{HINT}.{what}", "address address u32 any?", _store,
            effects=REDUCES, since=f"{SINCE}, noftz+f32: ptx9.4")
        for what in (_BITWISE, _ARITHMETIC, _FLOAT_ADD, _FLOAT_LIMIT)
    ),
    special(f"cp.async.bulk.prefetch.L2.global.{HINT}", "address u32 any?", nothing,
            since=SINCE),
    special("cp.async.bulk.commit_group", "", _commit,
            effects=_GROUPS, since=SINCE),
    special("cp.async.bulk.wait_group.read?", "integer", _wait,
            effects=_GROUPS, since=SINCE),
)
