"""The data that a bundle's demo runs on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from texpr.aot.ir import Example
from texpr.compile import build_package, load_algorithm
from texpr.lang.reference import reference

ROOT = Path(__file__).parents[1]


def example_of(source: str, **types: str) -> Example:
    example = build_package(f"{ROOT}/kernels/{source}", None, ["sm_80"], types).example
    assert example is not None
    return example


def test_linear_gelu_runs_a_batch_that_is_no_multiple_of_the_tile() -> None:
    example = example_of("linear.py:linear_gelu", T="f16")
    assert dict(example.dims) == {"M": 200, "K": 320, "N": 144}


def test_expected_values_are_the_references() -> None:
    example = example_of("linear.py:linear_gelu", T="f16")
    dims, data = dict(example.dims), dict(example.inputs)
    x = np.frombuffer(data["x"], np.float16).reshape(dims["M"], dims["K"])
    w = np.frombuffer(data["w"], np.float16).reshape(dims["K"], dims["N"])
    b = np.frombuffer(data["b"], np.float16)
    wanted = reference(load_algorithm(f"{ROOT}/kernels/linear.py:linear_gelu"))(x=x, w=w, b=b)["y"]
    ((name, expected, bound),) = example.expected
    assert name == "y"
    np.testing.assert_array_equal(np.frombuffer(expected), wanted.astype(np.float64).reshape(-1))
    bounds = np.frombuffer(bound)
    assert bounds.shape == (dims["M"] * dims["N"],) and 0 < bounds.max() < 0.1


def test_examples_are_the_same_every_time() -> None:
    assert example_of("rows.py:softmax", T="f32") == example_of("rows.py:softmax", T="f32")


@pytest.mark.parametrize(
    ("source", "types"),
    [
        ("rows.py:layernorm", {"T": "f16"}),
        ("rows.py:argmax_rows", {"T": "bf16"}),
        ("convolution.py:conv2d", {"T": "f16"}),
        ("movement.py:gather_rows", {"T": "f32"}),
        ("linear.py:matmul_i8", {}),
        ("stencil.py:blur", {}),
    ],
)
def test_every_kind_of_kernel_has_one(source: str, types: dict[str, str]) -> None:
    example = example_of(source, **types)
    sizes = {name: len(expected) for name, expected, _ in example.expected}
    assert all(size > 0 for size in sizes.values())
    assert all(len(expected) == len(bound) for _, expected, bound in example.expected)
