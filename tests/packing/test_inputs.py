"""The generator: the same bits everywhere, any part without the rest, within every range."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from texpr.dtypes import DType
from texpr.lang.arrays import decode
from texpr.packing.runner.inputs import mix, part, whole, words
from texpr.packing.runner.records import Fill, Input, Layout, Style


def tensor(dtype: DType, shape: tuple[int, ...], style: Style, low: int = 0, high: int = 0, period: int = 0) -> Input:
    return Input(Layout("x", dtype, shape, (0,) * len(shape), 0), Fill(style, 1234, low, high, period))


def test_words_are_those_of_splitmix64() -> None:
    """The first outputs for the seed 0, from the generator's published reference."""
    first = words(0, np.zeros(1, np.uint64), 0)
    second = words(0, np.zeros(1, np.uint64), 1)
    assert (int(first[0]), int(second[0])) == (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4)
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


@pytest.mark.parametrize(
    ("dtype", "style", "digest"),
    [
        (DType.F32, Style.NORMAL, "38110b82"),
        (DType.F16, Style.WIDE, "0f34651a"),
        (DType.BF16, Style.SPECIAL, "3fdc885d"),
        (DType.I8, Style.INTEGERS, "6fc5686a"),
    ],
)
def test_bits_never_change(dtype: DType, style: Style, digest: str) -> None:
    values = whole(tensor(dtype, (40, 30), style, -7, 90))
    assert hashlib.sha256(values.tobytes()).hexdigest()[:8] == digest


@pytest.mark.parametrize("period", [0, 101])
@pytest.mark.parametrize("style", [Style.NORMAL, Style.WIDE, Style.SPECIAL])
def test_a_part_is_a_part_of_the_whole(style: Style, period: int) -> None:
    made = tensor(DType.F32, (7, 5, 9), style, period=period)
    sample = ((0, 3, 6), None, (8, 1))
    assert np.array_equal(part(made, sample), whole(made)[np.ix_((0, 3, 6), range(5), (8, 1))], equal_nan=True)


def test_a_period_repeats() -> None:
    values = whole(tensor(DType.F32, (300,), Style.NORMAL, period=101))
    assert np.array_equal(values[:101], values[101:202])
    assert not np.array_equal(values[:100], values[1:101])


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(DType.I32, -3, 9), (DType.U8, 0, 255), (DType.I64, -(2**63), 2**63 - 1), (DType.U64, 5, 2**64 - 1)],
)
def test_integers_keep_their_range_and_reach_its_ends(dtype: DType, low: int, high: int) -> None:
    values = [int(value) for value in whole(tensor(dtype, (500,), Style.INTEGERS, low, high))]
    assert (min(values), max(values)) == (low, high)
    assert len(set(values)) > 8


def test_normal_values_look_normal() -> None:
    values = decode(whole(tensor(DType.F64, (20_000,), Style.NORMAL)), DType.F64)
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1.155) < 0.03
    assert np.abs(values).max() <= 4


def test_special_values_occur_even_in_one_element() -> None:
    assert not np.isfinite(whole(tensor(DType.F32, (4000,), Style.SPECIAL))).all()
    alone = float(whole(tensor(DType.F64, (1,), Style.SPECIAL))[0])
    assert alone in (0.0, 1e-310, 6e-8, -1e-40) or not np.isfinite(alone)


def test_nothing_is_made_for_empty_tensors() -> None:
    assert whole(tensor(DType.I32, (0, 4), Style.INTEGERS)).shape == (0, 4)
    assert set(np.unique(whole(tensor(DType.BOOL, (64,), Style.BOOLS)))) == {False, True}


def test_given_arrays_are_those_of_the_pack(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    np.savez_compressed(tmp_path / "a.npz", allow_pickle=False, value=array)
    made = Input(Layout("x", DType.I32, (3, 4), (4, 1), 0), Fill(Style.GIVEN, 0, file="a.npz"))
    assert np.array_equal(whole(made, tmp_path), array)
    assert np.array_equal(part(made, ((0, 2), None), tmp_path), array[[0, 2]])
    other = Input(Layout("x", DType.I32, (4, 3), (3, 1), 0), made.fill)
    with pytest.raises(ValueError, match=r"a.npz holds int32\[3, 4\], x is i32\[4, 3\]"):
        whole(other, tmp_path)
