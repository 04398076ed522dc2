"""Python numbers as C values of scalar arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest

from texpr.dtypes import DType
from texpr.runtime.errors import ScalarError
from texpr.runtime.scalars import encode


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-0.0, 0x8000),
        (1.0 + 2**-8, 0x3F80),  # halfway, the even neighbour is below
        (1.0 + 3 * 2**-8, 0x3F82),  # halfway, the even neighbour is above
        (1.0 + 2**-8 + 2**-40, 0x3F81),  # rounding to float32 first would lose the last bit and go to even
        (2.0**-133, 0x0001),
        (-(2.0**-140), 0x8000),
        (3.4e38, 0x7F80),
        (-math.inf, 0xFF80),
        (math.nan, 0x7FC0),
    ],
)
def test_bf16_rounds_once_to_nearest_even(value: float, bits: int) -> None:
    assert encode("a", value, DType.BF16) == bits


@pytest.mark.parametrize(("value", "bits"), [(1.0, 0x3C00), (1e6, 0x7C00), (-1e6, 0xFC00), (2.0**-24, 1)])
def test_f16_bits(value: float, bits: int) -> None:
    assert encode("a", value, DType.F16) == bits


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_any_kind(value: object) -> None:
    assert encode("n", value, DType.I32) == 3


@pytest.mark.parametrize(("value", "dtype"), [(128, DType.I8), (-1, DType.U8), (2**63, DType.I64), (2, DType.BOOL)])
def test_integer_out_of_its_type(value: int, dtype: DType) -> None:
    with pytest.raises(ScalarError, match=rf"TX0731 n: {value} is not a value of type {dtype}: it holds"):
        encode("n", value, dtype)


@pytest.mark.parametrize(("value", "dtype"), [(1.5, DType.I32), ("1", DType.F32), (1j, DType.F32), ([1], DType.F32)])
def test_values_of_another_kind(value: object, dtype: DType) -> None:
    with pytest.raises(ScalarError):
        encode("n", value, dtype)


def test_bool_is_a_bool() -> None:
    assert encode("f", np.bool_(True), DType.BOOL) == 1
