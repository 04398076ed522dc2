from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.check.algorithms import scaled
from texpr.checking.bound import accuracy_of, compare, expected_outputs
from texpr.checking.inputs import Inputs
from texpr.dtypes import DType
from texpr.instructions import op_error
from texpr.lang.bounded import Bounded
from texpr.lang.ir import OpName


def bounded(value: list[float], bound: list[float], ambiguous: list[bool] | None = None) -> Bounded:
    doubt = ambiguous or [False] * len(value)
    return Bounded(np.array(value), np.array(bound), np.array(doubt))


def test_the_worst_element_is_told_in_units_of_its_bound() -> None:
    found = compare("y", bounded([1.0, 2.0, 3.0], [0.5, 0.1, 1.0]), np.array([1.25, 2.2, 3.0], np.float32), DType.F32)
    assert found.worst == pytest.approx(2.0, rel=1e-5)
    assert (found.wrong, found.index, found.expected, found.bound) == (1, (1,), 2.0, 0.1)
    assert "y[1] is 2.2" in found.text() and "1 of 3 elements" in found.text()


def test_exact_elements_may_not_differ_at_all() -> None:
    exact = Bounded.exact(np.array([1, 2]))
    assert compare("y", exact, np.array([1, 2], np.int32), DType.I32).wrong == 0
    assert compare("y", exact, np.array([1, 3], np.int32), DType.I32).worst == np.inf


def test_nan_must_be_met_and_only_where_it_belongs() -> None:
    expected = bounded([np.nan, 1.0], [0.0, 0.1])
    assert compare("y", expected, np.array([np.nan, 1.0], np.float32), DType.F32).wrong == 0
    assert compare("y", expected, np.array([0.0, np.nan], np.float32), DType.F32).wrong == 2


def test_undecided_elements_are_counted_and_pass() -> None:
    expected = bounded([1.0, 1.0, 1.0], [0.1, np.inf, 0.1], [True, False, False])
    found = compare("y", expected, np.array([9.0, 9.0, 1.0], np.float32), DType.F32)
    assert (found.wrong, found.undecided) == (0, 2)


def test_outputs_are_decoded_before_they_are_compared() -> None:
    found = compare("y", bounded([1.5], [0.0]), np.array([0x3FC0], np.uint16), DType.BF16)
    assert found.wrong == 0


def test_operations_have_the_errors_of_the_instruction_table() -> None:
    accuracy = accuracy_of(scaled.bind({"T": "f16"}), ["sm_80"])
    assert accuracy.of(OpName.DIV).ulps == op_error(OpName.DIV, DType.F32).ulp
    assert accuracy.of(OpName.EXP).per_argument == op_error(OpName.EXP, DType.F32).per_input * 2**23
    assert accuracy.sum_ulps == 1.0


@te.algorithm("x: f16[M, K], w: f16[N, K] -> y: f32[M, N]")
def narrowed(x: Any, w: Any, y: Any) -> None:
    """Multiplied as 8-bit floats, which no parameter is."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k].to("f8e4m3").to("f32") * w[j, k].to("f8e4m3").to("f32"), over=k)


def test_sums_of_8_bit_floats_are_coarse_where_the_matrix_unit_is() -> None:
    assert accuracy_of(narrowed.bind({}), ["sm_90a"]).sum_ulps == 2.0**10
    assert accuracy_of(narrowed.bind({}), ["sm_100a"]).sum_ulps == 1.0
    assert accuracy_of(scaled.bind({"T": "f16"}), ["sm_90a"]).sum_ulps == 1.0


def test_expected_outputs_carry_the_rounding_of_the_output() -> None:
    algorithm = scaled.bind({"T": "f16"})
    x = np.full((2, 4), 0.1, np.float16)
    found = expected_outputs(algorithm, Inputs({"x": x}, {}), {"M": 2, "N": 4}, accuracy_of(algorithm, ["sm_80"]))["y"]
    assert found.value[0, 0] == np.float64(np.float16(3 * np.float64(x[0, 0])))
    assert 0 < found.bound[0, 0] < 2**-10
