from __future__ import annotations

import numpy as np

from tests.check.algorithms import clipped, picked, scaled
from texpr.checking.calls import Case, Values, symbols_of
from texpr.checking.inputs import Inputs, make_inputs
from texpr.lang.ir import Algorithm


def inputs_of(algorithm: Algorithm, dims: dict[str, int], values: Values = Values.NORMAL, **more: object) -> Inputs:
    fields = {"strides": {}, "integers": {}, "offsets": {}, "absent": frozenset(), "aliased": frozenset()} | more
    case = Case(dims, values=values, **fields)  # type: ignore[arg-type]
    symbols = symbols_of(algorithm, case, 2)
    assert symbols is not None
    return make_inputs(algorithm, case, symbols, 7)


def test_inputs_have_the_storage_shape_and_type() -> None:
    found = inputs_of(scaled.bind({"T": "f16"}), {"M": 5, "N": 8})
    assert found.arrays["x"].shape == (5, 8) and found.arrays["x"].dtype == np.float16
    assert found.arrays["b"].shape == (8,)


def test_absent_tensors_have_no_array() -> None:
    assert "b" not in inputs_of(scaled.bind({"T": "f16"}), {"M": 5, "N": 8}, absent=frozenset(["b"])).arrays


def test_inputs_are_the_same_for_the_same_seed() -> None:
    a, b = (inputs_of(scaled.bind({"T": "f16"}), {"M": 5, "N": 8}) for _ in range(2))
    np.testing.assert_array_equal(a.arrays["x"], b.arrays["x"])


def test_integers_fill_their_declared_range_to_both_ends() -> None:
    at = inputs_of(picked.bind({"T": "f16"}), {"P": 9, "N": 3, "M": 50}).arrays["at"]
    assert (at.min(), at.max()) == (0, 8)


def test_an_integer_scalar_is_the_one_of_the_call() -> None:
    found = inputs_of(clipped.bind(), {"M": 2, "N": 9}, strides={"x_stride_0": 9}, integers={"n": 4})
    assert found.scalars == {"n": 4}


def test_special_values_are_there_and_few() -> None:
    x = inputs_of(scaled.bind({"T": "f32"}), {"M": 64, "N": 64}, Values.SPECIAL).arrays["x"]
    assert 1 <= np.count_nonzero(~np.isfinite(x) | (np.abs(x) < 1e-7)) <= 40


def test_wide_values_spread_over_powers_of_two() -> None:
    x = np.abs(inputs_of(scaled.bind({"T": "f32"}), {"M": 64, "N": 64}, Values.WIDE).arrays["x"])
    assert x.min() < 2.0**-7 and x.max() > 2.0**7
