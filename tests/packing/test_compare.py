"""The pass rule of a pack is that of ``texpr check``, from stored numbers."""

from __future__ import annotations

import numpy as np

from texpr.dtypes import DType
from texpr.lang.arrays import decode, encode
from texpr.lang.bounded import Bounded
from texpr.packing.runner.compare import compare, decode_bound, different_bits, encode_bound


def test_stored_bounds_are_a_little_wider_and_never_narrower() -> None:
    bound = np.concatenate([np.geomspace(1e-44, 1e38, 5000), [0.0, np.inf, 1e-60, 1e300]])
    read = decode_bound(encode_bound(bound))
    assert (read >= bound).all()
    usual = (bound > 1e-36) & (bound < 1e38)
    assert (read[usual] <= bound[usual] * 1.008).all()
    assert read[5000] == 0
    assert np.isinf(read[5001])


def test_the_rule_is_that_of_the_checker() -> None:
    rng = np.random.default_rng(3)
    value = decode(encode(rng.standard_normal(400), DType.F16), DType.F16)
    value[:8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, np.nan, np.inf, 1.0]
    bound = decode_bound(encode_bound(np.abs(rng.standard_normal(400)) * 1e-3))
    bound[20:40] = np.inf
    bound[40:60] = 0.0
    actual = encode(value + rng.standard_normal(400) * 1e-3, DType.F16)
    actual[:8] = encode(np.asarray([np.nan, np.inf, np.inf, -0.0, 0.0, 1.0, np.nan, np.inf]), DType.F16)
    ratios = Bounded(value, bound, np.isinf(bound)).ratios(decode(actual, DType.F16))
    found = compare("y", actual, encode(value, DType.F16), bound, DType.F16)
    assert found.wrong == int(np.count_nonzero(~(ratios <= 1))) > 20
    assert found.worst == ratios.max()
    assert found.undecided == 20


def test_the_worst_element_is_named() -> None:
    expected = np.zeros((3, 4), np.int32)
    actual = expected.copy()
    actual[2, 1] = 5
    found = compare("y", actual, expected, None, DType.I32)
    assert "y[2, 1] is 5, the reference 0" in found.text
    assert compare("y", expected, expected, None, DType.I32).text == ""


def test_bits_differ_but_for_the_payload_of_nan() -> None:
    a = np.asarray([0x7FC00000, 0x7FC00000, 0, 0x3F800000], np.uint32).view(np.float32)
    b = np.asarray([0x7FFFFFFF, 0x3F800000, 0x80000000, 0x3F800000], np.uint32).view(np.float32)
    assert different_bits(a, b, DType.F32).tolist() == [False, True, True, False]
