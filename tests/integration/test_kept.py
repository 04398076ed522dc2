"""Rows that stay in shared memory for later loops, on the emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import bundle, worst
from texpr.compile import load_algorithm

ROWS = Path(__file__).parents[2] / "kernels" / "rows.py"
SCHEDULE = """
texpr: 1
algorithm: softmax
variants:
- name: kept
  target: [sm_80]
  when: N <= {room}{aligned}
  kernels:
  - name: softmax
    writes: [y]
    grid: {{i: 2}}
    warps: 2
    {more}
    place:
      m: {{at: tile, loop: {{j: 64}}}}
      l: {{at: tile, loop: {{j: 64}}}}
      y: {{at: tile, loop: {{j: 64}}}}
    stage: {{x: {{at: m.j, in: shared, depth: {depth}, copy: async, keep: [l, y]}}}}
- name: rest
  target: [sm_80]
  kernels:
  - name: softmax
    writes: [y]
    grid: {{i: 1}}
    warps: 1
    online: {{funcs: [m, l], at: tile, loop: {{j: 64}}}}
    place: {{y: {{at: tile, loop: {{j: 64}}}}}}
"""


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("more", ["", "persistent: {programs: 1}"], ids=["", "persistent"])
def test_rows_are_right_for_every_number_of_steps(depth: int, more: str, tmp_path: Path) -> None:
    """A program after the other, or one that takes all rows, whose copies go where the rows before them were read."""
    definition = load_algorithm(f"{ROWS}:softmax")
    text = SCHEDULE.format(room=64 * depth, aligned=" and N % 8 == 0 and aligned(x, y, 16)", more=more, depth=depth)
    run = bundle(definition, text, tmp_path, {"T": "f32"})
    rng = np.random.default_rng(0)
    for columns in sorted({0, 8, 56, 64, 64 * depth - 8, 64 * depth}):
        arrays = {"x": rng.standard_normal((5, columns), np.float32)}
        assert worst(run, definition, arrays, {"T": "f32"}) <= 1, columns
