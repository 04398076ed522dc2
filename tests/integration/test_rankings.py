"""Sorting and selecting along rows, on the emulator: both methods, layouts within a warp and across warps, ties, NaN,
signed zeros, ranks that do not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import chosen_targets, package_of
from texpr.lang.errorbound import error_bounds
from texpr.runtime import load
from texpr.schedule import load_schedule

MAP = "    map: {i: {warps: 4}, j: {lanes: 32, each: 2}}\n"


@te.algorithm("x: T[M, N] -> y: T[M, N], p: i32[M, N]", T=("f16", "f32", "u8"), require=["N <= 64"])
def ordered(x: Any, y: Any, p: Any) -> None:
    i, j, r = te.axes(i="M", j="N", r="N")
    y[i, r] = te.sort(x[i, j], over=j, into=r)
    p[i, r] = te.argsort(x[i, j], over=j, into=r, descending=True)


@te.algorithm("x: f32[M, N], n: i32[M] -> y: f32[M, K], p: i64[M, K]", static=["K"], require=["N <= 128"])
def smallest(x: Any, n: Any, y: Any, p: Any, *, K: int) -> None:
    i, j, t = te.axes(i="M", j="N", t=K)
    y[i, t], p[i, t] = te.topk(x[i, j], over=j, into=t, largest=False, where=j < n[i])


@te.algorithm("x: f32[N, M] -> y: f32[N, M]", require=["N <= 16"])
def columns(x: Any, y: Any) -> None:
    i, j, r = te.axes(i="M", j="N", r="N")
    y[r, i] = te.sort(x[j, i] * x[j, i], over=j, into=r)


def awkward(rng: np.random.Generator, rows: int, count: int, dtype: str) -> np.ndarray:
    """Few distinct values; floats with NaN of both signs, infinities and zeros of both signs."""
    values = rng.integers(0, 9, (rows, count))
    if dtype == "u8":
        return np.where(values > 6, 255 - values, values).astype(np.uint8)
    special = np.array([-np.nan, np.nan, -0.0, 0.0, np.inf, -np.inf, 1e-7, -2.5, 2.5])
    return special[values].astype({"f16": np.float16, "f32": np.float32}[dtype])


@pytest.mark.parametrize("dtype", ["f16", "f32", "u8"])
@pytest.mark.parametrize("layout", ["one warp a row", "a row across warps"])
def test_rows_are_sorted_with_their_positions(dtype: str, layout: str, tmp_path: Path) -> None:
    within = layout == "one warp a row"
    kernel = f"    grid: {{i: {4 if within else 1}}}\n    whole: {{j: 64, r: 64}}\n    warps: 4\n"
    kernel += MAP if within else ""
    kernels = "".join(f"  - name: k{name}\n    writes: [{name}]\n{kernel}" for name in "yp")
    built = bundle(ordered, kernels, tmp_path, {"T": dtype})
    rng = np.random.default_rng(5)
    for rows, count in ((0, 5), (3, 0), (1, 1), (5, 2), (2, 63), (5, 64)):
        x = awkward(rng, rows, count, dtype)
        y, p = built(x)
        wanted = te.reference(ordered)(x=x)
        np.testing.assert_array_equal(y, wanted["y"])
        numbers = y == y  # the sign of a NaN is nobody's business
        np.testing.assert_array_equal(np.signbit(y[numbers]), np.signbit(wanted["y"][numbers]))
        np.testing.assert_array_equal(p, wanted["p"])


def test_the_reference_agrees_with_a_stable_sort_of_numbers() -> None:
    x = np.random.default_rng(6).integers(-3, 4, (4, 40)).astype(np.float32) + 10
    found = te.reference(ordered)(x=x)
    np.testing.assert_array_equal(found["y"], np.sort(x, axis=1))
    np.testing.assert_array_equal(found["p"], np.argsort(-x, axis=1, kind="stable"))


@pytest.mark.parametrize(
    ("count", "kernel"),
    [
        (1, "    grid: {i: 1}\n    whole: {t: 1}\n    place: {y: {loop: {j: 32}}}\n"),
        (5, "    grid: {i: 2}\n    whole: {t: 8, j: 128}\n"),
        (5, "    grid: {i: 2}\n    whole: {t: 8}\n    place: {y: {loop: {j: 32}}}\n"),
        (32, "    grid: {i: 2}\n    whole: {t: 32, j: 128}\n"),
        (1, "    grid: {i: 1}\n    whole: {t: 1}\n    place: {y: {loop: {j: 1}}}\n"),
    ],
)
def test_the_first_ranks_of_guarded_rows(count: int, kernel: str, tmp_path: Path) -> None:
    head = "texpr: 1\nalgorithm: smallest\nvariants:\n- name: a\n  target: [sm_80]\n  kernels:\n"
    text = f"{head}  - name: k\n    writes: [y, p]\n{kernel}"
    record = load_schedule(text, "smallest.yaml")
    package = package_of(smallest, record, chosen_targets(record, ["sm_80"]), {}, {"K": count})
    write_bundle(package, tmp_path / "smallest", BuildOptions())
    built = load(str(tmp_path / "smallest"), device="emulator", sm=80)
    rng = np.random.default_rng(7)
    for rows, columns_ in ((3, 0), (2, 1), (3, 31), (2, 128)):
        x = awkward(rng, rows, columns_, "f32")
        n = rng.integers(0, columns_ + 2, rows).astype(np.int32)
        y, p = built(x, n)
        wanted = te.reference(smallest)(x=x, n=n, K=count)
        np.testing.assert_array_equal(y, wanted["y"])
        np.testing.assert_array_equal(p, wanted["p"])


def test_columns_are_sorted_as_well(tmp_path: Path) -> None:
    built = bundle(columns, "  - name: k\n    writes: [y]\n    grid: {i: 32}\n    whole: {j: 16, r: 16}\n", tmp_path)
    x = np.random.default_rng(8).standard_normal((13, 70)).astype(np.float32)
    assert worst(built, columns, {"x": x}) <= 1


def test_computed_keys_have_bounds_and_near_ties_leave_positions_in_doubt() -> None:
    @te.algorithm("x: f32[N] -> y: f32[N], p: i32[N]")
    def powers(x: Any, y: Any, p: Any) -> None:
        j, r = te.axes(j="N", r="N")
        y[r], p[r] = te.topk(te.exp(x[j]), over=j, into=r)

    found = error_bounds(powers)(x=np.float32([0.0, 1.0, np.nextafter(np.float32(1), 2), 3.0]))
    assert (found["y"].bound > 0).all()
    assert (found["y"].bound < 3e-5).all()
    assert found["p"].ambiguous.tolist() == [False, True, True, False]
