"""Stages of what an earlier kernel has stored, in the workspace or in an output: fetched like any tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst

TARGETS = ("sm_80", "sm_90a")
SIZES = ((1, 8), (3, 40), (4, 32), (9, 72), (33, 24))


@te.algorithm("x: f32[M, N] -> y: f32[M, N]")
def stencil(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    f = te.func("f")
    f[i, j] = te.tanh(x[i, j])
    y[i, j] = f.clamped()[i + 1, j] + f.clamped()[i - 1, j] * 2.0


@pytest.mark.parametrize("target", TARGETS)
def test_a_window_of_the_workspace_is_staged(target: str, tmp_path: Path) -> None:
    kernels = (
        "  - {name: a, writes: [f], grid: {i: 4, j: 32}}\n"
        "  - {name: b, writes: [y], grid: {i: 4, j: 32}, stage: {f: {at: tile, in: shared}}}\n"
    )
    built = bundle(stencil, kernels, tmp_path, target=target)
    rng = np.random.default_rng(0)
    for m, n in SIZES:
        assert worst(built, stencil, {"x": rng.standard_normal((m, n)).astype(np.float32)}) <= 1
    (text,) = (path.read_text() for path in tmp_path.glob("*/kernel.py"))
    assert "f_shared.slice" in text or "f_shared.store" in text


@te.algorithm("x: f32[M, N] -> f: f32[M, N], y: f32[N, M]")
def transposed(x: Any, f: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    f[i, j] = te.tanh(x[i, j])
    y[j, i] = f[i, j] * 2.0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("memory", ["shared", "registers"])
def test_a_tile_of_an_earlier_output_is_staged(memory: str, target: str, tmp_path: Path) -> None:
    kernels = (
        "  - {name: a, writes: [f], grid: {i: 4, j: 32}}\n"
        f"  - {{name: b, writes: [y], grid: {{i: 32, j: 32}}, stage: {{f: {{at: tile, in: {memory}}}}}}}\n"
    )
    built = bundle(transposed, kernels, tmp_path, target=target)
    rng = np.random.default_rng(1)
    for m, n in SIZES:
        assert worst(built, transposed, {"x": rng.standard_normal((m, n)).astype(np.float32)}) <= 1


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def activated_product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    f = te.func("f", "f16")
    f[i, k] = te.relu(x[i, k])
    y[i, j] = te.sum(f[i, k] * w[k, j], over=k)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["copy: async, depth: 3", "depth: 2", "ahead: 1"])
def test_an_operand_in_the_workspace_is_copied_ahead(how: str, target: str, tmp_path: Path) -> None:
    """The workspace is aligned, so that copies are asynchronous without a guard."""
    kernels = (
        "  - {name: a, writes: [f], grid: {i: 4, k: 32}}\n"
        "  - {name: b, writes: [y], grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}, "
        f"stage: {{f: {{at: y.k, in: shared, {how}}}, w: {{at: y.k, in: shared}}}}}}\n"
    )
    built = bundle(activated_product, kernels, tmp_path, target=target)
    rng = np.random.default_rng(2)
    for m, k, n in ((33, 0, 8), (5, 8, 40), (32, 16, 32), (31, 32, 40), (40, 72, 8)):
        assert worst(built, activated_product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def row_sums(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i] = te.sum(x[i, j], over=j)


@pytest.mark.parametrize("target", TARGETS)
def test_the_parts_of_a_split_reduction_are_staged(target: str, tmp_path: Path) -> None:
    kernels = (
        "  - name: parts\n    writes: [y.part]\n    grid: {i: 16, j.part: 1}\n"
        "    split_reduction: {of: [y], over: j, parts: 4}\n    place: {y.part: {loop: {j: 16}}}\n"
        "  - {name: whole, writes: [y], grid: {i: 16}, whole: {j.part: 4}, "
        "stage: {y.part: {at: tile, in: shared, copy: async}}}\n"
    )
    built = bundle(row_sums, kernels, tmp_path, target=target)
    rng = np.random.default_rng(3)
    for m, n in SIZES:
        assert worst(built, row_sums, {"x": rng.standard_normal((m, n)).astype(np.float32)}) <= 1
