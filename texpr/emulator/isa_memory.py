"""Loads, stores, address conversion, prefetches and cache policies.

Cache and eviction modifiers do not change values and are ignored.  Memory-order modifiers do not change values
either: programs run in one interleaving of whole instructions, which is sequentially consistent.  They tell the checks
what orders what (see `global_clocks.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import per_lane, source, store
from texpr.emulator.cluster_space import moved_to, rank_of
from texpr.emulator.effects import Effects, Memory
from texpr.emulator.faults import FaultKind
from texpr.emulator.generic_space import LOCAL_WINDOW, SHARED_WINDOW, WINDOW_BITS, WINDOWS
from texpr.emulator.ordering import ordering_of
from texpr.emulator.ptx import Address, Instruction, Operand, Symbol, Vector
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, ArrayFunction, Mask, Modifiers, Row, Step, family, special
from texpr.emulator.spaces import Space
from texpr.emulator.types import TYPES, UNSIGNED_OF_SIZE, Kind, ScalarType

_SPACES = ("global", "shared", "shared::cluster", "local", "const", "param")
ELEMENTS = {"": 1, "v2": 2, "v4": 4, "v8": 8}


def space_named(batch: Batch, name: str) -> Space:
    """The memory that a state-space word means."""
    match name:
        case "shared":
            return batch.shared_space
        case "shared::cluster":
            return batch.cluster_space
        case "local" | "param":
            return batch.local_space
        case "global" | "const":
            return batch.global_space
        case _:
            return batch.generic_space


def vector_items(operand: Operand, count: int) -> tuple[Operand, ...]:
    """The operands of a `{a, b}` list, or the single operand itself; there must be `count` of them."""
    items = operand.items if isinstance(operand, Vector) else (operand,)
    if len(items) != count:
        raise OperandError(f"{count} registers expected, {len(items)} given")
    return items


def address_source(batch: Batch, operand: Operand) -> Callable[[Array | None], Array]:
    """A function giving the addresses of the chosen lanes (as unsigned integers of the base register's width)."""
    if not isinstance(operand, Address):
        raise OperandError("an address expected")
    wide = not isinstance(operand.base, Symbol)
    scalar = TYPES["b64"]
    base_type = getattr(operand.base, "type", scalar)
    base = per_lane(batch, operand.base, UNSIGNED_OF_SIZE[base_type.bytes] if wide else scalar)
    offset = operand.offset

    def addresses(lanes: Array | None) -> Array:
        chosen = base if lanes is None else base[lanes]
        if offset == 0:
            return chosen
        # Wraps like the hardware's adder: offsets may be negative.
        moved: Array = chosen + np.array(offset % (1 << (8 * base.itemsize)), base.dtype)
        return moved

    return addresses


def _load(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    scalar = modifiers.type("type")
    count = ELEMENTS[modifiers.get("vec")]
    items = vector_items(instruction.operands[0], count)
    destinations = [batch.registers.destination(item, _storage(scalar)) for item in items]
    name = modifiers.pick("words", _SPACES, "generic")
    if name == "param" and _is_kernel_param(batch, instruction.operands[1]):
        return _load_param(batch, instruction, scalar, destinations)
    space = space_named(batch, name)
    addresses = address_source(batch, instruction.operands[1])
    dtype = _storage(scalar).dtype
    ordering = ordering_of(modifiers.bag("words"))
    space.declare_ordering(ordering)
    space.declare_access(scalar.bytes * count, stores=False)

    def run(mask: Mask) -> None:
        lanes = batch.active(mask)
        rows = space.load(instruction, lanes, addresses(lanes), scalar.bytes, count, ordering=ordering).view(dtype)
        _deliver(rows, lanes, destinations)

    return run


def _deliver(rows: Array, lanes: Array | None, destinations: list[Array | None]) -> None:
    """Write what was loaded, one row per lane and one column per register."""
    for number, destination in enumerate(destinations):
        if destination is None:
            continue
        if lanes is None:
            destination[...] = rows[:, number]
        else:
            destination[lanes] = rows[:, number]


def _is_kernel_param(batch: Batch, operand: Operand) -> bool:
    """Kernel parameters are the launch's; other `.param` variables pass arguments and are a thread's own."""
    return isinstance(operand, Address) and (
        not isinstance(operand.base, Symbol) or operand.base.name not in batch.local_space.symbols
    )


def _storage(scalar: ScalarType) -> ScalarType:
    """Floats move as plain bits, so that a half may be loaded into any wide enough register."""
    return scalar if scalar.kind is Kind.SIGNED else UNSIGNED_OF_SIZE[scalar.bytes]


def _load_param(
    batch: Batch, instruction: Instruction, scalar: ScalarType, destinations: list[Array | None]
) -> Step:
    address = instruction.operands[1]
    assert isinstance(address, Address)
    if not isinstance(address.base, Symbol):
        return _load_chosen_param(batch, instruction, scalar, destinations)
    start = int(source(batch, address.base, TYPES["b64"])) + address.offset
    end = start + scalar.bytes * len(destinations)
    if not 0 <= start <= end <= len(batch.params):
        raise OperandError("outside of the kernel's parameters")
    values = np.ascontiguousarray(batch.params[start:end])
    dtype = _storage(scalar).dtype

    def run(mask: Mask) -> None:
        values[:] = batch.params[start:end]
        for destination, value in zip(destinations, values.view(dtype), strict=True):
            if destination is not None:
                store(destination, value, mask)

    return run


def _load_chosen_param(
    batch: Batch, instruction: Instruction, scalar: ScalarType, destinations: list[Array | None]
) -> Step:
    """A parameter at a computed address: LLVM may choose between two parameters by choosing between their addresses."""
    addresses = address_source(batch, instruction.operands[1])
    size = scalar.bytes * len(destinations)
    dtype = _storage(scalar).dtype

    def run(mask: Mask) -> None:
        lanes = batch.active(mask)
        start = addresses(lanes).astype(np.int64)
        outside = (start < 0) | (start + size > len(batch.params))
        if outside.any():
            position = int(np.flatnonzero(outside)[0])
            message = f"{size} bytes at {int(start[position])} of {len(batch.params)} bytes of parameters"
            raise batch.fault(FaultKind.OUT_OF_BOUNDS, message, instruction, batch.lane_at(lanes, position))
        _deliver(batch.params[start[:, None] + np.arange(size)].view(dtype), lanes, destinations)

    return run


def _store(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    scalar = UNSIGNED_OF_SIZE[modifiers.type("type").bytes]
    count = ELEMENTS[modifiers.get("vec")]
    items = vector_items(instruction.operands[1], count)
    sources = [source(batch, item, scalar) for item in items]
    space = space_named(batch, modifiers.pick("words", _SPACES, "generic"))
    addresses = address_source(batch, instruction.operands[0])
    ordering = ordering_of(modifiers.bag("words"))
    space.declare_ordering(ordering)
    space.declare_access(scalar.bytes * count, stores=True)

    def run(mask: Mask) -> None:
        lanes = batch.active(mask)
        rows = np.empty((batch.lanes if lanes is None else len(lanes), count), scalar.dtype)
        for number, values in enumerate(sources):
            rows[:, number] = values if lanes is None or not values.ndim else values[lanes]
        space.store(instruction, lanes, addresses(lanes), rows, ordering=ordering)

    return run


def _prefetch(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Prefetching any address is harmless."""
    return lambda mask: None


def _convert_address(modifiers: Modifiers) -> ArrayFunction:
    """cvta: into the generic address space, or (.to) back."""
    window = np.uint64(WINDOWS[modifiers["space"].split("::")[0]])
    if "to" in modifiers:
        return lambda address: address - window
    return lambda address: address + window


def _map_address(modifiers: Modifiers) -> ArrayFunction:
    """mapa: the address of a shared variable in another program of the cluster."""
    return moved_to


def _rank_of_address(modifiers: Modifiers) -> ArrayFunction:
    """getctarank: which program of the cluster an address belongs to."""
    return lambda address: rank_of(address).astype(np.uint32)


def _policy(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """Cache policies are opaque; any value does."""
    destination = batch.registers.destination(instruction.operands[0], TYPES["b64"])

    def run(mask: Mask) -> None:
        if destination is not None:
            store(destination, 0, mask)

    return run


def _is_in_space(modifiers: Modifiers) -> ArrayFunction:
    """isspacep: whether a generic address lies in a space's window."""
    name = modifiers["space"].split("::")[0]
    window = np.uint64(WINDOWS[name] >> WINDOW_BITS)
    windows = [np.uint64(start >> WINDOW_BITS) for start in (SHARED_WINDOW, LOCAL_WINDOW)]
    if name == "global":
        return lambda address: ~np.isin(address >> np.uint64(WINDOW_BITS), windows)
    return lambda address: address >> np.uint64(WINDOW_BITS) == window


_READS, _WRITES = Effects(reads=(Memory.NAMED,)), Effects(writes=(Memory.NAMED,))
_WIDE = "v8|v4+b64|v4+u64|v4+s64|v4+f64: sm_100 ptx8.8"

ROWS: tuple[Row, ...] = (
    special("ld.words:MEMORY*.vec:(v2|v4|v8)?.type:VALUE", "any = address any?", _load, effects=_READS, since=_WIDE),
    special("ldu.words:MEMORY*.vec:(v2|v4)?.type:VALUE", "any = address", _load, effects=_READS),
    special("st.words:MEMORY*.vec:(v2|v4|v8)?.type:VALUE", "address any any?", _store, effects=_WRITES, since=_WIDE),
    family("cvta.to?.space:(global|shared|shared::cta|shared::cluster|local|param|const).u64", "u64 = u64",
           _convert_address, since="param: ptx7.7"),
    family("isspacep.space:(global|shared|shared::cta|shared::cluster|local)", "pred = u64", _is_in_space),
    special("prefetch.(global|local)?.(L1|L2|L2::evict_last|L2::evict_normal)", "address", _prefetch),
    special("prefetchu.L1", "address", _prefetch),
    special("applypriority.global?.L2::evict_normal", "address integer", _prefetch),
    special(
        "createpolicy.fractional.(L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged)"
        ".(L2::evict_unchanged|L2::evict_first)?.b64",
        "b64 = any?",
        _policy,
    ),
    special("createpolicy.range.global?.(L2::evict_last|L2::evict_normal|L2::evict_first|L2::evict_unchanged)"
            ".(L2::evict_unchanged|L2::evict_first)?.b64", "b64 = address u32 u32", _policy),
    special("createpolicy.cvt.L2.b64", "b64 = u64", _policy, since="ptx7.4"),
    family("mapa.space:shared::cluster?.type:(u32|u64)", "type = type u32", _map_address, since="sm_90 ptx7.8"),
    family("getctarank.space:shared::cluster?.type:(u32|u64)", "u32 = type", _rank_of_address, since="sm_90 ptx7.8"),
)
