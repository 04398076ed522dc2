"""Shared-memory bank conflicts: which XOR swizzle lets a tile be written one way and read another without any.

A request of one warp takes as many passes as the most words that any of the 32 banks must deliver (CUDA C++
Programming Guide, "Shared Memory"). Here that is counted by enumeration for one warp, over every swizzle Triton can
express; the choice is asserted again in the generated code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache

from texpr.tile.layouts import Blocked, Layout, Linear, Swizzled

_BANKS = 32
_WORD = 4  # bytes
ROW_OF_BANKS = _BANKS * _WORD
_REQUEST_LANES = {4: 32, 8: 16, 16: 8}  # lanes served together by accesses of this many bytes


@cache
def best_swizzle(
    shape: tuple[int, int], element_bytes: int, writer: Layout, reader: Layout, transposed: bool
) -> tuple[Swizzled, int]:
    """The swizzle of a row-major tile with the fewest passes to write it from ``writer`` and read it into ``reader``
    (whose dims are swapped if ``transposed``), and the passes beyond the minimum."""
    vectors = [v for v in (1, 2, 4, 8, 16) if v * element_bytes <= 16 and v <= shape[1]]
    best: tuple[int, Swizzled] | None = None
    for vec, per_phase, phases in itertools.product(reversed(vectors), (1, 2, 4, 8), (1, 2, 4, 8, 16, 32)):
        if phases * vec > shape[1] or per_phase * phases > shape[0]:
            continue
        swizzle = Swizzled(vec, per_phase, phases, (1, 0))
        cost = extra_passes(shape, element_bytes, writer, swizzle, False) + extra_passes(
            shape, element_bytes, reader, swizzle, transposed
        )
        if best is None or cost < best[0]:
            best = (cost, swizzle)
        if cost == 0:
            break
    assert best is not None
    return best[1], best[0]


def extra_passes(
    shape: tuple[int, int], element_bytes: int, layout: Layout, swizzle: Swizzled, transposed: bool
) -> int:
    """Passes beyond one per request when a warp in ``layout`` accesses the whole of its part of the tile."""
    if not isinstance(layout, Blocked | Linear):
        return 0
    register_bits, lane_bits = _bases(layout, (shape[1], shape[0]) if transposed else shape)
    width = 1  # elements per access: registers that walk the buffer's fast dim inside one swizzle vector
    fast = 0 if transposed else 1
    steps = {basis[fast] for basis in register_bits if basis[1 - fast] == 0}
    while width < swizzle.vec and width in steps and width * 2 * element_bytes <= 16:
        width *= 2
    inside = [b for b in register_bits if b[1 - fast] == 0 and 0 < b[fast] < width]
    outside = [b for b in register_bits if b not in inside]
    lanes = [_combine(lane_bits, n) for n in range(32)]
    access = width * element_bytes
    together = _REQUEST_LANES.get(max(access, _WORD), 32)
    total = 0
    for n in range(1 << len(outside)):
        base = _combine(outside, n)
        for first in range(0, 32, together):
            words: dict[int, set[int]] = {}
            for lane in lanes[first : first + together]:
                row, column = base[0] ^ lane[0], base[1] ^ lane[1]
                if transposed:
                    row, column = column, row
                start = _offset(row, column, shape[1], swizzle) * element_bytes
                for word in range(start // _WORD, (start + access - 1) // _WORD + 1):
                    words.setdefault(word % _BANKS, set()).add(word)
            total += max(len(found) for found in words.values()) - 1
    return total


def _offset(row: int, column: int, columns: int, swizzle: Swizzled) -> int:
    phase = row // swizzle.per_phase % swizzle.max_phase
    return row * columns + (column // swizzle.vec ^ phase) * swizzle.vec + column % swizzle.vec


def _bases(layout: Blocked | Linear, shape: tuple[int, ...]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The register and lane bases of a two-dimensional layout."""
    if isinstance(layout, Linear):
        return [(b[0], b[1]) for b in layout.registers], [(b[0], b[1]) for b in layout.lanes]
    registers: list[tuple[int, int]] = []
    lanes: list[tuple[int, int]] = []
    rest: list[tuple[int, int]] = []
    unit = [1, 1]

    def take(into: list[tuple[int, int]], counts: Iterable[int]) -> None:
        sizes = list(counts)
        for d in layout.order:
            for _ in range(sizes[d].bit_length() - 1):
                inside = unit[d] < shape[d]
                into.append((unit[d] if d == 0 and inside else 0, unit[d] if d == 1 and inside else 0))
                unit[d] *= 2

    take(registers, layout.each)
    take(lanes, layout.lanes)
    take(rest, layout.warps)
    for d in layout.order:
        while unit[d] < shape[d]:
            registers.append((unit[d] if d == 0 else 0, unit[d] if d == 1 else 0))
            unit[d] *= 2
    return registers, lanes


def _combine(bases: list[tuple[int, int]], index: int) -> tuple[int, int]:
    row = column = 0
    for n, (r, c) in enumerate(bases):
        if index >> n & 1:
            row ^= r
            column ^= c
    return row, column
