"""Hand-written kernels beside those of the compiler, and what their parameters can be given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import build_package, find_schedule, load_algorithm, package_of
from texpr.plan.build import plan_variant
from texpr.plan.show import show_variant
from texpr.runtime import load
from texpr.schedule import load_schedule
from texpr.targets import TARGETS

RADIX = f"{Path(__file__).parents[2]}/kernels/sorting.py:radix_sort"

SOURCE = '''"""A module that also runs as a program."""

import math

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

WIDTH: gl.constexpr = gl.constexpr(128)


@gluon.jit
def halved(value):
    return value * 0.5


@gluon.jit
def scale(source, bias, has_bias, result, mark, count, rows, factor, twice: gl.constexpr):
    """result = source * factor / 2 (+ bias), twice that if asked for; the programs count themselves in mark."""
    at = gl.program_id(0) * WIDTH + gl.arange(0, WIDTH, gl.BlockedLayout([1], [32], [4], [0]))
    value = halved(gl.load(source + at, mask=at < count, other=0.0)) * factor
    if has_bias != 0:
        value += gl.load(bias + at % (count // rows), mask=at < count, other=0.0)
    if twice:
        value = value + value
    gl.store(result + at, value, mask=at < count)
    gl.atomic_add(mark, 1)


if __name__ == "__main__":
    print(math.pi)
'''


@te.algorithm("x: f32[M, N], b: f32[N]?, a: f32 -> y: f32[M, N]", static=dict(T=1))
def scaled(x: Any, b: Any, a: Any, y: Any, *, T: int) -> None:
    i, j = te.axes(i="M", j="N")
    first, half = te.funcs("first half")
    first[i, j] = x[i, j] + 1
    half[i, j] = (first[i, j] * 0.5 * a + b.get(j, 0)) * (T + 1)
    y[i, j] = half[i, j] - 1


SCHEDULE = """texpr: 1
algorithm: scaled
variants:
- name: only
  target: [sm_80]
  kernels:
  - {name: before, writes: [first], grid: {i: 1, j: 128}}
  - name: by_hand
    writes: [half]
    warps: 4
    scratch: {mark: "i32[1]"}
    fill: {mark: 0}
    extern:
      source: mine.py:scale
      programs: ceil(M * N / 128)
      arguments: {source: first, bias: b, has_bias: has_b, result: half, count: M * N, rows: M, factor: a, twice: T}
  - {name: after, writes: [y], grid: {i: 1, j: 128}}
"""


def test_a_function_is_given_whatever_the_kernel_has(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    file = tmp_path / "scaled.yaml"
    file.write_text(SCHEDULE)
    write_bundle(package_of(scaled, load_schedule(str(file)), ["sm_80"], {}, {}), tmp_path / "out", BuildOptions())
    built = load(str(tmp_path / "out"), device="emulator", sm=80)
    rng = np.random.default_rng(0)
    for rows, columns, with_bias in ((1, 1, True), (3, 50, False), (2, 64, True), (3, 129, True)):
        x = rng.standard_normal((rows, columns)).astype(np.float32)
        bias = rng.standard_normal(columns).astype(np.float32) if with_bias else None
        wanted = te.reference(scaled)(x=x, b=bias, a=3.0)["y"]
        np.testing.assert_allclose(built(x, bias, 3.0), wanted, rtol=1e-5, atol=1e-5)


def test_the_nest_says_what_is_given(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    file = tmp_path / "scaled.yaml"
    file.write_text(SCHEDULE)
    (variant,) = load_schedule(str(file)).variants
    text = show_variant(plan_variant(scaled.bind(), variant, TARGETS["sm_80"]), scaled.bind())
    assert "| scale of mine.py   grid (M*N + 127)//128" in text
    assert "source = first, bias = b, has_bias = present(b), result = half, mark = by_hand.mark, count = M*N" in text
    assert "workspace by_hand.mark [1] i32" in text


@pytest.mark.parametrize("dtype", ["u32", "i32", "f32", "u64", "i64", "f64"])
def test_radix_sort_is_stable_and_total(dtype: str, tmp_path: Path) -> None:
    """Sizes around a tile of 4096; few distinct keys, far apart, so that equal ones meet within and across tiles, and
    every digit decides somewhere."""
    package = build_package(RADIX, None, ["sm_80"], {"K": dtype})
    write_bundle(package, tmp_path / "radix_sort", BuildOptions())
    built = load(str(tmp_path / "radix_sort"), device="emulator", sm=80)
    rng = np.random.default_rng(4)
    kind = np.dtype({"u": "uint", "i": "int", "f": "float"}[dtype[0]] + dtype[1:])
    for count in (0, 1, 4095, 8193):
        if kind.kind == "f":
            chosen = np.concatenate([rng.standard_normal(30), [-np.inf, np.inf, np.nan, 0.0, 1e-40, -1e-40]])
        else:
            chosen = rng.integers(0, 2 ** (8 * kind.itemsize) - 1, 40, np.uint64, endpoint=True).view(np.int64)
        keys = rng.choice(chosen.astype(kind), count)
        values = np.arange(count, dtype=np.uint32)
        order = np.argsort(keys, kind="stable")
        found_keys, found_values = built(keys, values)
        np.testing.assert_array_equal(found_keys, keys[order])
        np.testing.assert_array_equal(found_values, values[order])


def test_workspace_of_alternate_passes_is_shared() -> None:
    definition = load_algorithm(RADIX)
    schedule = find_schedule(RADIX, definition, None, None)
    plan = plan_variant(definition.bind({"K": "u32"}), schedule.variants[0], TARGETS["sm_80"])
    slots = {space.name: space.slot for space in plan.workspace}
    assert slots["k1"] == slots["k3"] != slots["k2"]
