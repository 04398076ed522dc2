"""The guard under which accesses are 16 bytes wide."""

from __future__ import annotations

from typing import Any

import pytest

import texpr as te
from texpr.plan.build import plan_variant
from texpr.plan.resolve import variant_facts
from texpr.plan.wide import wide_guard
from texpr.schedule import kernel, place, variant
from texpr.targets import TARGETS


@te.algorithm("x: f16[M, N] -> y: f16[M, N]")
def doubled(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 2


@te.algorithm("x: f32[M, N] -> y: f32[M, N]", require=["N % 8 == 0"])
def required(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 2


@te.algorithm("x: f32[M*, N], b: f32[N] -> y: f32[M, N]")
def strided(x: Any, b: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] + b[j]


@te.algorithm("x: f16[N, H, W, C] -> y: f16[N, H//2, W//2, C]")
def pooled(x: Any, y: Any) -> None:
    n, p, q, c, r, s = te.axes(n="N", p="H//2", q="W//2", c="C", r=2, s=2)
    y[n, p, q, c] = te.max(x[n, 2 * p + r, 2 * q + s, c], over=(r, s))


@te.algorithm("x: f32[N, 3] -> y: f32[N, 3]")
def triples(x: Any, y: Any) -> None:
    i, a = te.axes(i="N", a=3)
    y[i, a] = x[i, a] * 2


@te.algorithm("x: u8[H, W] -> y: u8[H, W]")
def shifted(x: Any, y: Any) -> None:
    i, j = te.axes(i="H", j="W")
    y[i, j] = x.clamped()[i, j + 1]


@te.algorithm("x: f32[P, N], at: i32[M] in [0, P) -> y: f32[M, N]")
def gathered(x: Any, at: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[at[i], j]


def guard_of(definition, grid, **directives):
    record = variant(
        "any", target="sm_80", kernels=[kernel("k", writes=["y"], grid=grid, warps=4, **directives)]
    )  # fmt: skip
    algorithm = definition.bind()
    plan = plan_variant(algorithm, record, TARGETS["sm_80"])
    return str(wide_guard(plan, algorithm, variant_facts(algorithm, record, TARGETS["sm_80"])))


@pytest.mark.parametrize(
    ("definition", "grid", "guard"),
    [
        (doubled, {"i": 8, "j": 256}, "N % 8 == 0 and aligned(x, y, 16)"),
        (required, {"i": 8, "j": 256}, "aligned(x, y, 16)"),
        (strided, {"i": 8, "j": 256}, "N % 4 == 0 and x_stride_0 % 4 == 0 and aligned(x, b, y, 16)"),
        (pooled, {"n": 1, "p": 4, "q": 8, "c": 64}, "C % 8 == 0 and aligned(x, y, 16)"),
        (gathered, {"i": 8, "j": 256}, "N % 4 == 0 and aligned(x, y, 16)"),
        (shifted, {"i": 8, "j": 256}, "W % 16 == 0 and aligned(y, 16)"),
    ],
)
def test_what_must_divide_what(definition, grid, guard):
    assert guard_of(definition, grid) == guard


def test_rows_of_three_are_never_wide():
    assert guard_of(triples, {"i": 256, "a": 4}) == "true"


def test_small_tensors_make_no_condition():
    """A bias of one row per tile of 64 rows is not worth losing the variant for."""
    assert guard_of(strided, {"i": 64, "j": 64}) == "N % 4 == 0 and x_stride_0 % 4 == 0 and aligned(x, y, 16)"


def test_loops_count_as_the_tile_does():
    assert guard_of(doubled, {"i": 1}, place={"y": place(loop={"j": 1024})}) == "N % 8 == 0 and aligned(x, y, 16)"
