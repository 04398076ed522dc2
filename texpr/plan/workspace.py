"""Memory between kernels and its first contents: which buffers a variant needs, from which launch to which they are
alive, and which may share bytes.

Lives are intervals of launches. Buffers get slots in the order in which their lives begin, each the first slot that
is free by then; on intervals this uses as few slots as any choice can, and since a slot is as large as its largest
buffer, sharing never costs more than keeping apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.ir import Func, Tensor
from texpr.math.expr import TRUE, IntExpr, ceildiv
from texpr.math.integer import product
from texpr.plan.access import memory_of
from texpr.plan.errors import FillNotPossible, FillOfOthers
from texpr.plan.ir import Fill, KernelPlan, Scratch, Workspace
from texpr.schedule.records import Kernel

_WIDEST_MEMSET = 32


@dataclass(frozen=True, slots=True)
class Life:
    """A buffer that is needed from launch ``first`` to launch ``last`` (positions, both included)."""

    name: str
    dtype: DType
    shape: tuple[IntExpr, ...]
    first: int
    last: int


def lives_of(
    kernels: Sequence[KernelPlan], writer: Mapping[Func, str], reads: Sequence[Iterable[Func]]
) -> tuple[Life, ...]:
    """Lives of the funcs that kernels leave for later ones, and of scratch. ``writer`` maps written funcs to kernels,
    ``reads`` are the stored funcs that each kernel reads."""
    order = {kernel.name: n for n, kernel in enumerate(kernels)}
    found = []
    for func, name in writer.items():
        if func.output is None:
            last = max((n for n, read in enumerate(reads) if func in read), default=order[name])
            found.append(Life(func.name, func.dtype, memory_of(func, TRUE).shape, order[name], last))
    for n, kernel in enumerate(kernels):
        found += [Life(scratch.name, scratch.dtype, scratch.shape, n, n) for scratch in kernel.scratch]
    return tuple(found)


def shared_slots(lives: Sequence[Life]) -> tuple[Workspace, ...]:
    """Every buffer with its slot; buffers of one slot are never alive at the same launch."""
    free_after: list[int] = []
    slots: dict[int, int] = {}
    for position, life in sorted(enumerate(lives), key=lambda pair: (pair[1].first, pair[0])):
        slot = next((n for n, last in enumerate(free_after) if last < life.first), len(free_after))
        if slot == len(free_after):
            free_after.append(life.last)
        else:
            free_after[slot] = life.last
        slots[position] = slot
    return tuple(
        Workspace(life.name, life.dtype, life.shape, product(life.shape), slots[n], life.first, life.last)
        for n, life in enumerate(lives)
    )


def buffer_bytes(elements: IntExpr, dtype: DType) -> IntExpr:
    """Bytes that so many elements take; elements of less than a byte are packed."""
    return elements * dtype.bytes if dtype.bits >= 8 else ceildiv(elements * dtype.bits, 8)


# ---- fills -------------------------------------------------------------------------------------------------------


def fills_of(record: Kernel, writes: Sequence[Func], scratch: Sequence[Scratch]) -> tuple[Fill, ...]:
    """The memsets before a kernel. Raises ``FillOfOthers`` and ``FillNotPossible``."""
    funcs = {func.name: func for func in writes}
    buffers = {buffer.name.rpartition(".")[2]: buffer for buffer in scratch}
    found = []
    for name, value in record.fill.items():
        at = record.fill.location_of(name)
        if name in buffers:
            buffer = buffers[name]
            found.append(_fill(buffer.name, None, buffer.dtype, product(buffer.shape), value, at))
            continue
        if name not in funcs:
            choices = ", ".join([*funcs, *buffers])
            raise FillOfOthers(kernel=record.name, name=name, choices=choices, at=at)
        func = funcs[name]
        if func.output is not None:
            _check_output(func.output, at)
        elements = product(memory_of(func, TRUE).shape)
        found.append(_fill(name, func.output, func.dtype, elements, value, at))
    return tuple(found)


def zeroed(buffer: Scratch) -> Fill:
    """The memset of scratch that a kernel needs to be zero."""
    return _fill(buffer.name, None, buffer.dtype, product(buffer.shape), 0, None)


def _check_output(output: Tensor, at: Location | None) -> None:
    """A memset covers the whole tensor and nothing else, and destroys nothing that is read or to be left alone."""
    if output.valid is not None:
        why = "what lies beyond the count of the device is left as it is, and a memset knows no count"
        raise FillNotPossible(name=output.name, value="a constant", why=why, hint="set it in a kernel", at=at)
    if output.strided:
        why = "its rows may lie apart, and a memset would write what lies between them"
        raise FillNotPossible(name=output.name, value="a constant", why=why, hint="write it densely", at=at)
    if output.may_alias is not None:
        why = f"it may be the memory of {output.may_alias}, which would be lost"
        raise FillNotPossible(name=output.name, value="a constant", why=why, hint="drop the alias", at=at)


def _fill(
    name: str, output: Tensor | None, dtype: DType, elements: IntExpr, value: int | float, at: Location | None
) -> Fill:
    bits, pattern = memset_pattern(name, dtype, value, at)
    return Fill(name, output, value, bits, pattern, ceildiv(elements * dtype.bits, bits))


def memset_pattern(name: str, dtype: DType, value: int | float, at: Location | None) -> tuple[int, int]:
    """(bits, pattern) of the memset that sets elements of ``dtype`` to ``value``: as wide as the type, up to 32 bits.
    Raises ``FillNotPossible`` for values that the type does not have or whose two halves differ."""
    bits = dtype.bits
    pattern = _bits_of(name, dtype, value, at)
    if bits < 8:
        pattern, bits = sum(pattern << shift for shift in range(0, 8, bits)), 8
    if bits > _WIDEST_MEMSET:
        low, high = pattern & 0xFFFFFFFF, pattern >> _WIDEST_MEMSET
        if low != high:
            why = f"the halves of its 64-bit pattern differ ({high:#x}, {low:#x}), and memsets are at most 32 bits wide"
            raise FillNotPossible(name=name, value=value, why=why, hint="0 or -1, or set it in a kernel", at=at)
        pattern, bits = low, _WIDEST_MEMSET
    return bits, pattern


def _bits_of(name: str, dtype: DType, value: int | float, at: Location | None) -> int:
    import numpy as np

    from texpr.lang.arrays import encode, integer_range

    if dtype.is_float:
        encoded = encode(np.asarray(float(value)), dtype)
        return int.from_bytes(encoded.tobytes(), "little")
    low, high = (0, 1) if dtype is DType.BOOL else integer_range(dtype)
    if not math.isfinite(value) or int(value) != value:
        raise FillNotPossible(name=name, value=value, why=f"{dtype} has whole numbers only", hint="0", at=at)
    if not low <= value <= high:
        why = f"{dtype} goes from {low} to {high}"
        raise FillNotPossible(name=name, value=value, why=why, hint=str(low if value < low else high), at=at)
    return int(value) & ((1 << dtype.bits) - 1)
