"""cp.async.bulk.tensor: copies and reductions of boxes of a tensor, and the tensor maps that describe them.

A tensor map is read when a copy is issued, from kernel parameters or from global memory.  Maps that a kernel builds
itself are changed in shared memory field by field (`tensormap.replace`) and then copied to global memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import per_lane
from texpr.emulator.effects import Effects, Memory, Orders
from texpr.emulator.faults import FaultKind
from texpr.emulator.floats import FORMATS
from texpr.emulator.isa_bulk import (
    HINT,
    LOADS,
    MULTICAST,
    REDUCES,
    REPORT,
    SINCE,
    STORES,
    TO_SHARED,
    bind_destinations,
    declare,
    each_lane,
    fetch_global,
    nothing,
    put_global,
    start_load,
    start_store,
)
from texpr.emulator.isa_mbarrier import shared_addresses
from texpr.emulator.isa_memory import address_source
from texpr.emulator.memory import FIRST_ADDRESS
from texpr.emulator.ordering import RELAXED
from texpr.emulator.ptx import Address, Instruction, Integer, Operand, Vector
from texpr.emulator.reductions import reduce_global
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.tensor_maps import (
    MAGIC,
    MAGIC_AT,
    TENSOR_MAP_BYTES,
    Pieces,
    TensorMap,
    TensorMapError,
    cut_box,
    decode,
)
from texpr.emulator.types import TYPES

_SHARED_ALIGNMENT = 128
_MAP_ALIGNMENT = 64


class TensorBox:
    """The `[map, {coordinates}]` operand of a copy."""

    def __init__(self, batch: Batch, instruction: Instruction, operand: Operand, rank: int) -> None:
        if not isinstance(operand, Address) or not operand.extra or not isinstance(operand.extra[0], Vector):
            raise OperandError("a tensor map with coordinates expected: [map, {x, y}]")
        self._batch = batch
        self._site = instruction
        self._rank = rank
        self._map = address_source(batch, operand)
        items = operand.extra[0].items
        if len(items) != rank:
            raise OperandError(f"{rank} coordinates expected, {len(items)} given")
        self._coordinates = [per_lane(batch, item, TYPES["s32"]) for item in items]

    def cut(self, lane: int, base: int) -> tuple[TensorMap, Pieces]:
        """The map and the pieces of the lane's box, which begins at shared address `base`."""
        batch, site = self._batch, self._site
        address = int(self._map(np.array([lane]))[0])
        if address % _MAP_ALIGNMENT:
            message = f"the tensor map at 0x{address:x} is not aligned to {_MAP_ALIGNMENT}"
            raise batch.fault(FaultKind.TENSOR_MAP, message, site, lane)
        if batch.bulk.maps is not None:
            batch.bulk.maps.require(site, lane, address)
        try:
            tensor = decode(read_map(batch, site, lane, address))
        except TensorMapError as error:
            raise batch.fault(FaultKind.TENSOR_MAP, str(error), site, lane) from None
        if tensor.rank != self._rank:
            message = f"a copy of {self._rank} dimensions with a tensor map of {tensor.rank}"
            raise batch.fault(FaultKind.TENSOR_MAP, message, site, lane)
        if base % _SHARED_ALIGNMENT:
            message = f"a tensor copy at shared address {base}, which is not a multiple of {_SHARED_ALIGNMENT}"
            raise batch.fault(FaultKind.MISALIGNED, message, site, lane, buffer="shared memory")
        return tensor, cut_box(tensor, [int(values[lane]) for values in self._coordinates], base)


def read_map(batch: Batch, site: Instruction, lane: int, address: int) -> bytes:
    """The 128 bytes at a generic address: parameters have small addresses, everything else is global memory."""
    if address + TENSOR_MAP_BYTES <= len(batch.params):
        return batch.params[address : address + TENSOR_MAP_BYTES].tobytes()
    if address < FIRST_ADDRESS:
        raise TensorMapError(f"0x{address:x} is neither a parameter nor in global memory")
    places = np.uint64(address) + np.arange(0, TENSOR_MAP_BYTES, 8, dtype=np.uint64)
    return fetch_global(batch, site, lane, places, 8).tobytes()


def _load(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Elements outside of the tensor arrive as zeros (or NaNs, if the map says so) and count as bytes all the same."""
    to, source, at = instruction.operands[:3]
    several = instruction.operands[3] if "several" in modifiers else None
    declare(batch, 1)
    box = TensorBox(batch, instruction, source, int(modifiers["rank"][0]))
    shared = shared_addresses(batch, to, generic=False)
    destinations = bind_destinations(batch, instruction, modifiers, at, several)

    def run(mask: Mask) -> None:
        for lane in each_lane(batch, mask):
            one = np.array([lane])
            tensor, pieces = box.cut(lane, int(shared(one)[0]))
            fetch = _fetcher(batch, instruction, lane, tensor, pieces)
            given = pieces.address[pieces.inside]
            for destination in destinations(lane, pieces.shared):
                start_load(batch, instruction, lane, destination, pieces.size, given, fetch)

    return run


def _fetcher(
    batch: Batch, instruction: Instruction, lane: int, tensor: TensorMap, pieces: Pieces
) -> Callable[[], Array]:
    def fetch() -> Array:
        octets = np.zeros((len(pieces.shared), pieces.size), np.uint8)
        if tensor.fill:
            nan = _nan(tensor)
            octets[:] = np.tile(nan, pieces.size // len(nan))
        if pieces.inside.any():
            inside = pieces.address[pieces.inside]
            octets[pieces.inside] = fetch_global(batch, instruction, lane, inside, pieces.size)
        return octets

    return fetch


def _nan(tensor: TensorMap) -> Array:
    if tensor.type_name == "f64":
        return np.array([0x7FFF_FFFF_FFFF_FFFF], np.uint64).view(np.uint8)
    form = FORMATS[tensor.type_name]
    return np.array([form.nan], form.storage).view(np.uint8)


def _store(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Elements outside of the tensor are not written."""
    target, given = instruction.operands[:2]
    declare(batch, 1)
    box = TensorBox(batch, instruction, target, int(modifiers["rank"][0]))
    shared = shared_addresses(batch, given, generic=False)
    operation = modifiers.get("op")
    batch.global_space.declare_access(1, stores=True)

    def run(mask: Mask) -> None:
        for lane in each_lane(batch, mask):
            tensor, pieces = box.cut(lane, int(shared(np.array([lane]))[0]))
            name = _reduced_type(batch, instruction, lane, tensor, operation) if operation else ""

            def write(octets: Array, lane: int = lane, pieces: Pieces = pieces, name: str = name) -> None:
                inside = pieces.inside
                if not inside.any():
                    return
                if name:
                    reduce_global(batch, instruction, lane, pieces.address[inside], octets[inside], operation, name)
                else:
                    put_global(batch, instruction, lane, pieces.address[inside], octets[inside])

            changed = pieces.address[pieces.inside]
            start_store(
                batch, instruction, lane, pieces.shared, pieces.size, changed, write, reduces=bool(operation)
            )

    return run


def _reduced_type(batch: Batch, instruction: Instruction, lane: int, tensor: TensorMap, operation: str) -> str:
    """The PTX type that a reduction works on, if the tensor's type has the operation."""
    name = "f32" if tensor.type_name == "tf32" else tensor.type_name
    integer = name[0] in "us"
    allowed = {
        "add": name in ("u32", "s32", "u64", "f16", "bf16", "f32", "f64"),
        "min": name in ("u32", "s32", "u64", "s64", "f16", "bf16"),
        "max": name in ("u32", "s32", "u64", "s64", "f16", "bf16"),
        "inc": name == "u32",
        "dec": name == "u32",
    }.get(operation, integer and tensor.element_bytes >= 4)
    if not allowed:
        message = f"a .{operation} reduction of .{name} elements does not exist"
        raise batch.fault(FaultKind.TENSOR_MAP, message, instruction, lane)
    return name


# Tensor maps that kernels build -----------------------------------------------------------------------------

_PLACES: dict[str, tuple[int, int, int, bool]] = {
    "global_address": (0, 8, 8, False),
    "rank": (29, 1, 4, False),
    "box_dim": (64, 2, 4, True),
    "global_dim": (8, 4, 4, True),
    "global_stride": (32, 8, 8, True),
    "element_stride": (74, 1, 4, True),
    "elemtype": (28, 1, 4, False),
    "interleave_layout": (31, 1, 4, False),
    "swizzle_mode": (30, 1, 4, False),
    "fill_mode": (79, 1, 4, False),
}
"""Fields of `tensormap.replace`: the byte in the map, bytes there, bytes of the operand, whether it has an ordinal."""

_DRIVER_TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 10, 8, 9, 11, 12)
"""The driver's enumerator of each element type of `tensormap.replace`."""


def _replace(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    field = modifiers["field"]
    start, width, size, has_ordinal = _PLACES[field]
    operands = list(instruction.operands)
    if len(operands) != (3 if has_ordinal else 2):
        raise OperandError(f"{3 if has_ordinal else 2} operands expected")
    if has_ordinal:
        ordinal = operands.pop(1)
        if not isinstance(ordinal, Integer) or not 0 <= ordinal.value < 5:
            raise OperandError("the ordinal must be a constant from 0 to 4")
        start += width * ordinal.value
    values = per_lane(batch, operands[1], TYPES[f"b{8 * size}"])
    in_shared = modifiers.get("space") == "shared::cta"
    addresses = address_source(batch, operands[0])
    space = batch.shared_space if in_shared else batch.global_space
    space.declare_access(1, stores=True)

    def run(mask: Mask) -> None:
        lanes = np.arange(batch.lanes) if mask is None else np.flatnonzero(mask)
        where = addresses(lanes)
        given = values[lanes].astype(np.uint64)
        if field == "elemtype":
            given = np.array(_DRIVER_TYPES, np.uint64)[np.minimum(given, len(_DRIVER_TYPES) - 1)]
        elif field == "global_dim":
            given = given - np.uint64(1)
        magic = np.tile(np.frombuffer(struct.pack("<I", MAGIC), np.uint8), (len(lanes), 1))
        for first, octets in ((start, given.view(np.uint8).reshape(-1, 8)[:, :width]), (MAGIC_AT, magic)):
            for number in range(octets.shape[1]):
                byte = np.ascontiguousarray(octets[:, number : number + 1])
                space.store(instruction, lanes, where + where.dtype.type(first + number), byte)
        if not in_shared and batch.bulk.maps is not None:
            for lane, place in zip(lanes.tolist(), where.tolist(), strict=True):
                batch.bulk.maps.publish(instruction, lane, place)

    return run


def _publish(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """tensormap.cp_fenceproxy: the warp copies a map from shared to global memory and publishes it."""
    to, given, size = instruction.operands
    if not isinstance(size, Integer) or size.value != TENSOR_MAP_BYTES:
        raise OperandError(f"the size must be {TENSOR_MAP_BYTES}")
    targets = address_source(batch, to)
    sources = address_source(batch, given)
    batch.shared_space.declare_access(8, stores=False)
    batch.global_space.declare_access(8, stores=True)

    def run(mask: Mask) -> None:
        for lane in each_lane(batch, mask)[::32]:
            one = np.array([lane])
            steps = np.arange(0, TENSOR_MAP_BYTES, 8, dtype=np.uint64)
            lanes = np.full(len(steps), lane)
            source = sources(one).astype(np.uint64) + steps
            rows = batch.shared_space.load(instruction, lanes, source, 8, 1)
            batch.global_space.store(instruction, lanes, targets(one) + steps, rows, ordering=RELAXED)
            if batch.bulk.maps is not None:
                batch.bulk.maps.publish(instruction, lane, int(targets(one)[0]))

    return run


def _acquire(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """fence.proxy.tensormap: a release needs nothing here, an acquire names the map."""
    if not instruction.operands or modifiers["order"] not in ("acquire", "acq_rel", "sc"):
        return lambda mask: None
    addresses = address_source(batch, instruction.operands[0])

    def run(mask: Mask) -> None:
        lanes = np.arange(batch.lanes) if mask is None else np.flatnonzero(mask)
        if batch.bulk.maps is not None:
            batch.bulk.maps.acquire(lanes, addresses(lanes))

    return run


_RANK = "rank:(1d|2d|3d|4d|5d)"
_ORDER = "order:(acquire|release|acq_rel|sc)"

ROWS: tuple[Row, ...] = (
    special(f"cp.async.bulk.tensor.{_RANK}.{TO_SHARED}.global.tile?.{REPORT}.{MULTICAST}.{HINT}",
            "address address address any? any?", _load,
            effects=LOADS, since="sm_90 ptx8.0, shared::cta: ptx8.6"),
    special(f"cp.async.bulk.tensor.{_RANK}.global.shared::cta.tile?.bulk_group.{HINT}", "address address any?", _store,
            effects=STORES, since=SINCE),
    special(
        f"cp.reduce.async.bulk.tensor.{_RANK}.global.shared::cta.op:(add|min|max|inc|dec|and|or|xor).tile?.bulk_group"
        f".{HINT}", "address address any?", _store,
            effects=REDUCES, since=SINCE),
    special(f"cp.async.bulk.prefetch.tensor.{_RANK}.L2.global.tile?.{HINT}", "address any?", nothing,
            since=SINCE),
    special("prefetch.(param|const)?.tensormap", "address", nothing,
            since=SINCE),
    special(f"tensormap.replace.tile.field:({'|'.join(_PLACES)}).space:(global|shared::cta)?.b1024.(b32|b64)?",
            "address any any?", _replace,
            effects=Effects(writes=(Memory.NAMED,)), since="sm_90a sm_100f sm_110f sm_120f ptx8.3"),
    special("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.(cta|cluster|gpu|sys).sync.aligned",
            "address address integer", _publish,
            effects=Effects((Memory.SHARED,), (Memory.GLOBAL,), (Orders.MEMORY,)), since="sm_90 ptx8.3"),
    special(f"fence.proxy.tensormap::generic.{_ORDER}.(cta|cluster|gpu|sys)", "address? integer?", _acquire,
            effects=Effects(orders=(Orders.MEMORY,)), since="sm_90 ptx8.3"),
)
