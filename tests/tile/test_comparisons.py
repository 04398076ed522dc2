"""Comparisons of positions with 64-bit values are made in 32 bits where that says the same."""

from __future__ import annotations

import pytest

from texpr.dtypes import DType
from texpr.lang.ir import OpName
from texpr.tile import build as tile
from texpr.tile.declarations import PhysicalDim, Space
from texpr.tile.ir import Elementwise, Lane, Load
from texpr.tile.layouts import blocked

SPACE = Space("tile", (PhysicalDim((("i", 16),)), PhysicalDim((("j", 64),))), blocked((16, 64), 4, 1, 1))
COLUMN, ROW = Lane(SPACE, 1), Lane(SPACE, 0)
WIDE = Load("n", tile.uniform(0).value, ROW, None, tile.literal(0, DType.I64), DType.I64, SPACE, (0,))
NARROW = Load("n", tile.uniform(0).value, ROW, None, tile.literal(0, DType.I32), DType.I32, SPACE, (0,))


def types(name: OpName, left: object, right: object) -> set[DType]:
    compared = tile.op(name, left, right)
    assert isinstance(compared, Elementwise)
    return {arg.dtype for arg in compared.args}


@pytest.mark.parametrize("name", [OpName.LE, OpName.GT])
def test_a_bound_per_row_is_clamped_once_instead_of_widening_every_element(name: OpName) -> None:
    assert types(name, COLUMN, WIDE) == {DType.I32}


@pytest.mark.parametrize("name", [OpName.LT, OpName.GE])
def test_a_strict_bound_is_not_clamped(name: OpName) -> None:
    assert types(name, COLUMN, WIDE) == {DType.I64}


def test_data_is_not_taken_for_a_position() -> None:
    assert types(OpName.LE, tile.op(OpName.ADD, NARROW, COLUMN), WIDE) == {DType.I64}


def test_two_extended_values_are_compared_as_they_were() -> None:
    extended = [tile.cast(value, DType.I64) for value in (COLUMN, NARROW)]
    assert types(OpName.LT, *extended) == {DType.I32}
    assert types(OpName.LT, *extended) == types(OpName.LT, COLUMN, NARROW)
