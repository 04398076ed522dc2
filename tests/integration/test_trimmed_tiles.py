"""Tiles of the grid in which a guard holds nowhere have the value of a reduction of no points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst


@te.algorithm("x: f32[M, K], w: f32[N, K], far: i32[M] -> m: f32[M, N], p: i32[M, N], s: f32[M, N]")
def near_rows(x: Any, w: Any, far: Any, m: Any, p: Any, s: Any) -> None:
    """Best and sum over k of pairs of rows of which the second is not too far: affine guards and one from data."""
    i, j, k = te.axes(i="M", j="N", k="K")
    m[i, j], p[i, j] = te.argmax(x[i, k] * w[j, k], over=k, where=(j < far[i]) & (2 * i - j <= 9) & (k != 2))
    s[i, j] = te.sum(te.exp(x[i, k] - w[j, k]), over=k, where=(i >= j - 4) & (j > i - 8))


@te.algorithm("x: f16[M, K], w: f16[K, N], far: i32[M] -> y: f32[M, N]")
def product_of_near_rows(x: Any, w: Any, far: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k, where=(j < far[i]) & (k <= i))
    y[i, j] = acc[i, j] + 1.0


@te.algorithm("x: f32[B, N], first: i32[B] -> m: f32[B, C], l: f32[B, C]", dims={"C": "ceil(N / 8)"})
def softmax_of_pieces(x: Any, first: Any, m: Any, l: Any) -> None:  # noqa: E741
    """The state of a softmax for pieces of eight columns, of those that are not before the first."""
    b, c, r = te.axes(b="B", c="C", r=8)
    n = te.dim("N")
    inside = (c * 8 >= first[b]) & (c * 8 + r < n)
    m[b, c] = te.max(x.padded(0)[b, c * 8 + r], over=r, where=inside)
    l[b, c] = te.sum(te.exp(x.padded(0)[b, c * 8 + r] - m[b, c]), over=r, where=inside)


@pytest.mark.parametrize("how", [
    "grid: {i: 4, j: 8}, place: {m: {loop: {k: 16}}, s: {loop: {k: 8}}}",
    "grid: {i: 1, j: 16}, place: {m: {loop: {k: 16}}, s: {loop: {k: 16}}}, persistent: {programs: 3}",
    "grid: {i: 4, j: 4}, whole: {k: 32}",
])  # fmt: skip
def test_reductions_with_and_without_loops(how: str, tmp_path: Path) -> None:
    text = (
        "texpr: 1\nalgorithm: near_rows\nvariants:\n- name: only\n  target: [sm_80]\n  when: K <= 32\n  kernels:\n"
        f"  - {{name: k, writes: [m, p, s], warps: 1, trim: {{grid: [i, j]}}, {how}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [m, p, s], grid: {i: 4, j: 8}, "
        "place: {m: {loop: {k: 8}}, s: {loop: {k: 8}}}}]}\n"
    )
    built = bundle(near_rows, text, tmp_path)
    rng = np.random.default_rng(1)
    for m, n, k in [(1, 1, 1), (21, 37, 20), (8, 40, 32), (5, 3, 0), (0, 4, 4)]:
        arrays = {name: rng.standard_normal((size, k)).astype(np.float32) for name, size in (("x", m), ("w", n))}
        assert worst(built, near_rows, arrays | {"far": rng.integers(-3, n + 3, m, dtype=np.int32)}) <= 1


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("stages", ["", "x: {at: acc.k, in: shared, depth: 3, copy: async}, "
                                        "w: {at: acc.k, in: shared, depth: 2, copy: async}"])  # fmt: skip
def test_contractions(stages: str, target: str, tmp_path: Path) -> None:
    text = (
        f"texpr: 1\nalgorithm: product_of_near_rows\nvariants:\n- name: only\n  target: [{target}]\n"
        "  assume: [finite(w)]\n  when: K % 8 == 0 and N % 8 == 0 and aligned(x, w, 16)\n  kernels:\n"
        "  - {name: k, writes: [y], warps: 1, trim: {grid: j}, grid: {i: 16, j: 16}, "
        f"place: {{acc: {{loop: {{k: 16}}, trim: [k], mma: mma}}, y: {{by: {{j: 8}}}}}}, stage: {{{stages}}}}}\n"
        f"- {{name: rest, target: {target}, kernels: [{{name: k, writes: [y], grid: {{i: 4, j: 8}}, "
        "place: {acc: {loop: {k: 8}}}}]}\n"
    )
    built = bundle(product_of_near_rows, text, tmp_path, target=target)
    rng = np.random.default_rng(2)
    for m, k, n in [(1, 8, 8), (40, 48, 56), (33, 16, 40)]:
        arrays = {"x": halves(rng, m, k), "w": halves(rng, k, n), "far": rng.integers(-3, n + 3, m, dtype=np.int32)}
        assert worst(built, product_of_near_rows, arrays) <= 1


def test_members_of_a_group(tmp_path: Path) -> None:
    text = (
        "  - {name: k, writes: [m, l], warps: 1, trim: {grid: c}, grid: {b: 4, c: 2}, "
        "online: {funcs: [m, l], at: tile, loop: {r: 4}}}\n"
    )
    built = bundle(softmax_of_pieces, text, tmp_path)
    rng = np.random.default_rng(3)
    for b, n in [(1, 1), (7, 60), (5, 33), (3, 0)]:
        x = rng.standard_normal((b, n)).astype(np.float32)
        assert worst(built, softmax_of_pieces, {"x": x, "first": rng.integers(-2, n + 9, b, dtype=np.int32)}) <= 1
