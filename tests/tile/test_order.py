"""Orders of programs: every tile once, and neighbours where the order promises them."""

from __future__ import annotations

import itertools
import math

import pytest

from texpr.math.expr import Const, IntExpr, const
from texpr.schedule.records import Order
from texpr.schedule.words import OrderKind
from texpr.tile.order import tile_numbers


def places(order: Order | None, counts: dict[str, int]) -> list[tuple[int, ...]]:
    """The tiles in order, along each axis of ``counts``."""
    found = []
    exact: dict[str, IntExpr] = {name: const(count) for name, count in counts.items()}
    for index in range(math.prod(counts.values())):
        numbers = tile_numbers(order, list(counts), exact, const(index), lambda _, value: value)
        values = [numbers[name] for name in counts]
        found.append(tuple(value.value for value in values if isinstance(value, Const)))
    return found


ORDERS = [
    None,
    Order(kind=OrderKind.REVERSE, axes=("i",)),
    Order(kind=OrderKind.GROUP, axes=("j",), by=3),
    Order(kind=OrderKind.HILBERT, axes=("i", "j"), by=4),
    Order(kind=OrderKind.HILBERT, axes=("j", "i"), by=8),
    Order(kind=OrderKind.HILBERT, axes=("b", "j"), by=2),
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 3, 5), (1, 9, 17), (3, 8, 8), (2, 13, 4)])
def test_every_tile_comes_once(order: Order | None, counts: tuple[int, int, int]) -> None:
    found = places(order, dict(zip("bij", counts, strict=True)))
    assert sorted(found) == list(itertools.product(*(range(count) for count in counts)))


@pytest.mark.parametrize("by", [2, 4, 8, 16, 32])
def test_a_curve_goes_from_neighbour_to_neighbour(by: int) -> None:
    found = places(Order(kind=OrderKind.HILBERT, axes=("i", "j"), by=by), {"i": by, "j": by})
    assert all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in itertools.pairwise(found))


def test_a_group_keeps_to_its_band() -> None:
    found = places(Order(kind=OrderKind.GROUP, axes=("i",), by=4), {"i": 10, "j": 3})
    assert {i for i, _ in found[:12]} == {0, 1, 2, 3}
    assert found[:5] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1)]


def test_reversed_tiles_begin_at_the_end() -> None:
    assert places(Order(kind=OrderKind.REVERSE, axes=("i",)), {"i": 3, "j": 1}) == [(2, 0), (1, 0), (0, 0)]
