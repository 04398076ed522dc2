"""Roles whose threads gather, on the emulator: rows that an argument names, guards, tiles that are stored, beside boxes
of the copy engine, over tiles of a persistent program, whatever the order in which warps run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import halves
from tests.integration.test_boxes import TARGETS, stages, variants
from tests.integration.test_roles import built, right


@te.algorithm(
    "x: f16[P, K], row: i32[M] in [-1, P), w: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"]
)
def picked(x: Any, row: Any, w: Any, y: Any) -> None:
    """Rows of x that ``row`` names, none where it is negative, times w."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[row[i], k] * w[k, j], over=k, where=row[i] >= 0)


@te.algorithm("x: f32[P, K], row: i32[M] in [0, P), s: f32[K] -> y: f32[M, K]", require=["K % 4 == 0"])
def scaled_rows(x: Any, row: Any, s: Any, y: Any) -> None:
    i, k = te.axes(i="M", k="K")
    y[i, k] = x[row[i], k] * s[k]


@te.algorithm(
    "x: f16[P, K], at: i32[V, M] in [-1, P), g: f16[Q, K], to: i32[V, N] in [0, Q) -> y: f32[M, N]",
    require=["K % 8 == 0"],
)
def matched(x: Any, at: Any, g: Any, to: Any, y: Any) -> None:
    """Products of rows of x with rows of g, which both change from v to v."""
    i, j, v, k = te.axes(i="M", j="N", v="V", k="K")
    y[i, j] = te.sum(x[at[v, i], k] * g[to[v, j], k], over=(v, k), where=at[v, i] >= 0)


PLAIN = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"


def roles(warps: int, fetched: str, computes: str = "y", **more: str) -> str:
    parts = [("gather", warps, fetched), ("compute", 4, computes), *((name, 1, runs) for name, runs in more.items())]
    each = ", ".join(f"{name}: {{warps: {count}, runs: [{runs}]}}" for name, count, runs in parts)
    return f"roles: {{{each}}}"


def rows_are_right(kernel: str, target: str, folder: Path) -> None:
    text = variants("picked", target, kernel, PLAIN, "x, w").replace("  kernels:", "  assume: [finite(w)]\n  kernels:")
    bundles = built(picked, text, folder, target)
    rng = np.random.default_rng(1)
    for m, k, n, p in ((97, 48, 72, 5), (64, 16, 64, 100), (33, 0, 40, 3), (5, 112, 8, 7), (0, 8, 8, 2)):
        row = rng.integers(-1, p, m).astype(np.int32)
        x, w = halves(rng, p, k), halves(rng, k, n)
        assert right(bundles, picked, x=x, row=row, w=w), (m, k, n)


RINGS = {
    "beside boxes": (stages("y.k", x="copy: async, depth: 3", w="copy: tma, depth: 3"), roles(4, "stage.x, stage.w")),
    "both by one warp": (stages("y.k", x="copy: async, depth: 2", w="copy: async, depth: 2"),
                         roles(1, "stage.x, stage.w")),
    "one tile of each": (stages("y.k", x="copy: async", w="copy: tma"), roles(2, "stage.x, stage.w")),
    "through registers": (stages("y.k", x="copy: sync, depth: 3", w="copy: tma, depth: 3"),
                          roles(4, "stage.x, stage.w")),
    "in every way": (stages("y.k", x="copy: sync, depth: 2", w="copy: async, depth: 2"), roles(2, "stage.x, stage.w")),
    "by two roles": (stages("y.k", x="copy: async, depth: 4", w="copy: tma, depth: 2"),
                     roles(4, "stage.x", load="stage.w")),
    "beside copies of their reader": (stages("y.k", x="copy: async, depth: 2", w="copy: async, depth: 3"),
                                      roles(4, "stage.x", "y, stage.w")),
}  # fmt: skip


@pytest.mark.parametrize("how", RINGS)
def test_rows_that_another_role_gathers(how: str, tmp_path: Path) -> None:
    entry, who = RINGS[how]
    kernel = f"grid: {{i: 32, j: 32}}, place: {{y: {{loop: {{k: 16}}}}}}, stage: {{{entry}}}, {who}"
    rows_are_right(f"{kernel}, persistent: {{programs: 2}}", "sm_90a", tmp_path)


@pytest.mark.parametrize(("copy", "depth"), [("async", 1), ("async", 2), ("async", 4), ("sync", 3)])
def test_a_warpgroup_multiplies_what_another_has_gathered(copy: str, depth: int, tmp_path: Path) -> None:
    entry = stages("y.k", x=f"copy: {copy}, depth: {depth}", w=f"copy: tma, depth: {depth}")
    place = "place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j, a: shared}}}"
    kernel = f"grid: {{i: 64, j: 32}}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}"
    rows_are_right(f"{kernel}, {roles(4, 'stage.x, stage.w')}", "sm_90a", tmp_path)


def test_rows_are_gathered_without_warpgroups(tmp_path: Path) -> None:
    entry, who = RINGS["beside boxes"]
    rows_are_right(f"{PLAIN}, stage: {{{entry}}}, {who}", TARGETS[1], tmp_path)


def test_rows_of_a_whole_tile_are_gathered_for_the_next(tmp_path: Path) -> None:
    entry = stages("tile", x="copy: async", s="copy: tma")
    kernel = f"grid: {{i: 16, k: 32}}, stage: {{{entry}}}, {roles(2, 'stage.x, stage.s')}, persistent: {{programs: 2}}"
    bundles = built(scaled_rows, variants("scaled_rows", "sm_90a", kernel, "grid: {i: 16, k: 32}", "x, s"), tmp_path,
                    "sm_90a")  # fmt: skip
    rng = np.random.default_rng(2)
    for m, k, p in ((1, 4, 1), (17, 36, 5), (50, 64, 40), (3, 0, 2), (0, 8, 2)):
        row = rng.integers(0, p, m).astype(np.int32)
        x, s = (rng.standard_normal(shape).astype(np.float32) for shape in ((p, k), (k,)))
        assert right(bundles, scaled_rows, x=x, row=row, s=s), (m, k)


def test_a_stage_of_the_program_is_fetched_once_by_its_reader(tmp_path: Path) -> None:
    entry = f"{stages('program', w='copy: async')}, {stages('tile', x='copy: async')}"
    kernel = f"grid: {{i: 32}}, whole: {{j: 32, k: 32}}, persistent: {{programs: 2}}, stage: {{{entry}}}"
    text = variants("picked", "sm_90a", f"{kernel}, {roles(2, 'stage.x', 'y, stage.w')}", PLAIN, "x, w")
    text = text.replace("when:", "when: N <= 32 and K <= 32 and")
    bundles = built(picked, text.replace("  kernels:", "  assume: [finite(w)]\n  kernels:"), tmp_path, "sm_90a")
    rng = np.random.default_rng(4)
    for m, k, n in ((97, 32, 32), (5, 24, 8), (64, 8, 16)):
        row = rng.integers(-1, 7, m).astype(np.int32)
        assert right(bundles, picked, x=halves(rng, 7, k), row=row, w=halves(rng, k, n)), (m, k, n)


def test_groups_of_warps_multiply_parts_of_what_one_role_has_gathered(tmp_path: Path) -> None:
    """Steps that no row of one part is live in are steps of both."""
    entry = stages("y.k", x="copy: async, depth: 2", g="copy: async, depth: 2")
    place = "place: {y: {loop: {v: 1, k: 32}, skip: {v: {test: mask}}, mma: {op: wgmma, rows: i, cols: j, a: shared}}}"
    who = "gather: {warps: 4, runs: [stage.x, stage.g]}, compute: {warps: 4, times: 2, split: i, runs: [y]}"
    kernel = f"grid: {{i: 128, j: 32}}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, roles: {{{who}}}"
    plain = "grid: {i: 32, j: 32}, place: {y: {loop: {v: 1, k: 16}}}"
    text = variants("matched", "sm_90a", kernel, plain, "x, g").replace("when:", "when: V <= 8 and")
    text = text.replace("  kernels:", "  assume: [finite(g)]\n  kernels:")
    bundles = built(matched, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(5)
    for m, k, n, v in ((300, 40, 33, 5), (5, 32, 8, 1), (128, 0, 8, 2)):
        at = rng.integers(-1, 4, (v, m)).astype(np.int32)
        at[:, 64:200] = at[v // 2 : v // 2 + 1] = -1
        to = rng.integers(0, 6, (v, n)).astype(np.int32)
        assert right(bundles, matched, x=halves(rng, 4, k), at=at, g=halves(rng, 6, k), to=to), (m, k, n, v)


HELD = {
    "one step ahead": "at: {at: y.k, in: registers, ahead: 1}",
    "before the slot is free": "at: {at: y.k, in: registers}",
    "both, by distances of their own": "at: {at: y.k, in: registers, ahead: 3}, to: {at: y.k, in: registers, ahead: 1}",
    "both, equally far": "at: {at: y.k, in: registers, ahead: 2}, to: {at: y.k, in: registers, ahead: 2}",
}


@pytest.mark.parametrize(("how", "skip"), zip(HELD, [", skip: {v: {test: mask}}", ""] * 2, strict=True))
def test_indices_are_held_some_steps_ahead(how: str, skip: str, tmp_path: Path) -> None:
    entry = f"{stages('y.k', x='copy: async, depth: 2', g='copy: async, depth: 2')}, {HELD[how]}"
    runs = ", ".join(f"stage.{name}" for name in ("x", "g", "at", "to") if f"{name}: {{" in entry)
    place = f"place: {{y: {{loop: {{v: 1, k: 32}}{skip}, mma: {{op: wgmma, rows: i, cols: j, a: shared}}}}}}"
    kernel = f"grid: {{i: 64, j: 32}}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {roles(4, runs)}"
    plain = "grid: {i: 32, j: 32}, place: {y: {loop: {v: 1, k: 16}}}"
    text = variants("matched", "sm_90a", kernel, plain, "x, g").replace("when:", "when: V <= 8 and")
    text = text.replace("  kernels:", "  assume: [finite(g)]\n  kernels:")
    bundles = built(matched, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(3)
    sizes = (65, 40, 33, 3), (5, 32, 8, 1), (64, 64, 64, 5), (130, 8, 40, 0), (1, 0, 8, 2), (70, 72, 9, 8)
    for m, k, n, v in sizes:
        at = rng.integers(-1, 4, (v, m)).astype(np.int32)
        at[v // 2 : v // 2 + 1] = -1
        to = rng.integers(0, 6, (v, n)).astype(np.int32)
        assert right(bundles, matched, x=halves(rng, 4, k), at=at, g=halves(rng, 6, k), to=to), (m, k, n, v)
