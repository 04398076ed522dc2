"""Loops over lists of points: lists that name more than they must, lists of one kernel and of several, and what such a
list must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.checking.hints import list_rows


@te.algorithm(
    "x: f16[P, C], w: f16[V, C, K], map: i32[V, N] in [-1, P), perm: hint i32[N] permutation(N),"
    " live: hint i32[NT, V + 1] lists(V) -> y: f32[N, K]",
    dims={"NT": "ceil(N / 32)"},
)
def gathered(x: Any, w: Any, map: Any, perm: Any, live: Any, y: Any) -> None:
    i, v, c, k = te.axes(i="N", v="V", c="C", k="K")
    acc = te.func("acc")
    acc[i, k] = te.sum(x[map[v, i], c] * w[v, c, k], over=(v, c), where=map[v, i] >= 0)
    y[i, k] = acc[i, k]


ASYNC = "x: {at: acc.c, in: shared, depth: 3, copy: async}, w: {at: acc.c, in: shared, depth: 2, copy: async}"
STAGES = {
    "none": "",
    "sync": "x: {at: acc.c, in: shared}, w: {at: acc.c, in: shared}",
    "ahead": "x: {at: acc.c, in: shared, depth: 2, ahead: 1}, w: {at: acc.c, in: shared, depth: 2, copy: async}",
    "async": ASYNC,
    "map ahead": "map: {at: acc.v, in: shared, depth: 2, copy: async}",
    "inner": ASYNC.replace("acc.c", "acc.v"),
}


def by_list(stages: str, target: str, visit: str = "visit: {i: perm}") -> str:
    loop = "{c: 16, v: 1}" if stages == "inner" else "{v: 1, c: 16}"
    return (
        f"texpr: 1\nalgorithm: gathered\nvariants:\n- name: only\n  target: [{target}]\n  assume: [finite(w)]\n"
        "  when: C % 8 == 0 and K % 8 == 0 and N % 8 == 0 and aligned(x, w, map, y, 16)\n  kernels:\n  - name: k\n"
        f"    writes: [y]\n    {visit}\n    grid: {{i: 32, k: 32}}\n    warps: 2\n"
        f"    place: {{acc: {{at: tile, loop: {loop}, skip: {{v: {{list: live}}}}, mma: mma}}}}\n"
        f"    stage: {{{STAGES[stages]}}}\n"
        f"- {{name: rest, target: {target}, assume: [finite(w)], kernels: [{{name: k, writes: [y], "
        "grid: {i: 32, k: 32}, place: {acc: {loop: {v: 1, c: 16}}}}]}\n"
    )


def listed(table: np.ndarray[Any, Any], perm: np.ndarray[Any, Any], tile: int) -> np.ndarray[Any, Any]:
    """``live[t, v]``: whether any row of tile t has filter point v."""
    points, rows = table.shape
    live = np.zeros((-(-rows // tile) * tile, points), bool)
    live[:rows] = (table >= 0).T[perm]
    return live.reshape(-(-rows // tile), tile, points).any(axis=1)


@pytest.mark.parametrize("stages, target", [*((stages, "sm_80") for stages in STAGES), ("async", "sm_90a")])
def test_listed_points_are_run_over(stages: str, target: str, tmp_path: Path) -> None:
    visit = "order: {reverse: i}" if stages in ("map ahead", "none") else "visit: {i: perm}"
    built = bundle(gathered, by_list(stages, target, visit), tmp_path, target=target)
    rng = np.random.default_rng(1)
    for n, p, c, k, v, density in [(40, 33, 32, 24, 27, 0.05), (8, 1, 8, 8, 1, 1.0), (72, 5, 24, 40, 9, 0.0),
                                   (136, 9, 16, 8, 70, 0.02), (0, 3, 8, 8, 3, 1.0)]:  # fmt: skip
        table = rng.integers(0, p, (v, n), dtype=np.int32)
        table[rng.random((v, n)) >= density] = -1
        perm = rng.permutation(n) if visit.startswith("visit") else np.arange(n)
        live = listed(table, perm, 32)
        arrays = {"x": halves(rng, p, c), "w": halves(rng, v, c, k), "map": table, "perm": perm.astype(np.int32)}
        results = []
        for more in (0.0, 0.3, 1.0):
            lists = list_rows(live | (rng.random(live.shape) < more))
            assert worst(built, gathered, arrays | {"live": lists}) <= 1
            results.append(built(**arrays, live=lists))
        np.testing.assert_array_equal(results[0], results[1])
        np.testing.assert_array_equal(results[0], results[2])


def test_lists_are_looked_at_before_they_are_used(tmp_path: Path) -> None:
    built = bundle(gathered, by_list("none", "sm_80"), tmp_path)
    arrays = {"x": np.zeros((3, 8), np.float16), "w": np.zeros((2, 8, 8), np.float16)}
    arrays |= {"map": np.zeros((2, 8), np.int32), "perm": np.arange(8, dtype=np.int32)}
    for row, problem in [
        ([3, 0, 1], r"\(0, 0\) is 3"), ([2, 1, 0], r"\(0, 2\) is 0"), ([1, 2, 0], r"\(0, 1\) is 2"),
        ([2, 1, 1], r"\(0, 2\) is 1"), ([-1, 0, 1], r"\(0, 0\) is -1"),
    ]:  # fmt: skip
        with pytest.raises(te.errors.TExprError, match=problem):
            built(**arrays, live=np.array([row], np.int32))
