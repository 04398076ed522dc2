"""The instruction table: every PTX instruction form that the emulator executes.

The rows live in one module per family.  To add an instruction, add a row; there is no other place that lists
opcodes.  Patterns and signatures are explained in `rows.py`.
"""

from __future__ import annotations

from functools import cache

from texpr.emulator import (
    isa_arith,
    isa_async,
    isa_atomic,
    isa_bits,
    isa_bulk,
    isa_compare,
    isa_control,
    isa_convert,
    isa_float,
    isa_matrix,
    isa_mbarrier,
    isa_memory,
    isa_tensor,
    isa_warp,
    isa_wgmma,
)
from texpr.emulator.rows import Modifiers, Row

TABLE: tuple[Row, ...] = (
    *isa_arith.ROWS,
    *isa_bits.ROWS,
    *isa_compare.ROWS,
    *isa_float.ROWS,
    *isa_convert.ROWS,
    *isa_memory.ROWS,
    *isa_atomic.ROWS,
    *isa_async.ROWS,
    *isa_mbarrier.ROWS,
    *isa_bulk.ROWS,
    *isa_tensor.ROWS,
    *isa_warp.ROWS,
    *isa_matrix.ROWS,
    *isa_wgmma.ROWS,
    *isa_control.ROWS,
)


def _by_head() -> dict[str, tuple[Row, ...]]:
    heads: dict[str, tuple[Row, ...]] = {}
    for row in TABLE:
        for head in row.heads:
            heads[head] = (*heads.get(head, ()), row)
    return heads


_BY_HEAD = _by_head()


@cache
def find_row(opcode: str) -> tuple[Row, Modifiers] | None:
    """The first row whose pattern matches the whole opcode, with what its holes matched."""
    for row in _BY_HEAD.get(opcode.split(".", 1)[0], ()):
        modifiers = row.match(opcode)
        if modifiers is not None:
            return row, modifiers
    return None
