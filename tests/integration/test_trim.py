"""Trimmed loops compute what the guard says: bounds from axes, dims and data, both modes, with and without stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.plan.build import plan_variant
from texpr.plan.ir import Reduction
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


@te.algorithm("x: f32[M, K], lo: i32[M], hi: i64[M] -> s: f32[M], m: f32[M], p: i32[M]")
def between(x: Any, lo: Any, hi: Any, s: Any, m: Any, p: Any) -> None:
    """Bounds found in data: a part of each row."""
    i, k = te.axes(i="M", k="K")
    inside = (k >= lo[i]) & (k < hi[i])
    s[i] = te.sum(x[i, k], over=k, where=inside)
    m[i], p[i] = te.argmax(x[i, k], over=k, where=inside)


@te.algorithm("a: f16[M, K], b: f16[K, N] -> y: f32[M, N]")
def band(a: Any, b: Any, y: Any) -> None:
    """A band around a diagonal of slope two."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(a[i, k] * b[k, j], over=k, where=(2 * k >= i - 9) & (i + 5 > k))
    y[i, j] = acc[i, j]


@te.algorithm("x: i32[N], v: i32[N, C], n: i32[N] -> y: i32[N, C]")
def picked(x: Any, v: Any, n: Any, y: Any) -> None:
    """Equality is two half-spaces."""
    i, k, c = te.axes(i="N", k="N", c="C")
    y[i, c] = te.sum(v[k, c] * (n[i] + 1), over=k, where=k == x[i])


@te.algorithm("x: f32[M, K], n: i32[B] -> y: f32[B, M]")
def prefix(x: Any, n: Any, y: Any) -> None:
    b, i, k = te.axes(b="B", i="M", k="K")
    y[b, i] = te.sum(x[i, k], over=k, where=k < n[b])


@te.algorithm("x: f32[N], w: f32[R] -> y: f32[N]", static={"R": 7, "d": 3})
def phases(x: Any, w: Any, y: Any, *, d: int) -> None:
    i, r = te.axes(i="N", r="R")
    y[i] = te.sum(x.padded(0)[(i - r) // d] * w[r], over=r, where=((i - 2 * r + 4) % d == 0) & (r <= i))


def kernel(writes: str, *directives: str) -> str:
    lines = ["- name: k", f"  writes: [{writes}]", "  warps: 1", *(f"  {line}" for line in directives)]
    return "".join(f"  {line}\n" for line in lines)


def at_edges(rng: np.random.Generator, shape: tuple[int, ...], most: int, dtype: type) -> Any:
    """Bounds inside, at and far beyond the ends of an axis."""
    info = np.iinfo(dtype)
    choices = [0, 1, most - 1, most, most + 1, -1, -7, info.min, info.max, *range(0, most + 1, 5)]
    return rng.choice(np.array(choices, dtype), shape)


@pytest.mark.parametrize("mode", ["[k]", "{k: split}"])
@pytest.mark.parametrize("tile, step", [(1, 8), (4, 16)])
def test_bounds_found_in_data(mode: str, tile: int, step: int, tmp_path: Path) -> None:
    loop = f"{{at: tile, loop: {{k: {step}}}, trim: {mode}}}"
    both = f"place: {{s: {loop}, m: {loop}}}"
    built = bundle(between, kernel("s, m, p", f"grid: {{i: {tile}}}", both), tmp_path)
    rng = np.random.default_rng(3)
    for m, k in [(1, 1), (5, 16), (9, 37), (3, 0)]:
        x = rng.standard_normal((m, k)).astype(np.float32)
        bounds = {"lo": at_edges(rng, (m,), k, np.int32), "hi": at_edges(rng, (m,), k, np.int64)}
        assert worst(built, between, {"x": x, **bounds}) <= 1


STAGES = {
    "none": "",
    "sync": "a: {at: acc.k, in: shared}, b: {at: acc.k, in: shared}",
    "ahead": "a: {at: acc.k, in: shared, depth: 1, ahead: 1}, b: {at: acc.k, in: shared, depth: 2, ahead: 1}",
    "async": "a: {at: acc.k, in: shared, depth: 3, copy: async}, b: {at: acc.k, in: shared, depth: 2, copy: async}",
}


@pytest.mark.parametrize("mode", ["mask", "split"])
@pytest.mark.parametrize("stages", list(STAGES))
def test_pipelines_run_over_what_is_left(stages: str, mode: str, tmp_path: Path) -> None:
    text = (
        "texpr: 1\nalgorithm: band\nvariants:\n- name: only\n  target: [sm_80]\n  assume: [finite(b)]\n"
        "  when: K % 8 == 0 and N % 8 == 0 and aligned(a, b, 16)\n  kernels:\n  - name: k\n    writes: [y]\n"
        "    grid: {i: 16, j: 32}\n    warps: 1\n"
        f"    place: {{acc: {{at: tile, loop: {{k: 16}}, trim: {{k: {mode}}}, mma: mma}}}}\n"
        f"    stage: {{{STAGES[stages]}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [y], grid: {i: 1, j: 32}, "
        "place: {acc: {loop: {k: 1}, trim: [k]}}}]}\n"
    )
    built = bundle(band, text, tmp_path)
    rng = np.random.default_rng(4)
    for m, n, k in [(1, 8, 8), (40, 40, 16), (70, 32, 104), (90, 8, 48)]:
        assert worst(built, band, {"a": halves(rng, m, k), "b": halves(rng, k, n)}) <= 1


@pytest.mark.parametrize("tile, step, mode", [(1, 1, "mask"), (4, 8, "mask"), (4, 8, "split"), (1, 4, "split")])
def test_an_equality_bounds_both_ends(tile: int, step: int, mode: str, tmp_path: Path) -> None:
    place = f"y: {{at: tile, loop: {{k: {step}}}, trim: {{k: {mode}}}}}"
    built = bundle(picked, kernel("y", f"grid: {{i: {tile}, c: 8}}", f"place: {{{place}}}"), tmp_path)
    rng = np.random.default_rng(5)
    for n, c in [(1, 1), (13, 9), (33, 4)]:
        arrays = {
            "x": rng.integers(-2, n + 2, n, dtype=np.int32),
            "v": rng.integers(-99, 99, (n, c), dtype=np.int32),
            "n": rng.integers(0, 9, n, dtype=np.int32),
        }
        assert worst(built, picked, arrays) <= 1


@pytest.mark.parametrize("mode", ["mask", "split"])
def test_a_bound_that_is_the_same_all_over_the_tile(mode: str, tmp_path: Path) -> None:
    place = f"y: {{at: tile, loop: {{k: 8}}, trim: {{k: {mode}}}}}"
    built = bundle(prefix, kernel("y", "grid: {b: 1, i: 8}", f"place: {{{place}}}"), tmp_path)
    rng = np.random.default_rng(6)
    for b, m, k in [(3, 5, 20), (9, 8, 8)]:
        x = rng.standard_normal((m, k)).astype(np.float32)
        assert worst(built, prefix, {"x": x, "n": at_edges(rng, (b,), k, np.int32)}) <= 1


@pytest.mark.parametrize("cut", ["grid: {i: 1}", "split: {i: {into: [io, ii], by: 3}}\n    grid: {ii: 1, io: 16}"])
def test_a_congruence_makes_the_loop_step(cut: str, tmp_path: Path) -> None:
    built = bundle(phases, kernel("y", cut, "place: {y: {at: tile, loop: {r: 1}, trim: [r]}}"), tmp_path)
    rng = np.random.default_rng(7)
    for n in (1, 2, 17, 50):
        arrays = {"x": rng.standard_normal(n).astype(np.float32), "w": rng.standard_normal(7).astype(np.float32)}
        assert worst(built, phases, arrays) <= 1


@te.algorithm("x: f32[K], w: f32[M] -> y: f32[M]")
def residues(x: Any, w: Any, y: Any) -> None:
    i, k = te.axes(i="M", k="K")
    y[i] = te.sum(x[k] * w[i], over=k, where=((k + i) % 4 == 1) & (k <= i + 9))


@pytest.mark.parametrize("mode", ["mask", "split"])
def test_a_split_axis_steps_by_a_congruence_many_points_at_a_time(mode: str, tmp_path: Path) -> None:
    """Of every four points one is visited, eight of these at a time."""
    cut = "split: {i: {into: [io, ii], by: 4}, k: {into: [ko, ki], by: 4}}"
    place = f"place: {{y: {{loop: {{ki: 1, ko: 8}}, trim: {{ki: mask, ko: {mode}}}}}}}"
    text = kernel("y", cut, "grid: {io: 8, ii: 1}", place)
    built = bundle(residues, text, tmp_path)
    rng = np.random.default_rng(8)
    for m, k in [(0, 1), (5, 0), (7, 9), (40, 70), (33, 32)]:
        arrays = {"x": rng.standard_normal(k).astype(np.float32), "w": rng.standard_normal(m).astype(np.float32)}
        assert worst(built, residues, arrays) <= 1
    head = "texpr: 1\nalgorithm: residues\nvariants:\n- name: only\n  target: [sm_80]\n  kernels:\n"
    (variant,) = load_schedule(head + text, "s.yaml").variants
    (reduction, _) = plan_variant(residues.bind({}, {}), variant, TARGETS["sm_80"]).kernels[0].nodes
    assert isinstance(reduction, Reduction)
    outer = reduction.loops[0]
    assert outer.axis.name == "ki" and outer.trim is not None and outer.trim.congruence is not None


def test_what_a_trimmed_guard_excludes_is_never_multiplied(tmp_path: Path) -> None:
    """Infinities where the guard is false contribute nothing, exactly."""
    place = "y: {at: tile, loop: {k: 8}, trim: {k: split}}"
    built = bundle(prefix, kernel("y", "grid: {b: 1, i: 4}", f"place: {{{place}}}"), tmp_path)
    x = np.ones((6, 30), np.float32)
    x[:, 11:] = np.inf
    x[:, 13:] = np.nan
    np.testing.assert_array_equal(built(x, np.array([0, 8, 11], np.int32)), [[0] * 6, [8] * 6, [11] * 6])


