"""Reductions that copies apply to global memory: one operation on many elements that lie at different places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.floats import FORMATS
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array
from texpr.emulator.types import TYPES

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch


def reduce_global(
    batch: Batch, site: Instruction, lane: int, address: Array, octets: Array, operation: str, type_name: str
) -> None:
    """old = operation(old, new) on elements of a PTX type; `octets` has one row of bytes per (aligned) address."""
    scalar = TYPES[type_name]
    unsigned = np.dtype(f"u{scalar.bytes}")
    per_row = octets.shape[1] // scalar.bytes
    places = (address[:, None] + np.arange(per_row, dtype=np.uint64) * np.uint64(scalar.bytes)).reshape(-1)
    new = np.ascontiguousarray(octets).view(unsigned).reshape(-1)
    for cells in batch.global_space.atomic_cells(site, np.full(len(places), lane), places, scalar.bytes, by_copy=True):
        memory = cells.data.view(unsigned)
        row = cells.index // scalar.bytes
        values = new if cells.chosen is None else new[cells.chosen]
        if batch.observer is not None:
            batch.observer.changed = True
        memory[row] = combine(operation, type_name, memory[row], values)


def combine(operation: str, type_name: str, old: Array, new: Array) -> Array:
    """The result's bits from the bits of both; floating-point sums are rounded once, to nearest even."""
    if type_name in ("f16", "bf16"):
        return _combine_halves(operation, type_name, old, new)
    dtype = TYPES[type_name].dtype
    a, b = old.view(dtype), new.view(dtype)
    match operation:
        case "add":
            result = a + b
        case "min":
            result = np.minimum(a, b)
        case "max":
            result = np.maximum(a, b)
        case "and":
            result = a & b
        case "or":
            result = a | b
        case "xor":
            result = a ^ b
        case "inc":
            result = np.where(a >= b, 0, a + 1)
        case _:
            result = np.where((a == 0) | (a > b), b, a - 1)
    return np.ascontiguousarray(result.astype(dtype)).view(old.dtype)


def _combine_halves(operation: str, type_name: str, old: Array, new: Array) -> Array:
    form = FORMATS[type_name]
    a, b = form.decode(old).astype(np.float64), form.decode(new).astype(np.float64)
    if operation == "add":
        return form.encode(a + b)
    chosen = np.fmin(a, b) if operation == "min" else np.fmax(a, b)
    return form.encode(chosen)
