"""Which memory an instruction accesses, seen from its operands just before it runs; for counting.

Every access instruction gets one `Access` per kind of memory it may touch, and a function that adds the requests of
the executing lanes to it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

import numpy as np

from texpr.emulator.batch import WARP, Batch
from texpr.emulator.bind import per_lane
from texpr.emulator.counters import Channel, Level, Traffic, Way
from texpr.emulator.generic_space import LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BITS
from texpr.emulator.isa_bulk import each_lane
from texpr.emulator.isa_memory import ELEMENTS, address_source
from texpr.emulator.isa_tensor import TensorBox
from texpr.emulator.kernel import Operation
from texpr.emulator.ptx import Instruction, Integer
from texpr.emulator.requests import (
    SECTOR,
    GlobalRequests,
    SharedRequests,
    count_partial_sectors,
    count_sectors,
    count_wavefronts,
)
from texpr.emulator.rows import Array, Modifiers
from texpr.emulator.types import TYPES

Addresses = Callable[[Array | None], None]
"""Looks at the addresses of the given lanes (None: all) and counts what they ask for."""

_PATTERNS_KEPT = 1024
_SHARED_ROW = 128


_Requests = TypeVar("_Requests", GlobalRequests, SharedRequests)


def _relative(address: Array, unit: int) -> Array:
    """Addresses from the multiple of `unit` at or below the lowest, as 32-bit numbers if they fit."""
    start = int(address.min()) // unit * unit
    moved: Array = address - address.dtype.type(start)
    return moved if int(moved.max()) >> 32 else moved.astype(np.uint32)


class _Memory:
    """Remembers the counts of patterns of addresses, by their digests: the iterations of a loop repeat a few."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, ...]] = {}

    def find(self, lanes: Array | None, relative: Array, count: Callable[[], _Requests]) -> tuple[int, ...]:
        digest = blake2b(relative.data, digest_size=16, salt=b"all" if lanes is None else b"some")
        if lanes is not None:
            digest.update(lanes.astype(np.int32).data)
        key = digest.digest()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _PATTERNS_KEPT:
                self._known.clear()
            found = self._known[key] = count()
        return found


class Access:
    """The traffic of one instruction through one channel; grows until `clear`."""

    def __init__(self, batch: Batch, channel: Channel) -> None:
        self.channel = channel
        self._batch = batch
        self._memory = _Memory()
        self._all = np.arange(batch.lanes)
        self.clear()

    def clear(self) -> None:
        self._requests = self._accesses = self._bytes = 0
        self._unique = self._sectors = self._ideal_sectors = 0
        self._wavefronts = self._ideal_wavefronts = 0

    @property
    def traffic(self) -> Traffic:
        return Traffic(
            self._requests, self._accesses, self._bytes, self._unique, self._sectors, self._ideal_sectors,
            self._wavefronts, self._ideal_wavefronts,
        )  # fmt: skip

    def global_memory(self, lanes: Array | None, address: Array) -> None:
        """Each lane accesses `channel.width` bytes."""
        width = self.channel.width
        relative = _relative(address, SECTOR)
        chosen = self._all if lanes is None else lanes
        found = self._memory.find(lanes, relative, lambda: count_sectors(chosen // WARP, relative, width))
        self._add_global(len(address), len(address) * width, *found)

    def partial_reads(self, lanes: Array | None, address: Array, reads: Array) -> None:
        """Each lane reads its own number of bytes, at most `channel.width`."""
        chosen = self._all if lanes is None else lanes
        found = count_partial_sectors(chosen // WARP, address, reads)
        self._add_global(int(np.count_nonzero(reads)), int(reads.sum(dtype=np.int64)), *found)

    def bulk(self, size: int, sectors: int = 0) -> None:
        """One thread copies contiguous or boxed bytes, in so many sectors of global memory."""
        if self.channel.level is Level.GLOBAL:
            self._add_global(1, size, 1, size, sectors, -(-size // SECTOR))
            return
        self._requests += 1
        self._accesses += 1
        self._bytes += size

    def shared_memory(self, lanes: Array | None, address: Array, *, size: int, one_by_one: bool = False) -> None:
        """Each lane accesses `size` bytes (or gives the address of a row of so many)."""
        relative = _relative(address, _SHARED_ROW)
        chosen = self._all if lanes is None else lanes
        requests, wavefronts, ideal = self._memory.find(
            lanes, relative, lambda: count_wavefronts(chosen, relative, size, one_by_one=one_by_one)
        )
        self._requests += requests
        self._accesses += len(address)
        self._bytes += len(address) * size
        self._wavefronts += wavefronts
        self._ideal_wavefronts += ideal

    def local_memory(self, lanes: Array | None, count: int) -> None:
        chosen = self._all if lanes is None else lanes
        self._requests += len(np.unique(chosen // WARP))
        self._accesses += count
        self._bytes += count * self.channel.width

    def _add_global(self, accesses: int, size: int, requests: int, unique: int, sectors: int, ideal: int) -> None:
        self._requests += requests
        self._accesses += accesses
        self._bytes += size
        self._unique += unique
        self._sectors += sectors
        self._ideal_sectors += ideal


Found = list[tuple[Access, Addresses]]


def find_accesses(batch: Batch, operation: Operation) -> Found:
    """The accesses of an operation; none for instructions that leave memory alone, parameters and constants.

    Raises OperandError where binding the operation does.
    """
    instruction, modifiers = operation.instruction, operation.modifiers
    words = instruction.opcode.split(".")
    match words[0]:
        case "ld" | "ldu":
            return _plain(batch, instruction, modifiers, 1, Way.LOAD)
        case "st" if words[1] == "async":
            width = modifiers.type("type").bytes * ELEMENTS[modifiers.get("vec")]
            return _in_space(batch, instruction, 0, "shared", Way.STORE, width)
        case "st":
            return _plain(batch, instruction, modifiers, 0, Way.STORE)
        case "atom" | "red":
            return _atomic(batch, instruction, modifiers)
        case "ldmatrix":
            return _matrices(batch, instruction, modifiers, 1, Way.MATRIX_LOAD)
        case "stmatrix":
            return _matrices(batch, instruction, modifiers, 0, Way.MATRIX_STORE)
        case "cp":
            return _copies(batch, instruction, modifiers, words)
        case _:
            return []


def _plain(batch: Batch, instruction: Instruction, modifiers: Modifiers, operand: int, way: Way) -> Found:
    width = modifiers.type("type").bytes * ELEMENTS[modifiers.get("vec")]
    space = modifiers.pick("words", ("global", "shared", "local", "const", "param"), "generic")
    if space in ("const", "param"):
        return []
    return _in_space(batch, instruction, operand, space, way, width)


def _atomic(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Found:
    count = ELEMENTS[next((word for word in modifiers.bag("words") if word in ELEMENTS), "")]
    width = modifiers.type("type").bytes * count
    operand = 1 if modifiers["name"] == "atom" else 0
    space = modifiers.pick("words", ("global", "shared"), "generic")
    return _in_space(batch, instruction, operand, space, Way.ATOMIC, width)


def _in_space(batch: Batch, instruction: Instruction, operand: int, space: str, way: Way, width: int) -> Found:
    addresses = address_source(batch, instruction.operands[operand])
    one_by_one = way is Way.ATOMIC
    in_global = Access(batch, Channel(Level.GLOBAL, way, width))
    in_shared = Access(batch, Channel(Level.SHARED, way, width))
    in_local = Access(batch, Channel(Level.LOCAL, way, width))

    def look_shared(lanes: Array | None, address: Array) -> None:
        in_shared.shared_memory(lanes, address, size=width, one_by_one=one_by_one)

    match space:
        case "global":
            return [(in_global, lambda lanes: in_global.global_memory(lanes, addresses(lanes)))]
        case "shared":
            return [(in_shared, lambda lanes: look_shared(lanes, addresses(lanes)))]
        case "local":
            return [(in_local, lambda lanes: in_local.local_memory(lanes, len(addresses(lanes))))]

    def look(lanes: Array | None) -> None:
        """A generic address says itself which memory it means."""
        address = addresses(lanes)
        every = np.arange(batch.lanes) if lanes is None else lanes
        window = address >> np.uint64(WINDOW_BITS)
        shared, local = window == SHARED_WINDOW >> WINDOW_BITS, window == LOCAL_WINDOW >> WINDOW_BITS
        if shared.any():
            look_shared(every[shared], address[shared] - np.uint64(SHARED_WINDOW))
        if local.any():
            in_local.local_memory(every[local], int(np.count_nonzero(local)))
        rest = ~(shared | local)
        if rest.any():
            in_global.global_memory(every[rest], address[rest])

    return [(in_global, look), (in_shared, _seen_already), (in_local, _seen_already)]


def _seen_already(lanes: Array | None) -> None:
    """Another access of the same instruction has counted for this one."""


def _matrices(batch: Batch, instruction: Instruction, modifiers: Modifiers, operand: int, way: Way) -> Found:
    """The first 8 lanes per matrix give the addresses of rows of 16 bytes, which are served 8 at a time."""
    addresses = address_source(batch, instruction.operands[operand])
    count = int(modifiers["count"][1:])
    if ".m16n16." in instruction.opcode:
        count *= 2  # 16 rows each
    access = Access(batch, Channel(Level.SHARED, way, 4 * count))
    givers = np.flatnonzero(np.arange(batch.lanes) % WARP < 8 * count)

    def look(lanes: Array | None) -> None:
        chosen = givers if lanes is None else lanes[lanes % WARP < 8 * count]
        access.shared_memory(chosen, addresses(chosen), size=16)

    return [(access, look)]


def _copies(batch: Batch, instruction: Instruction, modifiers: Modifiers, words: list[str]) -> Found:
    if not {"commit_group", "wait_group", "wait_all", "mbarrier", "prefetch"}.isdisjoint(words):
        return []
    if "bulk" not in words:
        return _async_copy(batch, instruction, modifiers)
    spaces = [word.split("::")[0] for word in words if word.split("::")[0] in ("global", "shared")]
    way = Way.BULK_REDUCE if "reduce" in words else Way.BULK_STORE if spaces[0] == "global" else Way.BULK_LOAD
    return _bulk(batch, instruction, modifiers, "tensor" in words, way)


def _async_copy(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Found:
    to, given, size_operand, *rest = instruction.operands
    assert isinstance(size_operand, Integer)
    size = size_operand.value
    if "L2::cache_hint" in modifiers.bag("words"):
        rest = rest[:-1]
    to_addresses, from_addresses = address_source(batch, to), address_source(batch, given)
    reads = per_lane(batch, rest[0], TYPES["u32"]) if rest else None
    source = Access(batch, Channel(Level.GLOBAL, Way.COPY, size))
    target = Access(batch, Channel(Level.SHARED, Way.COPY, size))

    def read(lanes: Array | None) -> None:
        address = from_addresses(lanes)
        wanted = None if reads is None else reads if lanes is None else reads[lanes]
        if wanted is None or bool((wanted == size).all()):
            source.global_memory(lanes, address)
        elif wanted.any():
            source.partial_reads(lanes, address, np.minimum(wanted, size))

    def write(lanes: Array | None) -> None:
        target.shared_memory(lanes, to_addresses(lanes), size=size)

    return [(source, read), (target, write)]


def _bulk(batch: Batch, instruction: Instruction, modifiers: Modifiers, of_tensor: bool, way: Way) -> Found:
    """Copies that one thread starts: contiguous ranges, and boxes of tensors. One that goes to several programs of a
    cluster reads once and writes in each."""
    far = Access(batch, Channel(Level.GLOBAL, way, 0))
    near = Access(batch, Channel(Level.SHARED, way, 0))
    operand = 1 if way is Way.BULK_LOAD else 0
    several = instruction.operands[3 if of_tensor else 4] if "several" in modifiers else None
    masks = None if several is None else per_lane(batch, several, TYPES["u16"])

    def programs(lane: int) -> int:
        return 1 if masks is None else int(masks[lane]).bit_count()

    if of_tensor:
        box = TensorBox(batch, instruction, instruction.operands[operand], int(modifiers["rank"][0]))

        def look_box(lanes: Array | None) -> None:
            for lane in _each(batch, lanes):
                _, pieces = box.cut(lane, 0)
                touched = pieces.address[pieces.inside]
                if len(touched):
                    sectors = len(np.unique(touched // np.uint64(SECTOR)))
                    far.bulk(len(touched) * pieces.size, sectors)
                near.bulk(len(pieces.shared) * pieces.size * programs(lane))

        return [(far, look_box), (near, _seen_already)]
    addresses = address_source(batch, instruction.operands[operand])
    sizes = per_lane(batch, instruction.operands[2], TYPES["u32"])

    def look(lanes: Array | None) -> None:
        for lane in _each(batch, lanes):
            start, size = int(addresses(np.array([lane]))[0]), int(sizes[lane])
            if size:
                far.bulk(size, (start + size - 1) // SECTOR - start // SECTOR + 1)
                near.bulk(size * programs(lane))

    return [(far, look), (near, _seen_already)]


def _each(batch: Batch, lanes: Array | None) -> list[int]:
    return each_lane(batch, None) if lanes is None else [int(lane) for lane in lanes]
