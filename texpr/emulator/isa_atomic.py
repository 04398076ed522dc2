"""atom and red: read-modify-write of global and shared memory.

Lanes of one instruction that hit the same address are served in lane order, each seeing the one before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import per_lane
from texpr.emulator.effects import Effects, Memory
from texpr.emulator.floats import FORMATS, bf16_bits
from texpr.emulator.isa_memory import ELEMENTS, address_source, space_named, vector_items
from texpr.emulator.ordering import ordering_of
from texpr.emulator.ptx import Instruction, Operand
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.types import TYPES, Kind, ScalarType

Update = Callable[[Array, Array, Array | None], Array]
"""(old, operand, second operand) -> new."""

_OPERATIONS = ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")


def _increment(old: Array, limit: Array, _: Array | None) -> Array:
    return np.asarray(np.where(old >= limit, old.dtype.type(0), old + old.dtype.type(1)))


def _decrement(old: Array, limit: Array, _: Array | None) -> Array:
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


def _compare_and_swap(old: Array, expected: Array, new: Array | None) -> Array:
    assert new is not None
    return np.where(old == expected, new, old)


def _ordinary(function: np.ufunc) -> Update:
    def update(old: Array, operand: Array, _: Array | None) -> Array:
        result: Array = function(old, operand)
        return result

    return update


def _add_bfloat(old: Array, operand: Array, _: Array | None) -> Array:
    decode = FORMATS["bf16"].decode
    return bf16_bits(decode(old) + decode(operand))


_UFUNCS: dict[str, np.ufunc] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_UPDATES: dict[str, Update] = {
    **{name: _ordinary(function) for name, function in _UFUNCS.items()},
    "exch": lambda old, operand, _: operand,
    "cas": _compare_and_swap,
    "inc": _increment,
    "dec": _decrement,
}


def _order_of_arrival(index: Array) -> Array:
    """For each access, how many earlier lanes hit the same cell."""
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    starts = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    first = np.maximum.accumulate(np.where(starts, np.arange(len(index)), 0))
    rank = np.empty(len(index), np.int64)
    rank[order] = np.arange(len(index)) - first
    return rank


def apply_in_order(cells: Array, index: Array, update: Update, operand: Array, second: Array | None) -> Array:
    """Update `cells[index]` lane after lane; gives the value each lane found."""
    rank = _order_of_arrival(index)
    found = np.empty(len(index), cells.dtype)
    for turn in range(int(rank.max()) + 1):
        now = np.flatnonzero(rank == turn)
        old = cells[index[now]]
        found[now] = old
        cells[index[now]] = update(old, operand[now], None if second is None else second[now])
    return found


def _running_sums(cells: Array, index: Array, operand: Array) -> Array:
    """Integer atomic add: the value each lane finds is the cell plus the operands of the lanes before it."""
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    starts = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    total = np.cumsum(operand[order], dtype=operand.dtype)
    before = total - operand[order]
    base = before[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    found = np.empty(len(index), cells.dtype)
    found[order] = cells[ordered] + (before - base)
    np.add.at(cells, index, operand)
    return found


def _element(scalar: ScalarType) -> ScalarType:
    """Packed pairs are updated half by half."""
    return TYPES[scalar.name.removesuffix("x2")]


def _atomic(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    words = modifiers.bag("words")
    operation = next((word for word in words if word in _OPERATIONS), "")
    if not operation:
        raise OperandError("no operation (add, min, ...) named")
    scalar = modifiers.type("type")
    count = ELEMENTS[next((word for word in words if word in ELEMENTS), "")]
    returns = modifiers["name"] == "atom"
    operands = list(instruction.operands)
    results = vector_items(operands.pop(0), count) if returns else ()
    destinations = [batch.registers.destination(item, scalar) for item in results]
    addresses = address_source(batch, operands[0])
    values = [per_lane(batch, item, scalar) for item in vector_items(operands[1], count)]
    second: Operand | None = operands[2] if operation == "cas" else None
    swap = None if second is None else per_lane(batch, second, scalar)
    name = modifiers.pick("words", ("global", "shared", "shared::cluster"), "generic")
    space = space_named(batch, name)
    space.declare_access(scalar.bytes * count, stores=True)
    ordering = ordering_of(words, atomic=True)
    space.declare_ordering(ordering)
    element = _element(scalar)
    update = _add_bfloat if element.name == "bf16" and operation == "add" else _UPDATES[operation]
    integer_add = operation == "add" and element.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.BITS)
    at_once = None if returns or element.kind is Kind.ENCODED else _UFUNCS.get(operation)

    def change(cells: Array, index: Array, operand: Array, other: Array | None) -> Array | None:
        if at_once is not None:
            at_once.at(cells, index, operand)
            return None
        if integer_add:
            return _running_sums(cells, index, operand)
        return apply_in_order(cells, index, update, operand, other)

    def pick(array: Array, lanes: Array | None, part: int) -> Array:
        chosen = array.reshape(-1, scalar.count)[:, part]
        return chosen if lanes is None else chosen[lanes]

    def run(mask: Mask) -> None:
        lanes = batch.active(mask)
        places = space.atomic_cells(instruction, lanes, addresses(lanes), scalar.bytes * count, ordering=ordering)
        for place in places:
            cells = place.data.view(element.dtype)
            first = place.index // element.bytes
            for number, value in enumerate(values):
                for part in range(scalar.count):
                    operand = pick(value, lanes, part)
                    other = None if swap is None else pick(swap, lanes, part)
                    if place.chosen is not None:
                        operand = operand[place.chosen]
                        other = None if other is None else other[place.chosen]
                    places_before = None if batch.observer is None else cells[first + number * scalar.count + part]
                    old = change(cells, first + number * scalar.count + part, operand, other)
                    if batch.observer is not None and places_before is not None:
                        batch.observer.store(places_before, cells[first + number * scalar.count + part])
                    target = destinations[number] if destinations else None
                    if target is not None and old is not None:
                        where = np.arange(batch.lanes) if lanes is None else lanes
                        where = where if place.chosen is None else where[place.chosen]
                        target.reshape(-1, scalar.count)[where, part] = old

    return run


_TYPES = "b16|b32|b64|u32|u64|s32|s64|f16|f16x2|bf16|bf16x2|f32|f64"
_WORDS = "MEMORY|add|min|max|and|or|xor|exch|cas|inc|dec|noftz|v2|v4|v8"

_CHANGES = Effects(reads=(Memory.NAMED,), writes=(Memory.NAMED,))
_VECTORS = "v2|v4|v8: sm_90 ptx8.1, bf16|bf16x2: sm_90 ptx7.8"

ROWS: tuple[Row, ...] = (
    special(f"name:atom.words:({_WORDS})*.type:({_TYPES})", "any = address any any? any?", _atomic, effects=_CHANGES,
            since=_VECTORS),
    special(f"name:red.words:({_WORDS})*.type:({_TYPES})", "address any any?", _atomic, effects=_CHANGES,
            since=_VECTORS),
)
