"""Rounding and storage of every element type."""

from __future__ import annotations

import numpy as np
import pytest

from texpr.dtypes import DType
from texpr.lang.arrays import decode, encode, round_float, to_integer
from texpr.lang.value import literal

NARROW = [DType.F8E4M3, DType.F8E5M2, DType.F16, DType.BF16]


def all_values(dtype: DType) -> np.ndarray:
    bits = np.arange(1 << dtype.bits)
    raw = bits.astype(np.uint16).view(np.float16) if dtype is DType.F16 else bits.astype(f"uint{dtype.bits}")
    return decode(raw, dtype)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_every_pattern_survives_decode_and_encode(dtype: DType) -> None:
    values = all_values(dtype)
    numbers = ~np.isnan(values)
    again = decode(encode(values, dtype), dtype)
    np.testing.assert_array_equal(again[numbers], values[numbers])
    np.testing.assert_array_equal(np.signbit(again[numbers]), np.signbit(values[numbers]))
    assert np.isnan(again[~numbers]).all()


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_rounding_picks_the_nearest_and_the_even_one_on_ties(dtype: DType) -> None:
    finite = np.unique(all_values(dtype)[np.isfinite(all_values(dtype))])
    low, high = finite[:-1], finite[1:]
    middle = (low + high) / 2
    np.testing.assert_array_equal(round_float(low + (high - low) * 0.499, dtype), low)
    np.testing.assert_array_equal(round_float(low + (high - low) * 0.501, dtype), high)
    chosen = round_float(middle, dtype)
    other = np.where(chosen == low, high, low)
    even = encode(chosen, dtype).view(f"uint{dtype.bits}") & 1
    odd = encode(other, dtype).view(f"uint{dtype.bits}") & 1
    assert (even == 0).all() and (odd == 1).all()


@pytest.mark.parametrize("dtype", [*NARROW, DType.TF32, DType.F32], ids=str)
def test_literals_round_like_arrays(dtype: DType) -> None:
    values = np.random.default_rng(0).standard_normal(300) * np.logspace(-8, 2, 300)
    rounded = round_float(values, dtype)
    assert [literal(float(value), dtype).value for value in values] == rounded.tolist()


def test_rounding_agrees_with_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.random.default_rng(0).standard_normal(2000) * np.logspace(-9, 4, 2000)
    for dtype, name in ((DType.BF16, "bfloat16"), (DType.F8E5M2, "float8_e5m2")):
        theirs = values.astype(getattr(ml_dtypes, name))
        np.testing.assert_array_equal(round_float(values, dtype), theirs.astype(np.float64))
        np.testing.assert_array_equal(decode(theirs, dtype), theirs.astype(np.float64))


def test_overflow_is_infinite_except_for_f8e4m3() -> None:
    beyond = np.array([1e30, -1e30, np.inf, np.nan])
    np.testing.assert_array_equal(round_float(beyond, DType.F8E4M3), [448, -448, 448, np.nan])
    np.testing.assert_array_equal(round_float(beyond, DType.F8E5M2), [np.inf, -np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(round_float(beyond, DType.F16), [np.inf, -np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(round_float(np.array([3.4e38]), DType.BF16), [np.inf])


def test_tf32_keeps_ten_bits_and_rounds_ties_away_from_zero() -> None:
    given = np.array([1 + 2**-10, 1 + 2**-11, -1 - 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 - 2**-23])
    np.testing.assert_array_equal(round_float(given, DType.TF32), [1 + 2**-10, 1 + 2**-10, -1 - 2**-10, 1 + 2**-9, 1])


@pytest.mark.parametrize("dtype", [DType.I8, DType.I32, DType.I64, DType.U8, DType.U32, DType.U64], ids=str)
def test_float_to_integer_truncates_and_saturates(dtype: DType) -> None:
    limits = np.iinfo(
        dtype.value.replace("i", "int").replace("u", "u") if dtype.value[0] == "i" else "uint" + dtype.value[1:]
    )
    converted = to_integer(np.array([1e30, -1e30, 2.9, -2.9, np.nan, np.inf, -np.inf]), dtype)
    low_two = -2 if limits.min < 0 else 0
    assert converted.tolist() == [limits.max, limits.min, 2, low_two, 0, limits.max, limits.min]


def test_storage_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="uint16 bit patterns"):
        decode(np.zeros(3, np.float32), DType.BF16)
