"""The instruction table: every PTX instruction form that the emulator executes, and why it has no others.

The rows live in one module per family.  To add an instruction, add a row; there is no other place that lists
opcodes.  Patterns and signatures are explained in `rows.py`.
"""

from __future__ import annotations

import re
from functools import cache

from texpr.emulator import (
    isa_arith,
    isa_async,
    isa_atomic,
    isa_bits,
    isa_bulk,
    isa_cluster,
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
from texpr.emulator.user_rows import find_user_row

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
    *isa_cluster.ROWS,
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


def find_row(opcode: str) -> tuple[Row, Modifiers] | None:
    """The row whose pattern matches the whole opcode, the table's or a user's, with what its holes matched."""
    return find_built_in(opcode) or find_user_row(opcode)


@cache
def find_built_in(opcode: str) -> tuple[Row, Modifiers] | None:
    """The first row of the table whose pattern matches the whole opcode, with what its holes matched."""
    for row in _BY_HEAD.get(opcode.split(".", 1)[0], ()):
        modifiers = row.match(opcode)
        if modifiers is not None:
            return row, modifiers
    return None


SINCE_EVERYWHERE = (
    "shared::cta: ptx7.8, cluster|shared::cluster: sm_90 ptx7.8, param::entry: ptx8.3, mmio: ptx8.2, "
    "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate|"
    "L2::evict_normal|L2::evict_first|L2::evict_last|L2::cache_hint|L2::64B|L2::128B|L2::256B: ptx7.4"
)
"""What words demand in whatever instruction they stand (see `since.py`)."""

NOT_EMULATED: tuple[tuple[str, str], ...] = (
    (r"tcgen05\.|.*\.tcgen05", "tensor memory (sm_100 and later)"),
    (r"clusterlaunchcontrol\.", "launches that are cancelled while they run"),
    (r"red\.async\.|cp\.async\.bulk\.shared::cluster\.shared", "asynchronous reductions and copies to other programs"),
    (r"multimem\.", "memory of several GPUs"),
    (r"(mma|wgmma)\.sp|mma\..*\.sp::", "sparse matrices"),
    (r"mma\..*block_scale", "matrices with block scales"),
    (r"cp\.(reduce\.)?async\.bulk\.(prefetch\.)?tensor.*(im2col|gather4|scatter4)", "im2col and gather modes"),
    (r"wmma\.", "the old matrix instructions"),
    (r"(tex|tld4|txq|suld|sust|sured|suq|istypep)\.", "textures and surfaces"),
    (r"(ld|st|mov|atom)\..*b128", "values of 128 bits"),
    (r"cvt\.rs\.", "stochastic rounding"),
    (r"discard\.", "memory whose content is thrown away"),
)
"""Patterns of opcodes that exist, with what they need that the emulator does not have."""


def not_emulated(opcode: str) -> str:
    """What an opcode without a row needs, as far as it is known: a phrase, or ''."""
    return next((reason for pattern, reason in NOT_EMULATED if re.match(pattern, opcode)), "")
