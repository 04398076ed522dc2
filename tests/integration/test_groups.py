"""Groups of reductions on the emulator: one pass, several loops, parts on different programs, in the lanes of a row and
in the accumulators of a matrix unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from texpr.lang.algorithm import AlgorithmDef
from texpr.plan.build import plan_variant
from texpr.plan.default import default_schedule
from texpr.plan.ir import Group
from texpr.plan.resolved import resolved_schedule
from texpr.schedule import dump_schedule, load_schedule
from texpr.targets import TARGETS

SIZES = [(0, 5), (3, 0), (1, 1), (3, 63), (2, 64), (5, 65), (2, 131), (3, 257)]


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def guarded(x: Any, y: Any) -> None:
    """A log-sum-exp over some of the points; a func stands between its reductions."""
    i, j = te.axes(i="M", j="N")
    m, total, p = te.funcs("m total p")
    keep = x[i, j] > -0.5
    m[i] = te.max(x[i, j], over=j, where=keep)
    p[i, j] = te.exp(x[i, j] - m[i])
    total[i] = te.sum(p[i, j], over=j, where=keep)
    y[i] = te.log(total[i]) + m[i]


@te.algorithm("x: f32[M, N] -> y: f32[M], z: f32[M], best: i32[M]")
def entropy(x: Any, y: Any, z: Any, best: Any) -> None:
    """Entropy of a softmax (a polynomial times an exponential), a hoisted quotient, and a tuple reduction beside."""
    i, j = te.axes(i="M", j="N")
    m, total, mean, top = te.funcs("m total mean top")
    m[i] = te.max(x[i, j], over=j)
    total[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    mean[i] = te.sum(te.exp(x[i, j] - m[i]) * (x[i, j] - m[i]), over=j)
    z[i] = te.sum(te.exp(x[i, j] - m[i]) / total[i] * x[i, j], over=j)
    top[i], best[i] = te.argmax(x[i, j], over=j)
    y[i] = te.log(total[i]) - mean[i] / total[i]


ONE_PASS = """
  - name: rows
    writes: [y]
    grid: {i: 2}
    warps: 2
    online: {funcs: [m, total], at: tile, loop: {j: 64}}
    place: {p: {at: total.j}}
"""
PARTS = """
  - name: pieces
    writes: [m.part, total.part]
    grid: {j.part: 1, i: 2}
    warps: 2
    split_reduction: {of: [m, total], over: j, parts: 3}
    online: {funcs: [m.part, total.part], at: tile, loop: {j: 32}}
    place: {p.part: {at: total.part.j}}
  - name: combine
    writes: [y]
    grid: {i: 4}
    whole: {j.part: 4}
    warps: 1
"""
ENTROPY = """
  - name: rows
    writes: [y, z, best]
    grid: {i: 2}
    warps: 2
    online: {funcs: [m, total, mean, z, best], at: tile, loop: {j: 64}}
"""


def test_a_group_written_out_is_the_same_group() -> None:
    """What ``texpr show --stage schedule`` prints can be read, and places members once."""
    text = f"texpr: 1\nalgorithm: guarded\nvariants:\n- name: only\n  target: sm_80\n  kernels:{ONE_PASS}"
    algorithm = guarded.bind({})
    written = load_schedule(dump_schedule(resolved_schedule(load_schedule(text), lambda _: algorithm)))
    (variant,) = written.variants
    assert "m" not in variant.kernels[0].place
    (kernel,) = plan_variant(algorithm, variant, TARGETS["sm_80"]).kernels
    assert any(isinstance(node, Group) for node in kernel.body)


def test_default_schedules_make_one_pass_of_what_allows_it() -> None:
    schedule = default_schedule(guarded, ["sm_80"])
    long = schedule.variants[-1].kernels[0].online
    assert long is not None and long.funcs == ("m", "total")


def check(definition: AlgorithmDef, schedule: str, folder: Path) -> None:
    built = bundle(definition, schedule, folder)
    rng = np.random.default_rng(5)
    for rows, points in SIZES:
        x = (rng.standard_normal((rows, points)) * 3).astype(np.float32)
        if rows and points > 2:
            x[0, : points // 2] = -np.inf  # whole tiles in which nothing is above the identity
        assert worst(built, definition, {"x": x}) <= 1, (rows, points)


@pytest.mark.parametrize("schedule", [ONE_PASS, PARTS], ids=["one pass", "parts"])
def test_a_guarded_group_is_right_where_tiles_and_rows_are_empty(tmp_path: Path, schedule: str) -> None:
    check(guarded, schedule, tmp_path)


@te.algorithm("x: f32[M, N] -> y: f32[M]", require=["N >= 1"])
def spread(x: Any, y: Any) -> None:
    """A variance about a mean that is far from zero, for which E[x^2] - mean^2 has no correct digit."""
    i, j = te.axes(i="M", j="N")
    mu = te.func("mu")
    mu[i] = te.mean(x[i, j], over=j)
    y[i] = te.mean((x[i, j] - mu[i]) ** 2, over=j)


def test_a_variance_far_from_zero_keeps_its_digits(tmp_path: Path) -> None:
    schedule = """
  - name: rows
    writes: [y]
    grid: {i: 1}
    warps: 1
    online: {funcs: [mu.r1, y.r1], at: tile, loop: {j: 64}}
"""
    built = bundle(spread, schedule, tmp_path)
    for points in (1, 2, 63, 64, 65, 200):
        x = (np.random.default_rng(points).standard_normal((2, points)) + 4096).astype(np.float32)
        want = x.astype(np.float64).var(axis=1)
        np.testing.assert_allclose(built(x=x), want, rtol=2e-3, atol=1e-6)


def test_polynomials_hoisted_factors_and_tuples_share_a_pass(tmp_path: Path) -> None:
    built = bundle(entropy, ENTROPY, tmp_path)
    rng = np.random.default_rng(6)
    for rows, points in SIZES:
        x = (rng.standard_normal((rows, points)) * 3).astype(np.float32)
        assert worst(built, entropy, {"x": x}) <= 1, (rows, points)
