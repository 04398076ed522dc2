"""Scans that look back, on the emulator: many small tiles, so that windows are full, partial and waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from tests.integration.test_scans import data, sums
from texpr.plan.build import plan_variant
from texpr.runtime import load
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


def schedule(size: int, window: int, warps: int, dtype: str, target: str = "sm_80") -> str:
    """Both scans of ``sums`` in one kernel, a program for every ``size`` numbers of a line."""
    relax = "  relax: [{order: y}, {order: z}]\n" if dtype.startswith("f") else ""
    by = f"across: lookback, by: {{j: {size}}}, window: {window}"
    return (
        f"texpr: 1\nalgorithm: scan\nvariants:\n- name: only\n  target: [{target}]\n{relax}  kernels:\n"
        f"  - {{name: a, writes: [y, z], grid: {{i: 1, j: {size}}}, warps: {warps}, "
        f"scan: {{y: {{{by}}}, z: {{{by}}}}}}}\n"
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(("op", "dtype", "size", "window", "warps"), [("+", "i32", 16, 32, 2), ("max", "f32", 2, 4, 1)])
def test_lines_one_program_for_every_tile(
    op: str, dtype: str, size: int, window: int, warps: int, exclusive: bool, reverse: bool, tmp_path: Path
) -> None:
    definition = sums(op, exclusive, reverse)
    built = bundle(definition, schedule(size, window, warps, dtype), tmp_path, {"T": dtype})
    for n in (0, 1, size - 1, size, size + 1, 37, 127):
        assert worst(built, definition, data(dtype, 3, n), {"T": dtype}) <= 1


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("op", "dtype", "size", "window", "warps"),
    [
        ("+", "i8", 2, 64, 1), ("*", "u16", 1, 8, 1), ("xor", "i32", 8, 2, 2), ("min", "f16", 4, 1, 2),
        ("+", "f32", 4, 128, 2), ("and", "i8", 4, 4, 4), ("+", "i64", 8, 4, 1), ("+", "f64", 4, 32, 2),
    ],
)  # fmt: skip
def test_types_operators_and_windows(
    op: str, dtype: str, size: int, window: int, warps: int, target: str, tmp_path: Path
) -> None:
    definition = sums(op, True, False)
    text = schedule(size, window, warps, dtype, target)
    built = bundle(definition, text, tmp_path, {"T": dtype}, target=target)
    for n in (1, size + 1, 61):
        assert worst(built, definition, data(dtype, 2, n), {"T": dtype}) <= 1


@pytest.mark.parametrize("dtype", ["i32", "i64"])
def test_any_order_of_programs(dtype: str, tmp_path: Path) -> None:
    """Programs that start late, and publish late, are waited for; so is the second word of a state."""
    definition = sums("+", False, False)
    bundle(definition, schedule(2, 4, 1, dtype), tmp_path, {"T": dtype})
    for seed in range(2):
        built = load(str(tmp_path / definition.name), device="emulator", sm=80, schedule_seed=seed)
        assert worst(built, definition, data(dtype, 1, 15), {"T": dtype}) == 0


@te.algorithm("a: u16[N], b: u16[N], f: bool[N] -> h: u16[N], before: u16[N]")
def maps(a: Any, b: Any, f: Any, h: Any, before: Any) -> None:
    """Maps h -> a h + b, which do not commute, composed since the last start of a segment; numbers wrap around."""
    (i,) = te.axes(i="N")
    factor, other = te.funcs("factor other")
    compose = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1, 0), name="compose")
    factor[i], h[i] = te.scan(compose, (a[i], b[i]), along=i, reset=f[i])
    other[i], before[i] = te.scan(compose, (a[i], b[i]), along=i, reset=f[i], exclusive=True)


@pytest.mark.parametrize("window", [1, 4, 32])
def test_operators_that_do_not_commute_are_kept_in_order(window: int, tmp_path: Path) -> None:
    """The state is a bit and two numbers."""
    entry = f"across: lookback, by: {{i: 2}}, window: {window}"
    text = (
        "  - {name: a, writes: [h, before], grid: {i: 2}, warps: 1, "
        f"scan: {{factor: {{{entry}}}, before: {{{entry}}}}}}}\n"
    )
    built = bundle(maps, text, tmp_path)
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 77):
        a, b = (rng.integers(0, 65536, n).astype(np.uint16) for _ in range(2))
        assert worst(built, maps, {"a": a, "b": b, "f": rng.random(n) < 0.03}) == 0


@te.algorithm("x: u8[N], w: f32[N] -> at: i32[N], y: f32[N]")
def kept(x: Any, w: Any, at: Any, y: Any) -> None:
    """Where every number that is kept goes, and another output that reads the scan."""
    (i,) = te.axes(i="N")
    n = te.func("n")
    n[i] = te.scan("+", te.where(x[i] > 3, 1, 0).to("i32"), along=i, exclusive=True)
    at[i] = te.where(x[i] > 3, n[i], -1)
    y[i] = w[i] * n[i].to("f32")


def test_outputs_that_read_the_scan_are_stored_with_it(tmp_path: Path) -> None:
    text = "  - {name: a, writes: [at, y], grid: {i: 64}, warps: 2, scan: {n: {across: lookback, by: {i: 64}}}}\n"
    built = bundle(kept, text, tmp_path)
    rng = np.random.default_rng(5)
    for n in (0, 1, 64, 65, 1000):
        x, w = rng.integers(0, 9, n).astype(np.uint8), rng.standard_normal(n).astype(np.float32)
        assert worst(built, kept, {"x": x, "w": w}) <= 1


@te.algorithm("count: i32[], x: i32[CAP] -> y: i32[N]", dims={"N": "count[] <= CAP"})
def counted(count: Any, x: Any, y: Any) -> None:
    (n,) = te.axes(n="N")
    y[n] = te.scan("+", x[n], along=n)


def test_a_line_as_long_as_the_device_says(tmp_path: Path) -> None:
    """Programs past the count publish nothing, and nobody waits for them."""
    text = "  - {name: a, writes: [y], grid: {n: 8}, warps: 1, scan: {y: {across: lookback, by: {n: 8}}}}\n"
    built = bundle(counted, text, tmp_path)
    for count in (0, 1, 8, 33, 64):
        x = np.arange(64, dtype=np.int32)
        y = np.asarray(built(np.array(count, np.int32), x))
        np.testing.assert_array_equal(y[:count], np.cumsum(x[:count], dtype=np.int32))


@te.algorithm("x: i32[M, N], w: f32[M, K] -> y: f32[M, N], s: i32[M, N]", require=["K <= 64"])
def mixed(x: Any, w: Any, y: Any, s: Any) -> None:
    """Two scans, one of the other's prefixes, and a reduction."""
    i, j, k = te.axes(i="M", j="N", k="K")
    m, n = te.funcs("m n")
    m[i] = te.max(w[i, k], over=k)
    n[i, j] = te.scan("+", x[i, j], along=j, exclusive=True)
    y[i, j] = m[i] * n[i, j].to("f32")
    s[i, j] = te.scan("max", n[i, j] * 3 - x[i, j], along=j)


def test_scans_amid_other_work_of_the_tile(tmp_path: Path) -> None:
    text = (
        "  - {name: a, writes: [y, s], grid: {i: 1, j: 64}, whole: {k: 64}, warps: 2, "
        "scan: {n: {across: lookback, by: {j: 64}}, s: {across: lookback, by: {j: 64}, window: 8}}}\n"
    )
    built = bundle(mixed, text, tmp_path)
    rng = np.random.default_rng(6)
    for m, n, k in ((1, 1, 1), (2, 64, 64), (3, 200, 17)):
        x = rng.integers(-9, 99, (m, n)).astype(np.int32)
        assert worst(built, mixed, {"x": x, "w": rng.standard_normal((m, k)).astype(np.float32)}) <= 1


@pytest.mark.parametrize(("op", "dtype", "fixed"), [("+", "i32", True), ("max", "f32", True), ("+", "f32", False)])
def test_only_sums_of_floats_are_not_reproducible(op: str, dtype: str, fixed: bool) -> None:
    (variant,) = load_schedule(schedule(16, 32, 1, dtype), "scan.yaml").variants
    plan = plan_variant(sums(op, False, False).bind({"T": dtype}), variant, TARGETS["sm_80"])
    assert plan.reproducible is fixed
