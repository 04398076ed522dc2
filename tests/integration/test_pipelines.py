"""Stages that run ahead of their loops by different distances, on the emulator: the numbers are right, and so are the
waits and barriers, for every number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.compile import package_of
from texpr.plan.build import plan_variant
from texpr.plan.show import show_variant
from texpr.schedule import load_schedule
from texpr.targets import TARGETS as TARGETS_BY_NAME

TARGETS = ("sm_80", "sm_90a")


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k] * w[k, j], over=k)


@te.algorithm("x: f32[M, A, B], u: f32[A, B], v: f32[B] -> y: f32[M]", require=["B % 4 == 0"])
def weighted(x: Any, u: Any, v: Any, y: Any) -> None:
    i, a, b = te.axes(i="M", a="A", b="B")
    y[i] = te.sum(x[i, a, b] * u[a, b] * v[b], over=(a, b))


def variants(name: str, target: str, kernel: str, plain: str, aligned: str) -> str:
    return (
        f"texpr: 1\nalgorithm: {name}\nvariants:\n- name: aligned\n  target: [{target}]\n"
        f"  when: aligned({aligned}, 16)\n  kernels:\n  - {{name: k, writes: [y], {kernel}}}\n"
        f"- name: rest\n  target: [{target}]\n  kernels:\n  - {{name: k, writes: [y], {plain}}}\n"
    )


def stages(position: str, **entries: str) -> str:
    return ", ".join(f"{name}: {{at: {position}, in: shared, {entry}}}" for name, entry in entries.items())


PRODUCTS = {
    "async of 2 and 3 ahead": stages("y.k", x="copy: async, depth: 3", w="copy: async, depth: 4"),
    "async of 0 and 2 ahead": stages("y.k", x="copy: async", w="copy: async, depth: 3"),
    "async of 1 and 3 ahead in 4": stages("y.k", x="copy: async, depth: 4, ahead: 1", w="copy: async, depth: 4"),
    "sync of 3 and 2 ahead": stages("y.k", x="depth: 4", w="depth: 2, ahead: 2"),
    "sync of 3 and async of 2 ahead": stages("y.k", x="depth: 3, ahead: 3", w="copy: async, depth: 3"),
    "sync of 1 and async of 1 ahead": stages("y.k", x="ahead: 1", w="copy: async, depth: 2"),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("entry", PRODUCTS.values(), ids=PRODUCTS.keys())
def test_operands_run_ahead_by_distances_of_their_own(entry: str, target: str, tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    built = bundle(
        product, variants("product", target, f"{grid}, stage: {{{entry}}}", grid, "x, w"), tmp_path, target=target
    )
    rng = np.random.default_rng(0)
    for m, k, n in ((33, 0, 8), (5, 8, 40), (32, 16, 32), (1, 24, 8), (31, 32, 40), (17, 48, 8), (40, 72, 40)):
        assert worst(built, product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1


ROWS = {
    "async": ("copy: async, depth: 2", "copy: async, depth: 4", "copy: async, depth: 4, ahead: 2"),
    "sync": ("depth: 3", "depth: 2, ahead: 2", "ahead: 1"),
    "mixed": ("copy: async, depth: 3", "depth: 4, ahead: 4", "copy: async"),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ROWS.values(), ids=ROWS.keys())
def test_loops_are_one_pipeline_of_any_number_of_steps(how: tuple[str, str, str], target: str, tmp_path: Path) -> None:
    grid = "grid: {i: 4}, place: {y: {loop: {a: 2, b: 8}}}"
    entry = stages("y.b", x=how[0], u=how[1], v=how[2])
    text = variants("weighted", target, f"{grid}, stage: {{{entry}}}", grid, "x, u, v")
    built = bundle(weighted, text, tmp_path, target=target)
    rng = np.random.default_rng(1)
    for m, a, b in ((5, 0, 8), (3, 1, 0), (4, 1, 4), (5, 2, 12), (9, 5, 20), (1, 7, 8)):
        arrays = {
            "x": rng.standard_normal((m, a, b)).astype(np.float32),
            "u": rng.standard_normal((a, b)).astype(np.float32),
            "v": rng.standard_normal(b).astype(np.float32),
        }
        assert worst(built, weighted, arrays) <= 1


def test_the_nearest_stage_decides_how_many_copies_stay_in_flight(tmp_path: Path) -> None:
    """One wait and one barrier per step: two steps ahead leave one group, though the other operand is three ahead."""
    entry = stages("y.k", x="copy: async, depth: 3", w="copy: async, depth: 4")
    grid = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    bundle(product, variants("product", "sm_80", f"{grid}, stage: {{{entry}}}", grid, "x, w"), tmp_path)
    (text,) = (path.read_text() for path in tmp_path.glob("*/kernel.py"))
    (loop,) = (part.split("\n\n    async_copy.wait_group(0)")[0] for part in text.split("in range(steps):")[1:])
    assert loop.count("wait_group") == loop.count("wait_group(1)") == loop.count("commit_group") == 1
    assert "x_shared.index((step + 2) % 3)" in loop and "w_shared.index((step + 3) % 4)" in loop


@te.algorithm("x: f32[M, A, 6], u: f32[A], s: f32[A, 6], v: f32[6] -> y: f32[M]")
def nested(x: Any, u: Any, s: Any, v: Any, y: Any) -> None:
    i, a, b = te.axes(i="M", a="A", b=6)
    y[i] = te.sum(x[i, a, b] * u[a] * s[a, b] * v[b], over=(a, b))


OUTER = {
    "a register tile": "u: {at: y.a, in: registers}",
    "a tile": "u: {at: y.a, in: shared}",
    "all that the inner loop reads": "x: {at: y.a, in: shared}",
    "ahead": "u: {at: y.a, in: shared, depth: 3}",
    "ahead, around a stage": "u: {at: y.a, in: shared, copy: async, depth: 3}, x: {at: y.b, in: shared}",
    "ahead, around a pipeline": "u: {at: y.a, in: shared, copy: async, depth: 3}, "
    "x: {at: y.b, in: shared, copy: async, depth: 2}, v: {at: y.b, in: shared, depth: 2}",
    "two, around a pipeline": "s: {at: y.a, in: shared}, u: {at: y.a, in: shared, copy: async}, "
    "x: {at: y.b, in: shared, copy: async, depth: 3}",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("entry", OUTER.values(), ids=OUTER.keys())
def test_a_stage_may_stand_in_an_outer_loop(entry: str, target: str, tmp_path: Path) -> None:
    grid = "grid: {i: 4}, place: {y: {loop: {a: 4, b: 2}}}"
    text = variants("nested", target, f"{grid}, stage: {{{entry}}}", grid, "x, u, s, v")
    text = text.replace("  when: aligned", "  when: A % 4 == 0 and aligned")
    built = bundle(nested, text, tmp_path, target=target)
    rng = np.random.default_rng(2)
    for m, a in ((5, 0), (3, 4), (4, 12), (5, 20), (9, 8), (1, 28), (2, 5)):
        arrays = {
            "x": rng.standard_normal((m, a, 6)).astype(np.float32),
            "u": rng.standard_normal(a).astype(np.float32),
            "s": rng.standard_normal((a, 6)).astype(np.float32),
            "v": rng.standard_normal(6).astype(np.float32),
        }
        assert worst(built, nested, arrays) <= 1


def test_an_outer_stage_is_printed_and_fetched_between_the_loops() -> None:
    entry = "u: {at: y.a, in: shared}, x: {at: y.b, in: shared}"
    kernel = f"grid: {{i: 4}}, place: {{y: {{loop: {{a: 4, b: 2}}}}}}, stage: {{{entry}}}"
    text = variants("nested", "sm_80", kernel, "", "x")
    record = load_schedule(text.split("- name: rest")[0].replace("  when: aligned(x, 16)\n", ""), "nested.yaml")
    algorithm = nested.bind()
    plan = plan_variant(algorithm, record.variants[0], TARGETS_BY_NAME["sm_80"])
    lines = [line.replace("| ", "").split("  ")[0] for line in show_variant(plan, algorithm).splitlines()]
    wanted = ["for y.a by 4 in 0 .. A", "load u", "for y.b by 2 in 0 .. 6", "load x"]
    first = lines.index(wanted[0])
    assert lines[first : first + 4] == wanted
    (code,) = (kernel.text for kernel in package_of(nested, record, ["sm_80"], {}, {}).kernels)
    order = [code.index(part) for part in ("for a0 in", "u_shared.store", "for b0 in", "x_shared.store")]
    assert order == sorted(order)
