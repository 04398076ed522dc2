"""Kernels of classes that the compiler does not make yet give NumPy's numbers, without a false alarm."""

from __future__ import annotations

import pytest

from tests.emulator.mutation import handwritten
from tests.emulator.mutation.calls import replay

pytest.importorskip("triton")


@pytest.mark.parametrize("name", [
    "attention", "attention_by_tensor_copies", "chained_scan", "histogram_by_match", "look_back", "sparse_convolution",
    "specialised_sums", "sum_by_last_program",
])  # fmt: skip
@pytest.mark.parametrize("seed", [None, 3])
def test_kernel(name: str, seed: int | None) -> None:
    built = getattr(handwritten, name)()
    for call in built.calls[:2]:
        assert replay(call, built.kernels, seed, 1_000_000).complaint == ""
