"""Layouts as data, and how one is chosen: which thread holds which element of a tile.

Register layouts mirror Gluon's (``Blocked``, ``MmaV2``, ``MmaV3``, ``Operand``, ``Linear``, ``Slice``); shared layouts
are XOR swizzles. Choices here are the compiler's defaults; the schedule's ``map`` and ``swizzle`` override them.

``ctas`` says which part of a tile each program of a cluster has: for each bit of its number, lowest first, how many
parts further along each dim. The rest of a layout is about that part. Without clusters there are no bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from texpr.schedule.records import AxisMap

Bases = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Blocked:
    """Each thread holds a box of ``each``; lanes and warps tile the rest in ``order`` (fastest dim first)."""

    each: tuple[int, ...]
    lanes: tuple[int, ...]
    warps: tuple[int, ...]
    order: tuple[int, ...]
    ctas: Bases = ()


@dataclass(frozen=True, slots=True)
class MmaV2:
    """Accumulator of mma.sync: ``warps`` along rows and columns, ``instruction`` its rows and columns (8 x 8 for f64:
    with 16 x 8 Triton leaves out half of K)."""

    warps: tuple[int, int]
    instruction: tuple[int, int] = (16, 8)
    ctas: Bases = ()


@dataclass(frozen=True, slots=True)
class MmaV3:
    """Accumulator of wgmma: ``warps`` along rows and columns, whole groups of four along the rows; ``instruction`` the
    rows of one warp (16), the columns and the depth of one instruction."""

    warps: tuple[int, int]
    instruction: tuple[int, int, int]
    ctas: Bases = ()


@dataclass(frozen=True, slots=True)
class Operand:
    """A (index 0) or B (index 1) operand of an accumulator layout; ``k_width`` consecutive elements along K per
    thread (0 for fma). B of wgmma is in no registers: such a space only names the points of a tile in shared memory."""

    index: int
    parent: MmaV2 | MmaV3 | Blocked
    k_width: int


@dataclass(frozen=True, slots=True)
class Linear:
    """The general form: for each bit of the register, lane and warp index, the coordinate it adds (over GF(2))."""

    registers: tuple[tuple[int, ...], ...]
    lanes: tuple[tuple[int, ...], ...]
    warps: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]


Layout = Blocked | MmaV2 | MmaV3 | Operand | Linear


@dataclass(frozen=True, slots=True)
class Swizzled:
    """Row-major in ``order`` with an XOR swizzle: vectors of ``vec`` elements, ``per_phase`` rows share a phase,
    ``max_phase`` phases."""

    vec: int
    per_phase: int
    max_phase: int
    order: tuple[int, ...]
    ctas: Bases = ()


@dataclass(frozen=True, slots=True)
class Nvmma:
    """The layout that the copy engine writes and matrix units read: rows of the last dim (of the first if
    ``transposed``) cut into pieces of ``swizzle_bytes`` (0: not swizzled; 32, 64, 128), the 16-byte vectors of a piece
    XORed with its row. All dims but the contiguous one count as rows."""

    swizzle_bytes: int
    element_bits: int
    transposed: bool
    rank: int
    ctas: Bases = ()


SharedLayout = Swizzled | Nvmma

_BANK_ROW_BYTES = 128  # 32 banks of 4 bytes
_VECTOR_BYTES = 16


def ctas_of(layout: Layout) -> Bases:
    """Which part of a tile each program of a cluster has in registers."""
    match layout:
        case Blocked(ctas=ctas) | MmaV2(ctas=ctas) | MmaV3(ctas=ctas):
            return ctas
        case Operand(index=index, parent=parent):
            kept = ((basis[0], 0) if index == 0 else (0, basis[1]) for basis in ctas_of(parent))
            return tuple(kept)
        case Linear():
            return ()


def part_of(shape: Sequence[int], ctas: Bases) -> tuple[int, ...]:
    """The shape of the part of a tile that one program has."""
    parts = [1 << sum(basis[d] != 0 for basis in ctas) for d in range(len(shape))]
    return tuple(size // count for size, count in zip(shape, parts, strict=True))


def blocked(
    shape: tuple[int, ...], warps: int, vector: int, contiguous: int, row_lanes: int = 32, ctas: Bases = ()
) -> Blocked:
    """Coalesced: ``vector`` elements per thread along dim ``contiguous``, lanes along it first (at most
    ``row_lanes``), then along the dims before it; warps on the outermost dims that still have room, so that a row
    stays within one warp where it can."""
    rank = len(shape)
    shape = part_of(shape, ctas)
    order = (contiguous, *(d for d in reversed(range(rank)) if d != contiguous))
    each = [1] * rank
    each[contiguous] = min(vector, shape[contiguous])
    lanes = [1] * rank
    left = 32
    for d in order:
        lanes[d] = min(left, max(1, shape[d] // each[d]), row_lanes if d == contiguous else left)
        left //= lanes[d]
    lanes[order[0]] *= left  # tile smaller than a warp: lanes repeat its elements
    warp_count = [1] * rank
    left = warps
    for d in reversed(order):
        warp_count[d] = min(left, max(1, shape[d] // (each[d] * lanes[d])))
        left //= warp_count[d]
    warp_count[order[-1]] *= left
    return Blocked(tuple(each), tuple(lanes), tuple(warp_count), order, ctas)


def mma_warps(rows: int, cols: int, warps: int) -> tuple[int, int]:
    """Warps along rows and columns of an mma_v2 tile: the split with the least operand traffic, i.e. the squarest
    warp tile that the 16x8 instruction still divides."""
    best: tuple[float, tuple[int, int]] | None = None
    along_rows = 1
    while along_rows <= warps:
        along_cols = warps // along_rows
        tile_rows, tile_cols = rows / along_rows, cols / along_cols
        waste = max(1.0, 16 / tile_rows) * max(1.0, 8 / tile_cols)
        cost = (waste, tile_rows + tile_cols, along_rows)
        score = cost[0] * 1e6 + cost[1] * 16 + (0 if along_rows <= along_cols else 1)
        if best is None or score < best[0]:
            best = (score, (along_rows, along_cols))
        along_rows *= 2
    assert best is not None
    return best[1]


def row_warps(rows: int, warps: int) -> tuple[int, int]:
    """As many warps along rows as the 16-row instruction allows: what is done with whole rows, such as a sum over
    columns or a second product over them, then stays inside of a warp."""
    along_rows = max(1, min(warps, rows // 16))
    return along_rows, warps // along_rows


def operand_swizzle(shape: tuple[int, ...], element_bytes: int, contiguous: int, ctas: Bases = ()) -> Swizzled:
    """The XOR swizzle under which ldmatrix rows (and 16-byte row segments of any layout) fall into distinct banks.

    A row of the tile is ``shape[contiguous]`` elements. Rows shorter than the 128 bytes of all banks share a phase;
    the 16-byte vectors of a row are permuted by the phase (as in CUTLASS's and Triton's shared encodings for mma
    operands).
    """
    rank = len(shape)
    shape = part_of(shape, ctas)
    order = (contiguous, *(d for d in reversed(range(rank)) if d != contiguous))
    row_bytes = shape[contiguous] * element_bytes
    vec = min(_VECTOR_BYTES // element_bytes, shape[contiguous])
    per_phase = max(1, _BANK_ROW_BYTES // row_bytes)
    vectors = shape[contiguous] // vec
    max_phase = max(1, min(8 // per_phase, vectors))
    return Swizzled(vec, per_phase, max_phase, order, ctas)


def warpgroup_operand(shape: tuple[int, int], element_bytes: int, ctas: Bases = ()) -> Nvmma:
    """The layout in which wgmma reads a row-major tile: swizzled over as many bytes of a row as there are, up to 128
    (PTX ISA, "Shared memory matrix layout"); rows come in eights."""
    rows, columns = part_of(shape, ctas)
    row_bytes = columns * element_bytes
    swizzle = next((size for size in (128, 64, 32) if row_bytes % size == 0), 0) if rows >= 8 else 0
    return Nvmma(swizzle, element_bytes * 8, False, 2, ctas)


def flat() -> Swizzled:
    """One-dimensional, unswizzled."""
    return Swizzled(1, 1, 1, (0,))


def mapped(axes: tuple[tuple[tuple[str, int], ...], ...], maps: dict[str, AxisMap], warps: int) -> Linear | None:
    """The layout in which every axis named in ``maps`` is spread as asked; ``axes`` lists the (axis, size) pairs of
    each dim.

    Per axis, low bits go to the thread's elements (``each``), then lanes, then warps; what is left repeats in
    registers. None if the lanes or warps asked for are not exactly 32 and ``warps``.
    """
    shape = tuple(_product(size for _, size in dim) for dim in axes)
    registers: list[tuple[int, ...]] = []
    lanes: list[tuple[int, ...]] = []
    warp_bases: list[tuple[int, ...]] = []
    rest: list[tuple[int, ...]] = []
    for dim in reversed(range(len(axes))):
        stride = 1
        for name, size in reversed(axes[dim]):
            record = maps.get(name, AxisMap())
            unit = 1
            for target, count in ((registers, record.each), (lanes, record.lanes), (warp_bases, record.warps)):
                for _ in range(count.bit_length() - 1):
                    target.append(_basis(dim, stride * unit if unit < size else 0, len(axes)))
                    unit *= 2
            while unit < size:
                rest.append(_basis(dim, stride * unit, len(axes)))
                unit *= 2
            stride *= size
    if len(lanes) != 5 or len(warp_bases) != warps.bit_length() - 1:
        return None
    return Linear(tuple(registers + rest), tuple(lanes), tuple(warp_bases), shape)


def _basis(dim: int, value: int, rank: int) -> tuple[int, ...]:
    return tuple(value if d == dim else 0 for d in range(rank))


def _product(values: Iterable[int]) -> int:
    total = 1
    for value in values:
        total *= value
    return total
