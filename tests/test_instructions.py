"""The instruction table: which forms a target has, and what is stated about exactness."""

from __future__ import annotations

import pytest

from texpr.dtypes import DType
from texpr.instructions import (
    copy_async_bytes,
    mma_form,
    mma_operand_types,
    op_error,
    warpgroup_form,
    warpgroup_warps,
)
from texpr.lang.ir import OpName
from texpr.targets import TARGETS


def test_eight_bit_products_need_hardware() -> None:
    assert mma_form(DType.F8E4M3, DType.F8E4M3, TARGETS["sm_80"]) is None
    assert mma_form(DType.F8E4M3, DType.F8E5M2, TARGETS["sm_120a"]) is not None
    assert mma_form(DType.F32, DType.F32, TARGETS["sm_90a"]) is None
    assert (DType.F16, DType.F16) in mma_operand_types(TARGETS["sm_86"])


def test_copies_are_as_wide_as_the_run_allows() -> None:
    assert [copy_async_bytes(n) for n in (64, 16, 8, 12, 4, 2)] == [16, 16, 8, 4, 4, None]


def test_integers_and_data_movement_are_exact() -> None:
    assert op_error(OpName.ADD, DType.I32).ulp == 0
    assert op_error(OpName.MAX, DType.F32).ulp == 0
    assert op_error(OpName.EXP, DType.F32).per_input > 0


def test_only_one_architecture_multiplies_by_warpgroups() -> None:
    half = warpgroup_form(DType.F16, DType.F16, TARGETS["sm_90a"])
    assert half is not None and half.name(512) == "m64n256k16"
    assert [name for name in TARGETS if warpgroup_form(DType.BF16, DType.BF16, TARGETS[name])] == ["sm_90a"]
    assert warpgroup_form(DType.F64, DType.F64, TARGETS["sm_90a"]) is None


@pytest.mark.parametrize(
    ("rows", "cols", "warps", "split"),
    [(128, 256, 8, (8, 1)), (64, 256, 8, (4, 2)), (64, 8, 8, (8, 1)), (256, 64, 4, (4, 1)), (64, 16, 16, (8, 2))],
)
def test_warpgroups_share_operand_b_as_far_as_the_rows_go(
    rows: int, cols: int, warps: int, split: tuple[int, int]
) -> None:
    assert warpgroup_warps(rows, cols, warps) == split
