"""The work of matrix instructions, which follows from their opcodes alone."""

from __future__ import annotations

import re

from texpr.emulator.counters import Channel, Level, Way
from texpr.emulator.isa_matrix import ELEMENTS
from texpr.emulator.kernel import Operation
from texpr.emulator.ptx import Vector

_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)")
_GROUP_WARPS = 4
"""Warps that execute a wgmma together."""


def shape_of(operation: Operation) -> tuple[int, int, int] | None:
    """m, n and k of `mma` and `wgmma.mma_async`; None for other instructions."""
    found = _SHAPE.fullmatch(operation.modifiers.get("shape"))
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def flops_per_warp(operation: Operation) -> int:
    """Multiplications and additions of one warp's part of a matrix instruction; 0 for other instructions."""
    shape = shape_of(operation)
    if shape is None:
        return 0
    m, n, k = shape
    return 2 * m * n * k // _warps(operation)


def operand_bytes(operation: Operation) -> dict[Channel, int]:
    """What a wgmma reads of shared memory, per four warps: B, and A unless it is in registers."""
    shape = shape_of(operation)
    if shape is None or _warps(operation) == 1:
        return {}
    m, n, k = shape
    size = n * k * ELEMENTS[operation.modifiers["b"]].itemsize
    if not isinstance(operation.instruction.operands[1], Vector):
        size += m * k * ELEMENTS[operation.modifiers["a"]].itemsize
    return {Channel(Level.SHARED, Way.TENSOR_CORE, 0): size}


def _warps(operation: Operation) -> int:
    return _GROUP_WARPS if operation.instruction.opcode.startswith("wgmma") else 1
