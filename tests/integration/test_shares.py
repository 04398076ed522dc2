"""``split_reduction: {by: program}``: what programs of a persistent kernel come across, kept from tile to tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst

ROWS = [0, 1, 2, 3, 4, 5, 23, 41]


@te.algorithm("x: f32[M, N] -> y: f32[M, N], total: f32[N], most: f32[N], best: f32[N], at: i32[N]")
def columns(x, y, total, most, best, at):
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 2
    total[j] = te.sum(x[i, j], over=i, where=x[i, j] < 1)
    most[j] = te.max(x[i, j], over=i)
    best[j], at[j] = te.argmax(x[i, j], over=i)


SCHEDULE = """\
  - name: rows
    writes: [y, total.part, most.part, best.part, at.part]
    grid: {{i: {size}}}
    whole: {{j: 32}}
    persistent: {{programs: {programs}}}
    split_reduction: {{of: [total, most, best, at], over: i, by: program}}
    stage: {{x: {{at: tile, in: registers}}}}
  - name: combine
    writes: [total, most, best, at]
    grid: {{j: 32}}
    whole: {{i.part: 8}}
"""


@pytest.mark.parametrize(("size", "programs"), [(1, 3), (2, 1), (4, 8)])
def test_every_row_is_in_one_part(tmp_path: Path, size: int, programs: int) -> None:
    text = SCHEDULE.format(size=size, programs=programs)
    guarded = (
        f"texpr: 1\nalgorithm: columns\nvariants:\n- name: only\n  target: [sm_80]\n  when: N <= 32\n  kernels:\n{text}"
        "- name: any\n  target: [sm_80]\n  kernels:\n"
        "  - {name: y, writes: [y], grid: {i: 4, j: 32}}\n"
        "  - {name: rest, writes: [total, most, best, at], grid: {j: 32}, place: {total: {loop: {i: 8}},"
        " most: {loop: {i: 8}}, best: {loop: {i: 8}}}}\n"
    )
    run = bundle(columns, guarded, tmp_path)
    rng = np.random.default_rng(size)
    for m in ROWS:
        x = rng.integers(-3, 4, (m, 32)).astype(np.float32)
        assert worst(run, columns, {"x": x}) <= 1
