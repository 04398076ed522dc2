"""cp.async: copies from global to shared memory that land when they are waited for."""

from __future__ import annotations

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.bind import source
from texpr.emulator.effects import Effects, Memory, Orders
from texpr.emulator.isa_memory import address_source
from texpr.emulator.ptx import Instruction, Integer
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.types import TYPES


def _copy(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """cp.async [shared], [global], size{, source size}{, policy}: bytes beyond the source size become zero."""
    to, given, size_operand, *rest = instruction.operands
    if not isinstance(size_operand, Integer) or size_operand.value not in (4, 8, 16):
        raise OperandError("the copy size must be 4, 8 or 16")
    size = size_operand.value
    if "L2::cache_hint" in modifiers.bag("words"):
        rest = rest[:-1]
    source_size = source(batch, rest[0], TYPES["u32"]) if rest else np.array(size, np.uint32)
    to_addresses = address_source(batch, to)
    from_addresses = address_source(batch, given)
    copies = batch.copies
    batch.shared_space.declare_access(size, stores=True)

    def run(mask: Mask) -> None:
        lanes = batch.active(mask)
        wanted = source_size if lanes is None or not source_size.ndim else source_size[lanes]
        copies.issue(instruction, lanes, to_addresses(lanes), from_addresses(lanes), size, _sizes(wanted, size))

    return run


def _sizes(wanted: Array, size: int) -> Array | None:
    """Bytes to read per lane, or None if every lane reads all of them."""
    if (wanted == size).all():
        return None
    return np.minimum(wanted, np.uint32(size))


def _commit(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    return batch.copies.commit


def _wait(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    operand = instruction.operands[0]
    if not isinstance(operand, Integer):
        raise OperandError("wait_group needs a constant")
    allowed = operand.value
    return lambda mask: batch.copies.wait(mask, allowed)


def _wait_all(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    def run(mask: Mask) -> None:
        batch.copies.commit(mask)
        batch.copies.wait(mask, 0)

    return run


_HINTS = "L2::cache_hint|L2::64B|L2::128B|L2::256B"

_GROUPS = Effects(orders=(Orders.CP_ASYNC,))

ROWS: tuple[Row, ...] = (
    special(f"cp.async.(ca|cg).(shared|shared::cta).global.words:({_HINTS})*", "address address integer any? any?",
            _copy,
            effects=Effects((Memory.GLOBAL,), (Memory.SHARED,), late=True)),
    special("cp.async.commit_group", "", _commit,
            effects=_GROUPS),
    special("cp.async.wait_group", "integer", _wait,
            effects=_GROUPS),
    special("cp.async.wait_all", "", _wait_all,
            effects=_GROUPS),
)
