"""The order of programs: from the number of a tile to its place along every axis of the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from texpr.math.expr import IntExpr, const, minimum
from texpr.math.integer import product
from texpr.schedule.records import Order
from texpr.schedule.words import OrderKind

Named = Callable[[str, IntExpr], IntExpr]
"""Gives an integer a name in the program; the name is made unique."""


def tile_numbers(
    order: Order | None, names: Sequence[str], counts: Mapping[str, IntExpr], index: IntExpr, named: Named
) -> dict[str, IntExpr]:
    """Which tile along each of ``names`` (outermost first) tile ``index`` is. ``counts``: how many there are, but for
    the first one if there is no order."""
    match order:
        case None:
            return _row_major(names, counts, index)
        case Order(kind=OrderKind.REVERSE, axis=axis):
            numbers = _row_major(names, counts, index)
            return numbers | {axis: counts[axis] - 1 - numbers[axis]}
        case Order(kind=OrderKind.FLATTEN, axes=axes):
            return _row_major(axes[:-1], counts, index)  # the last one is a loop's
        case Order(kind=OrderKind.GROUP, axis=axis, by=int(by)):
            return _in_bands(axis, by, names, counts, index, named)
        case Order(kind=OrderKind.HILBERT, axes=(rows, columns), by=int(by)):
            return _along_curves(rows, columns, by, names, counts, index, named)
        case _:
            raise AssertionError(f"{order} was not checked")


def _row_major(names: Sequence[str], counts: Mapping[str, IntExpr], index: IntExpr) -> dict[str, IntExpr]:
    numbers: dict[str, IntExpr] = {}
    for n, name in reversed(list(enumerate(names))):
        numbers[name] = index if n == 0 else index % counts[name]
        index = index if n == 0 else index // counts[name]
    return numbers


def _in_bands(
    axis: str, by: int, names: Sequence[str], counts: Mapping[str, IntExpr], index: IntExpr, named: Named
) -> dict[str, IntExpr]:
    """Tiles in bands of ``by`` along ``axis``; inside a band ``axis`` runs fastest, so that neighbouring programs
    share the other operand in L2 (Triton's matmul tutorial calls this grouped ordering)."""
    others = [name for name in names if name != axis]
    band = product(counts[name] for name in others) * by
    first = named("band_first", index // band * by)
    width = named("band_width", minimum(counts[axis] - first, by))
    inside = named("band_index", index % band)
    return {axis: first + inside % width} | _row_major(others, counts, inside // width)


def _along_curves(
    rows: str, columns: str, by: int, names: Sequence[str], counts: Mapping[str, IntExpr], index: IntExpr, named: Named
) -> dict[str, IntExpr]:
    """Tiles in squares of ``by`` x ``by`` along ``rows`` and ``columns``, each along a Hilbert curve; what is left of a
    square at the edges row by row."""
    others = [name for name in names if name not in (rows, columns)]
    plane = counts[rows] * counts[columns]
    inside = named("plane_index", index % plane) if others else index
    band = counts[columns] * by
    first_row = named("square_row", inside // band * by)
    height = named("square_height", minimum(counts[rows] - first_row, by))
    in_band = named("band_index", inside % band)
    first_column = named("square_column", in_band // (height * by) * by)
    width = named("square_width", minimum(counts[columns] - first_column, by))
    at = named("square_index", in_band % (height * by))
    x, y = _hilbert(at, by, named)
    whole = named("whole_square", height // by * (width // by))
    row = named("row_in_square", whole * y + (1 - whole) * (at // width))
    column = named("column_in_square", whole * x + (1 - whole) * (at % width))
    numbers = {rows: first_row + row, columns: first_column + column}
    return numbers | (_row_major(others, counts, index // plane) if others else {})


def _hilbert(at: IntExpr, side: int, named: Named) -> tuple[IntExpr, IntExpr]:
    """Point ``at`` of the Hilbert curve through a square of ``side`` x ``side`` (a power of two), built from its
    smallest quadrants outwards: each quadrant is the one before, turned (Warren, Hacker's Delight, 16-1)."""
    x: IntExpr = const(0)
    y: IntExpr = const(0)
    size = 1
    while size < side:
        right = named("right", at // 2 % 2)
        up = named("up", (at + right) % 2)
        turned = named("turned", right * (1 - up))  # the quadrant below on the right is turned upside down
        x, y = x + turned * (size - 1 - 2 * x), y + turned * (size - 1 - 2 * y)
        x, y = up * x + (1 - up) * y, up * y + (1 - up) * x  # both below are transposed
        x, y = named("curve_x", x + size * right), named("curve_y", y + size * up)
        at = named("curve_rest", at // 4)
        size *= 2
    return x, y
