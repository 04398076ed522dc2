"""Tiles of 96 = 64 + 32 points on every unit, run on the emulator over sizes at which one part or both end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst


@te.algorithm("x: f16[M, K], w: f16[K, N], b: f32[N] -> y: f16[M, N], z: f32[N, M]")
def product(x: Any, w: Any, b: Any, y: Any, z: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k].to("f32") * w[k, j].to("f32"), over=k)
    y[i, j] = te.relu(acc[i, j] + b[j])
    z[j, i] = acc[i, j] * 2.0


KERNEL = """
  - name: product
    writes: [y, z]
    grid: {grid}
    order: {{group: i, by: 2}}
    warps: 4
    place:
      acc: {{at: tile, loop: {{k: 16}}, mma: {unit}}}{by}
    stage:
      x: {{at: acc.k, in: shared}}
      w: {{at: acc.k, in: {memory}}}
      b: {{at: tile, in: {held}}}
"""

HOW = {
    "columns": {"grid": "{i: 32, j: 96}", "unit": "mma"},
    "rows": {"grid": "{i: 96, j: 32}", "unit": "mma"},
    "both": {"grid": "{i: 96, j: 96}", "unit": "{op: mma, rows: j, cols: i}"},
    "in pieces": {
        "grid": "{i: 32, j: 96}", "unit": "mma",
        "by": "\n      y: {at: tile, by: {j: 32}}\n      z: {at: tile, by: {j: 32}}", "held": "shared",
    },
    "without a matrix unit": {"grid": "{i: 32, j: 96}", "unit": "fma", "held": "shared"},
}  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_a_tile_in_parts_is_right(how: str, tmp_path: Path) -> None:
    words = {"by": "", "memory": "shared", "held": "registers"} | HOW[how]
    run = bundle(product, KERNEL.format(**words), tmp_path)
    rng = np.random.default_rng(1)
    for m, n, k in ((0, 5, 3), (1, 1, 0), (97, 63, 17), (64, 65, 16), (95, 97, 33), (193, 200, 7)):
        arrays = {"x": halves(rng, m, k), "w": halves(rng, k, n), "b": rng.standard_normal(n).astype(np.float32)}
        assert worst(run, product, arrays) <= 1, (m, n, k)
