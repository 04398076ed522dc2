"""Outputs that the copy engine stores, on the emulator: pieces, slots, edges, and tiles that follow each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from tests.integration.test_boxes import TARGETS, stages, variants


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f16[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j]


@te.algorithm("x: f32[B, M, N] -> y: f32[B, M, N]", require=["N % 4 == 0"])
def doubled(x: Any, y: Any) -> None:
    b, i, j = te.axes(b="B", i="M", j="N")
    y[b, i, j] = x[b, i, j] * 2


SIZES = ((33, 8, 40), (97, 48, 72), (1, 16, 8), (64, 0, 64), (32, 32, 96), (130, 24, 136))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("how", "grid"),
    [
        ("via: shared, copy: tma", "grid: {i: 32, j: 32}"),
        ("by: {j: 16}, via: shared, copy: tma, depth: 2", "grid: {i: 32, j: 64}"),
        ("by: {j: 16}, via: shared, copy: tma, depth: 3", "grid: {i: 32, j: 64}, persistent: {programs: 2}"),
    ],
    ids=["a tile", "pieces", "slots that go round"],
)
def test_a_tile_is_stored_in_boxes(how: str, grid: str, target: str, tmp_path: Path) -> None:
    place = f"place: {{acc: {{at: tile, loop: {{k: 16}}}}, y: {{{how}}}}}"
    entry = stages("acc.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    plain = "grid: {i: 32, j: 32}, place: {acc: {at: tile, loop: {k: 16}}}"
    text = variants("product", target, f"{grid}, {place}, stage: {{{entry}}}", plain, "x, w, y")
    built = bundle(product, text, tmp_path, target=target)
    rng = np.random.default_rng(0)
    for m, k, n in SIZES:
        assert worst(built, product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1, (m, k, n)


def test_a_role_that_computes_stores_while_the_next_tile_is_fetched(tmp_path: Path) -> None:
    place = "place: {acc: {at: tile, loop: {k: 16}}, y: {by: {j: 16}, via: shared, copy: tma, depth: 2}}"
    entry = stages("acc.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    roles = "roles: {load: {warps: 1, runs: [stage.x, stage.w]}, compute: {warps: 4, runs: [acc, y]}}"
    kernel = f"grid: {{i: 32, j: 32}}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {roles}"
    plain = "grid: {i: 32, j: 32}, place: {acc: {at: tile, loop: {k: 16}}}"
    built = bundle(product, variants("product", "sm_90a", kernel, plain, "x, w, y"), tmp_path, target="sm_90a")
    rng = np.random.default_rng(1)
    for m, k, n in SIZES:
        assert worst(built, product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1, (m, k, n)


def test_an_output_in_a_loop_is_stored_step_by_step(tmp_path: Path) -> None:
    place = "place: {y: {loop: {j: 32}, via: shared, copy: tma, depth: 2}}"
    kernel, plain = f"grid: {{b: 1, i: 16}}, {place}", "grid: {b: 1, i: 16}, place: {y: {loop: {j: 32}}}"
    built = bundle(doubled, variants("doubled", "sm_90a", kernel, plain, "y"), tmp_path, target="sm_90a")
    rng = np.random.default_rng(2)
    for b, m, n in ((1, 1, 4), (2, 17, 68), (3, 16, 32), (1, 33, 100), (2, 5, 0)):
        assert worst(built, doubled, {"x": rng.standard_normal((b, m, n)).astype(np.float32)}) <= 1, (b, m, n)
