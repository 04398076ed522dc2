"""The rankings against torch, where it is installed: torch breaks ties as it likes, so values are compared, and
positions through what they point at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import texpr as te
from texpr.compile import load_algorithm

torch = pytest.importorskip("torch")
KERNELS = Path(__file__).parents[2] / "kernels"


@pytest.mark.parametrize(("rows", "count"), [(3, 8), (5, 100), (1, 1000)])
def test_topk_finds_what_torch_finds(rows: int, count: int) -> None:
    x = np.random.default_rng(3).integers(-20, 20, (rows, count)).astype(np.float32)
    found = te.reference(load_algorithm(f"{KERNELS}/ranking.py:topk"))(x=x, K=8)
    wanted = torch.topk(torch.from_numpy(x), 8)
    np.testing.assert_array_equal(found["val"], wanted.values.numpy())
    np.testing.assert_array_equal(np.take_along_axis(x, found["idx"].astype(np.int64), 1), found["val"])
