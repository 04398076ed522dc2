"""Which dims are independent, and that the reference of a part is that part of the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.packing.packs import ROOT
from texpr.checking.bound import accuracy_of, expected_outputs
from texpr.checking.calls import symbols_of
from texpr.checking.inputs import Inputs
from texpr.compile import load_algorithm
from texpr.lang.ir import Algorithm
from texpr.packing.expect import _fill, _layout
from texpr.packing.runner.inputs import part, whole
from texpr.packing.runner.records import Input
from texpr.packing.sampling import choose_sample, independent_dims, part_of, positions_of, thinned
from texpr.packing.sizes import sized_case


def algorithm(source: str) -> Algorithm:
    definition = load_algorithm(str(ROOT / "kernels" / source))
    return definition.bind(definition.bindings()[0])


@pytest.mark.parametrize(
    ("source", "dims"),
    [
        ("linear.py:linear_gelu", {"M", "N"}),
        ("linear.py:matmul_tn", {"M", "N"}),
        ("linear.py:batched_matmul", {"B", "M", "N"}),
        ("rows.py:softmax", {"M"}),
        ("rows.py:layernorm", {"M"}),
        ("movement.py:transpose", {"M", "N"}),
        ("movement.py:gather_rows", {"M", "N"}),
        ("convolution.py:conv2d", {"N"}),
        ("convolution.py:depthwise_conv2d", {"N", "C"}),
        ("stencil.py:blur", set()),
        ("scans.py:cumsum", {"M"}),
        ("scans.py:segmented_scan", set()),
        ("scans.py:linear_recurrence", {"B", "D"}),
        ("ranking.py:topk", {"M"}),
    ],
)
def test_independent_dims(source: str, dims: set[str]) -> None:
    assert set(independent_dims(algorithm(source))) == dims


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        ("linear.py:linear_gelu", {"M": 150, "K": 16, "N": 160}),
        ("movement.py:gather_rows", {"P": 40, "M": 200, "N": 90}),
        ("convolution.py:depthwise_conv2d", {"N": 3, "H": 9, "W": 8, "C": 130}),
        ("rows.py:layernorm", {"M": 100, "N": 200}),
    ],
)
def test_a_part_has_the_outputs_of_the_whole(source: str, sizes: dict[str, int]) -> None:
    bound = algorithm(source)
    call = sized_case(bound, sizes)
    assert call is not None
    symbols = symbols_of(bound, call, 2)
    assert symbols is not None
    sample = choose_sample(bound, call, 1, 2, lambda smaller: True)
    assert sample
    inputs = {t.name: Input(_layout(t, call, symbols), _fill(t, call.values, symbols, 5)) for t in bound.inputs}
    scalars = {scalar.name: 0.75 for scalar in bound.scalars}
    accuracy = accuracy_of(bound, ["sm_80"])
    full = expected_outputs(bound, Inputs({n: whole(i) for n, i in inputs.items()}, scalars), call.dims, accuracy)
    tensors = {tensor.name: tensor for tensor in bound.inputs}
    parts = {name: part(each, positions_of(tensors[name], sample)) for name, each in inputs.items()}
    some = expected_outputs(bound, Inputs(parts, scalars), part_of(call, sample).dims, accuracy)
    for output in bound.outputs:
        shape = full[output.name].value.shape
        chosen = [range(n) if s is None else s for n, s in zip(shape, positions_of(output, sample), strict=True)]
        picked = full[output.name].value[np.ix_(*chosen)]
        assert picked.size < full[output.name].value.size
        assert np.allclose(picked, some[output.name].value, rtol=1e-3, atol=1e-6)


def test_facts_limit_what_can_be_left_out() -> None:
    """N must stay a multiple of 8."""
    bound = algorithm("linear.py:linear_gelu")
    call = sized_case(bound, {"M": 4096, "K": 64, "N": 4096})
    assert call is not None
    sample = choose_sample(bound, call, 1, 2, lambda smaller: smaller.dims["M"] <= 4)
    assert len(sample["M"]) == 4
    assert len(sample["N"]) % 8 == 0
    assert sample["M"][0] == 0
    assert sample["M"][-1] == 4095


def test_of_whole_outputs_a_part_is_kept() -> None:
    assert thinned((None, None), (3, 5), 1) == (None, None), "few elements are kept as they are"
    rows, columns = thinned((None, None), (4, 1 << 20), 1)
    assert rows is None and columns is not None
    assert 4 * len(columns) <= 8192 < 8 * len(columns) + 8
    assert columns[0] == 0 and columns[-1] == (1 << 20) - 1 and list(columns) == sorted(set(columns))
    picked = (1, 5)
    assert thinned((picked, None), (2, 1 << 14), 1)[0] is picked, "what is sampled stays"
