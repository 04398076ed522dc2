"""Stages that the copy engine fetches, on the emulator: boxes of every rank, rings that go on from one use to the next,
and zeros where a box reaches outside of its tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.plan.build import plan_variant
from texpr.plan.show import show_variant
from texpr.schedule import load_schedule
from texpr.targets import TARGETS as TARGET_RECORDS

TARGETS = ("sm_90a", "sm_120a")


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k] * w[k, j], over=k)


@te.algorithm("x: f16[K, M], w: f16[N, K] -> y: f32[M, N]", require=["K % 8 == 0", "M % 8 == 0"])
def turned(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[k, i] * w[j, k], over=k)


@te.algorithm("x: f32[M, A, B], u: f32[A, B], v: f32[B] -> y: f32[M]", require=["B % 4 == 0"])
def weighted(x: Any, u: Any, v: Any, y: Any) -> None:
    i, a, b = te.axes(i="M", a="A", b="B")
    y[i] = te.sum(x[i, a, b] * u[a, b] * v[b], over=(a, b))


@te.algorithm(
    "x: f16[N, H, W, C], w: f16[R, S, C, K] -> y: f32[N, P, Q, K]", static=dict(R=3, S=3),
    dims=dict(P="H", Q="W"), require=["C % 8 == 0", "K % 8 == 0", "H >= 1", "W >= 1"],
)  # fmt: skip
def convolved(x: Any, w: Any, y: Any) -> None:
    n, p, q, k, r, s, c = te.axes(n="N", p="P", q="Q", k="K", r="R", s="S", c="C")
    y[n, p, q, k] = te.sum(x.padded(0)[n, p + r - 1, q + s - 1, c] * w[r, s, c, k], over=(r, s, c))


@te.algorithm(
    "q: f16[B, (G, R), S, D], k: f16[B, G, L, D] -> y: f32[B, (G, R), S, L]", static=dict(D=32), require=["L >= 1"],
)  # fmt: skip
def scores(q: Any, k: Any, y: Any) -> None:
    b, g, r, i, j, d = te.axes(b="B", g="G", r="R", i="S", j="L", d="D")
    y[b, (g, r), i, j] = te.sum(q[b, (g, r), i, d] * k[b, g, j, d], over=d)


@te.algorithm("l: f16[M, K], x: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def triangle(l: Any, x: Any, y: Any) -> None:  # noqa: E741
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(l[i, k] * x[k, j], over=k, where=k <= i)


def variants(name: str, target: str, kernel: str, plain: str, aligned: str) -> str:
    return (
        f"texpr: 1\nalgorithm: {name}\nvariants:\n- name: aligned\n  target: [{target}]\n"
        f"  when: aligned({aligned}, 16)\n  kernels:\n  - {{name: k, writes: [y], {kernel}}}\n"
        f"- name: rest\n  target: [{target}]\n  kernels:\n  - {{name: k, writes: [y], {plain}}}\n"
    )


def stages(position: str, **entries: str) -> str:
    return ", ".join(f"{name}: {{at: {position}, in: shared, {entry}}}" for name, entry in entries.items())


PRODUCTS = {
    "equally far": stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3"),
    "not ahead": stages("y.k", x="copy: tma", w="copy: tma"),
    "by distances of their own": stages("y.k", x="copy: tma, depth: 4, ahead: 1", w="copy: tma, depth: 2"),
    "beside asynchronous copies": stages("y.k", x="copy: tma, depth: 3", w="copy: async, depth: 4"),
    "beside copies through registers": stages("y.k", x="depth: 2, ahead: 2", w="copy: tma, depth: 3"),
}
SIZES = ((33, 0, 8), (5, 8, 40), (32, 16, 32), (1, 24, 8), (31, 32, 40), (17, 48, 8), (40, 72, 40))


@pytest.mark.parametrize("entry", PRODUCTS.values(), ids=PRODUCTS.keys())
def test_operands_arrive_in_every_step(entry: str, tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    text = variants("product", "sm_90a", f"{grid}, stage: {{{entry}}}", grid, "x, w")
    built = bundle(product, text, tmp_path, target="sm_90a")
    rng = np.random.default_rng(0)
    for m, k, n in SIZES:
        assert worst(built, product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1


@pytest.mark.parametrize("target", TARGETS)
def test_a_ring_goes_on_from_tile_to_tile(target: str, tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}, persistent: {programs: 2}, place: {y: {loop: {k: 16}}}"
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    text = variants("product", target, f"{grid}, stage: {{{entry}}}", grid, "x, w")
    built = bundle(product, text, tmp_path, target=target)
    rng = np.random.default_rng(1)
    for m, k, n in ((97, 48, 72), (64, 64, 64), (33, 16, 40), (100, 0, 8)):
        assert worst(built, product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1


def test_operands_may_lie_the_other_way_round(tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    text = variants("turned", "sm_90a", f"{grid}, stage: {{{entry}}}", grid, "x, w")
    built = bundle(turned, text, tmp_path, target="sm_90a")
    rng = np.random.default_rng(2)
    for m, k, n in ((40, 8, 33), (8, 72, 5), (32, 16, 32)):
        assert worst(built, turned, {"x": halves(rng, k, m), "w": halves(rng, n, k)}) <= 1


@te.algorithm("x: f32[M, A, B], t: f32[A], v: f32[B] -> y: f32[M]", require=["B % 4 == 0"])
def scaled(x: Any, t: Any, v: Any, y: Any) -> None:
    i, a, b = te.axes(i="M", a="A", b="B")
    y[i] = te.sum(x[i, a, b] * t[a] * v[b], over=(a, b))


@pytest.mark.parametrize("how", ["depth: 3", "depth: 1"])
def test_boxes_of_one_two_and_three_dims_share_a_pipeline(how: str, tmp_path: Path) -> None:
    grid = "grid: {i: 4}, place: {y: {loop: {a: 2, b: 32}}}"
    entry = stages("y.b", x=f"copy: tma, {how}", u=f"copy: tma, {how}", v=f"copy: tma, {how}")
    text = variants("weighted", "sm_90a", f"{grid}, stage: {{{entry}}}", grid, "x, u, v")
    built = bundle(weighted, text, tmp_path, target="sm_90a")
    rng = np.random.default_rng(3)
    for m, a, b in ((5, 3, 12), (4, 2, 8), (1, 1, 4), (9, 5, 40), (3, 0, 8), (3, 2, 0)):
        x, u, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, a, b), (a, b), (b,)))
        assert worst(built, weighted, {"x": x, "u": u, "v": v}) <= 1


def test_a_stage_of_an_outer_loop_has_a_ring_of_its_own(tmp_path: Path) -> None:
    grid = "grid: {i: 4}, place: {y: {loop: {a: 4, b: 32}}}"
    inner, outer = stages("y.b", x="copy: tma, depth: 3", v="copy: tma, depth: 2"), stages("y.a", t="copy: tma")
    text = variants("scaled", "sm_90a", f"{grid}, stage: {{{inner}, {outer}}}", grid, "x, t, v")
    built = bundle(scaled, text, tmp_path, target="sm_90a")
    rng = np.random.default_rng(3)
    for m, a, b in ((5, 3, 12), (9, 13, 132), (3, 0, 8), (3, 2, 0), (4, 8, 64)):
        x, t, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, a, b), (a,), (b,)))
        assert worst(built, scaled, {"x": x, "t": t, "v": v}) <= 1


@pytest.mark.parametrize("target", TARGETS)
def test_shifted_boxes_bring_zeros_from_outside(target: str, tmp_path: Path) -> None:
    grid = "grid: {n: 1, p: 2, q: 16, k: 16}, place: {y: {loop: {r: 1, s: 1, c: 16}}}"
    entry = stages("y.c", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    text = variants("convolved", target, f"{grid}, stage: {{{entry}}}", grid, "x, w")
    built = bundle(convolved, text, tmp_path, target=target)
    rng = np.random.default_rng(4)
    for n, h, w, c, k in ((1, 1, 1, 8, 8), (2, 5, 17, 24, 8), (1, 3, 16, 16, 24), (3, 2, 33, 8, 16), (1, 4, 4, 0, 8)):
        inputs = {"x": halves(rng, n, h, w, c), "w": halves(rng, 3, 3, c, k)}
        assert worst(built, convolved, inputs) <= 1


def test_composite_dims_keep_their_true_rank(tmp_path: Path) -> None:
    grid = "grid: {b: 1, g: 1, r: 1, i: 16, j: 16}, whole: {d: 32}"
    entry = stages("tile", q="copy: tma", k="copy: tma")
    text = variants("scores", "sm_90a", f"{grid}, persistent: {{programs: 3}}, stage: {{{entry}}}", grid, "q, k")
    built = bundle(scores, text, tmp_path, target="sm_90a")
    rng = np.random.default_rng(5)
    for b, g, r, s, length in ((1, 1, 1, 1, 1), (2, 2, 3, 17, 33), (1, 3, 2, 16, 16)):
        inputs = {"q": halves(rng, b, g, r, s, 32), "k": halves(rng, b, g, length, 32)}
        assert worst(built, scores, inputs) <= 1


@pytest.mark.parametrize("mode", ["split", "mask"])
def test_parts_of_a_trimmed_loop_share_a_ring(mode: str, tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}"
    place = f"place: {{y: {{loop: {{k: 16}}, trim: {{k: {mode}}}}}}}"
    entry = stages("y.k", l="copy: tma, depth: 3", x="copy: tma, depth: 3")
    plain = f"{grid}, place: {{y: {{loop: {{k: 16}}}}}}"
    text = variants("triangle", "sm_90a", f"{grid}, {place}, stage: {{{entry}}}", plain, "l, x")
    text = text.replace("kernels:", "assume: [finite(l), finite(x)]\n  kernels:")
    built = bundle(triangle, text, tmp_path, target="sm_90a")
    rng = np.random.default_rng(6)
    for m, k, n in ((33, 40, 8), (97, 96, 40), (1, 8, 8), (64, 16, 32), (40, 0, 8)):
        assert worst(built, triangle, {"l": halves(rng, m, k), "x": halves(rng, k, n)}) <= 1


@pytest.mark.parametrize("target", TARGETS)
def test_the_last_part_of_a_split_reduction_ends_where_its_tensors_do(target: str, tmp_path: Path) -> None:
    """The engine brings zeros from there on: no guard is left to be tested, also where a whole part lies outside."""
    parts = "split_reduction: {of: [y], over: k, parts: 4}"
    place = "place: {y.part: {loop: {k: 16}, mma: {op: mma, rows: i, cols: j}}}"
    entry = stages("y.part.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    kernels = (
        f"{{name: part, writes: [y.part], grid: {{i: 32, j: 32, k.part: 1}}, {parts}, {place}, stage: {{{entry}}}}}",
        "{name: whole, writes: [y], grid: {i: 32, j: 32}, whole: {k.part: 4}}",
    )
    text = variants("product", target, "", "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}", "x, w")
    text = text.replace("{name: k, writes: [y], }", "\n  - ".join(kernels)).replace("when:", "when: K >= 1 and")
    algorithm = product.bind({})
    plan = plan_variant(algorithm, load_schedule(text, "parts.yaml").variants[0], TARGET_RECORDS[target])
    assert "zero unless" not in show_variant(plan, algorithm)
    built = bundle(product, text, tmp_path, target=target)
    rng = np.random.default_rng(9)
    for m, k, n in ((33, 200, 8), (5, 24, 40), (32, 64, 32), (1, 136, 8), (31, 0, 40)):
        assert worst(built, product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1
