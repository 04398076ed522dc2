"""Ragged axes: groups of different lengths, empty ones among them, reduced over and on the left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.plan.errors import LoopAxisInvalid, NotLowered, TrimInvalid

OFFSETS = ([0, 0], [0, 1], [0, 7, 7, 8], [0, 0, 33, 33, 64, 65], [0, 5, 5, 5, 40, 41, 41])


@te.algorithm(
    "x: f32[Z], off: i32[R + 1] offsets(Z) -> total: f32[R], low: f32[R], best: f32[R], at: i32[R], mu: f32[R]"
)
def statistics(x: Any, off: Any, total: Any, low: Any, best: Any, at: Any, mu: Any) -> None:
    (r,) = te.axes(r="R")
    p = te.ragged("p", off, r)
    total[r] = te.sum(x[p], over=p, where=x[p] > -1)
    low[r] = te.min(x[p], over=p)
    best[r], at[r] = te.argmax(x[p], over=p)
    mu[r] = te.mean(x[p], over=p)


STATISTICS = """  - name: k
    writes: [total, low, best, at, mu]
    grid: {{r: {rows}}}
    place:
      total: {{at: tile, loop: {{p: 8}}}}
      low: {{at: tile, loop: {{p: 4}}}}
      best: {{at: tile, loop: {{p: 16}}, base: {{p: tile}}}}
      mu.r1: {{at: tile, loop: {{p: 8}}}}
      mu.r2: {{at: tile, loop: {{p: 8}}}}
"""


@pytest.mark.parametrize("rows", [1, 4])
def test_reductions_take_the_points_of_their_group(rows: int, tmp_path: Path) -> None:
    built = bundle(statistics, STATISTICS.format(rows=rows), tmp_path)
    rng = np.random.default_rng(rows)
    for offsets in OFFSETS:
        x = rng.standard_normal(offsets[-1]).astype(np.float32)
        arrays = {"x": x, "off": np.asarray(offsets, np.int32)}
        assert worst(built, statistics, arrays) <= 1
        assert worst(built, statistics, arrays | {"x": np.where(x > 1, np.inf, x).astype(np.float32)}) <= 1


@te.algorithm("x: f16[Z, C], w: f16[R, C], off: i64[R + 1] offsets(Z) -> y: f32[R]")
def weighted(x: Any, w: Any, off: Any, y: Any) -> None:
    r, c = te.axes(r="R", c="C")
    p = te.ragged("p", off, r)
    y[r] = te.sum(x[p, c] * w[r, c], over=(p, c))


def test_a_group_looped_over_together_with_another_axis(tmp_path: Path) -> None:
    """Flattened into one pipeline, and with 64-bit offsets."""
    place = "place: {y: {at: tile, loop: {p: 4, c: 8}}}"
    stage = "stage: {x: {at: y.c, in: shared, depth: 3, copy: sync}}"
    built = bundle(weighted, f"  - name: k\n    writes: [y]\n    grid: {{r: 1}}\n    {place}\n    {stage}\n", tmp_path)
    rng = np.random.default_rng(0)
    for offsets in OFFSETS:
        arrays = {"x": halves(rng, offsets[-1], 11), "w": halves(rng, len(offsets) - 1, 11)}
        assert worst(built, weighted, arrays | {"off": np.asarray(offsets, np.int64)}) <= 1


@te.algorithm("x: f16[P, C], dy: f16[Q, K], a: i32[Z] in [0, P), b: i32[Z] in [0, Q) -> y: f32[C, K]")
def paired(x: Any, dy: Any, a: Any, b: Any, y: Any) -> None:
    c, k, p = te.axes(c="C", k="K", p="Z")
    y[c, k] = te.sum(x[a[p], c] * dy[b[p], k], over=p)


def test_dead_steps_of_a_contraction_through_data_add_nothing(tmp_path: Path) -> None:
    """A dead lane reads index 0, at which there is an element."""
    place = "place: {y: {at: tile, loop: {p: 16}, mma: {op: mma, rows: c, cols: k}}}"
    built = bundle(paired, f"  - name: k\n    writes: [y]\n    grid: {{c: 16, k: 16}}\n    {place}\n", tmp_path)
    rng = np.random.default_rng(0)
    for size in (0, 1, 15, 17):
        pairs = {name: rng.integers(0, 3, size).astype(np.int32) for name in "ab"}
        assert worst(built, paired, {"x": halves(rng, 3, 16), "dy": halves(rng, 3, 16), **pairs}) <= 1


def test_base_of_an_axis_that_follows_no_groups(tmp_path: Path) -> None:
    place = "place: {y: {at: tile, loop: {p: 16}, base: {p: tile}}}"
    with pytest.raises(LoopAxisInvalid, match="follow groups"):
        bundle(paired, f"  - name: k\n    writes: [y]\n    grid: {{c: 16, k: 16}}\n    {place}\n", tmp_path)


def test_a_loop_over_groups_is_not_trimmed(tmp_path: Path) -> None:
    place = "place: {y: {at: tile, loop: {p: 16, c: 1}, trim: [p]}}"
    with pytest.raises(TrimInvalid, match="points of its groups already"):
        bundle(weighted, f"  - name: k\n    writes: [y]\n    grid: {{r: 1}}\n    {place}\n", tmp_path)


def test_a_cursor_per_row_is_not_lowered_yet(tmp_path: Path) -> None:
    place = "place: {y: {at: tile, loop: {p: 16, c: 1}, base: {p: row}}}"
    with pytest.raises(NotLowered, match="base: row of p"):
        bundle(weighted, f"  - name: k\n    writes: [y]\n    grid: {{r: 1}}\n    {place}\n", tmp_path)
