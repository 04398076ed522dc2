"""Scans on the emulator: every way to cut their axis, over sizes around the tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from texpr.lang.algorithm import AlgorithmDef

LENGTHS = (0, 1, 2, 15, 16, 17, 31, 47, 64, 127)


def sums(op: str, exclusive: bool, reverse: bool) -> AlgorithmDef:
    """A plain and a segmented scan in one kernel."""

    types = ("i8", "i32", "i64", "u16", "f16", "f32", "f64")

    @te.algorithm("x: T[M, N], f: bool[N] -> y: T[M, N], z: T[M, N]", T=types, require=["N <= 128"])
    def scan(x: Any, f: Any, y: Any, z: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i, j] = te.scan(op, x[i, j], along=j, exclusive=exclusive, reverse=reverse)
        z[i, j] = te.scan(op, x[i, j], along=j, exclusive=exclusive, reverse=reverse, reset=f[j])

    return scan


def data(dtype: str, m: int, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(m * 1000 + n)
    numpy_type = np.dtype({"i": "int", "u": "uint", "f": "float"}[dtype[0]] + dtype[1:])
    values = rng.integers(0, 100, (m, n)) if dtype[0] in "iu" else rng.standard_normal((m, n))
    return {"x": values.astype(numpy_type), "f": rng.random(n) < 0.2}


FORMS = {
    "whole": "  - {name: a, writes: [y, z], grid: {i: 2}, whole: {j: 128}, warps: 2}\n",
    "loop": "  - {name: a, writes: [y, z], grid: {i: 2}, warps: 2, "
    "scan: {y: {across: loop, by: {j: 16}}, z: {across: loop, by: {j: 16}}}}\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(("op", "dtype"), [("+", "i32"), ("+", "f32"), ("max", "f32")])
def test_lines_in_a_tile_and_in_a_loop(
    op: str, dtype: str, exclusive: bool, reverse: bool, form: str, tmp_path: Path
) -> None:
    definition = sums(op, exclusive, reverse)
    built = bundle(definition, FORMS[form], tmp_path, {"T": dtype})
    for n in LENGTHS:
        assert worst(built, definition, data(dtype, 3, n), {"T": dtype}) <= 1


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("op", "dtype"),
    [("+", "i8"), ("+", "u16"), ("*", "i64"), ("min", "f16"), ("+", "f64"), ("xor", "i64"), ("and", "i8")],
)
def test_every_type_and_operator(op: str, dtype: str, target: str, tmp_path: Path) -> None:
    definition = sums(op, True, False)
    built = bundle(definition, FORMS["loop"], tmp_path, {"T": dtype}, target=target)
    for n in (1, 16, 37):
        assert worst(built, definition, data(dtype, 2, n), {"T": dtype}) <= 1


def two_passes(writes: str, scans: str, stems: str, axis: str, size: int, grid: str) -> str:
    """Three kernels: tiles reduced, the results scanned, tiles scanned on from there."""
    parts, carries = (", ".join(f"{stem}.{what}" for stem in stems.split()) for what in ("part", "carry"))
    loops = ", ".join(f"{f}.carry: {{across: loop, by: {{{axis}.part: 4}}}}" for f in scans.split())
    cuts = ", ".join(f"{f}: {{across: two_pass, by: {{{axis}: {size}}}}}" for f in scans.split())
    return (
        f"  - {{name: a, writes: [{parts}], grid: {{{grid}, {axis}.part: 1}}, whole: {{{axis}: {size}}}, warps: 2}}\n"
        f"  - {{name: b, writes: [{carries}], grid: {{{grid}}}, scan: {{{loops}}}, warps: 1}}\n"
        f"  - {{name: c, writes: [{writes}], grid: {{{grid}, {axis}: {size}}}, scan: {{{cuts}}}, warps: 2}}\n"
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(("op", "dtype"), [("+", "i32"), ("max", "f32")])
def test_lines_in_two_passes(op: str, dtype: str, exclusive: bool, reverse: bool, tmp_path: Path) -> None:
    """Each scan has parts of its own, over an axis of its own."""
    definition = sums(op, exclusive, reverse)
    first = two_passes("y", "y", "y", "j", 16, "i: 1")
    second = two_passes("z", "z", "z z.reset", "j", 16, "i: 1")
    for old, new in (("name: a", "name: d"), ("name: b", "name: e"), ("name: c", "name: f")):
        second = second.replace(old, new)
    built = bundle(definition, first + second, tmp_path, {"T": dtype})
    for n in LENGTHS:
        assert worst(built, definition, data(dtype, 2, n), {"T": dtype}) <= 1


@te.algorithm("x: f32[M, N] -> any_: bool[M, N], all_: bool[M, N]")
def conditions(x: Any, any_: Any, all_: Any) -> None:
    i, j = te.axes(i="M", j="N")
    any_[i, j] = te.scan("any", x[i, j] > 1.0, along=j)
    all_[i, j] = te.scan("all", x[i, j] > -1.0, along=j, exclusive=True)


def test_conditions(tmp_path: Path) -> None:
    form = FORMS["loop"].replace("[y, z]", "[any_, all_]").replace("{y:", "{any_:").replace(" z:", " all_:")
    built = bundle(conditions, form, tmp_path)
    for n in (0, 1, 16, 37):
        assert worst(built, conditions, {"x": data("f32", 2, n)["x"]}) <= 1


@te.algorithm("a: f32[B, L, D], b: f32[B, L, D], f: bool[L] -> h: f32[B, L, D], g: f32[B, L, D]")
def recurrences(a: Any, b: Any, f: Any, h: Any, g: Any) -> None:
    """Two compositions of maps, which do not commute: plain, and exclusive with segments."""
    n, t, d = te.axes(n="B", t="L", d="D")
    compose = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), name="compose")
    factor, other = te.funcs("factor other")
    factor[n, t, d], h[n, t, d] = te.scan(compose, (a[n, t, d], b[n, t, d]), along=t)
    other[n, t, d], g[n, t, d] = te.scan(compose, (a[n, t, d], b[n, t, d]), along=t, exclusive=True, reset=f[t])


@pytest.mark.parametrize(
    "tiles",
    [
        "grid: {n: 1, d: 32}, warps: 1, scan: {h: {across: loop, by: {t: 4}}, g: {across: loop, by: {t: 4}}}",
        "grid: {n: 1, d: 4}, warps: 4, scan: {h: {across: loop, by: {t: 32}}, g: {across: loop, by: {t: 32}}}",
        "grid: {n: 2, d: 16}, warps: 2, scan: {h: {across: loop, by: {t: 1}}, g: {across: loop, by: {t: 1}}}",
        "grid: {n: 1, d: 1}, warps: 1, scan: {h: {across: loop, by: {t: 64}}, g: {across: loop, by: {t: 64}}}",
    ],
)
def test_a_monoid_that_does_not_commute(tiles: str, tmp_path: Path) -> None:
    built = bundle(recurrences, f"  - {{name: a, writes: [h, g], {tiles}}}\n", tmp_path)
    for length, width in ((0, 3), (1, 1), (4, 32), (5, 33), (37, 7)):
        rng = np.random.default_rng(length)
        a, b = (rng.standard_normal((3, length, width)).astype(np.float32) for _ in range(2))
        assert worst(built, recurrences, {"a": a, "b": b, "f": rng.random(length) < 0.2}) <= 1


@te.algorithm("a: f32[B, L, D], b: f32[B, L, D], f: bool[L] -> h: f32[B, L, D]")
def compositions(a: Any, b: Any, f: Any, h: Any) -> None:
    """From the last to the first, exclusive, with segments: the operator's sides matter everywhere."""
    n, t, d = te.axes(n="B", t="L", d="D")
    compose = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), name="compose")
    factor = te.func("factor")
    factor[n, t, d], h[n, t, d] = te.scan(
        compose, (a[n, t, d], b[n, t, d]), along=t, exclusive=True, reverse=True, reset=f[t]
    )


@pytest.mark.parametrize("grid", ["n: 1, d: 32", "n: 2, d: 1"])
def test_a_monoid_that_does_not_commute_in_two_passes(grid: str, tmp_path: Path) -> None:
    kernels = two_passes("h", "factor", "factor.reset factor h", "t", 8, grid)
    built = bundle(compositions, kernels, tmp_path)
    for length, width in ((0, 3), (1, 1), (7, 2), (8, 33), (9, 4), (37, 7)):
        rng = np.random.default_rng(length)
        a, b = (rng.standard_normal((3, length, width)).astype(np.float32) for _ in range(2))
        assert worst(built, compositions, {"a": a, "b": b, "f": rng.random(length) < 0.2}) <= 1


@te.algorithm("x: f16[M, N], g: f32[N] -> y: f32[M, N], t: f16[M, N]", require=["N % 8 == 0"])
def weighted(x: Any, g: Any, y: Any, t: Any) -> None:
    """A scan amid other work: of a reduction's result, and read by two outputs."""
    i, j, k = te.axes(i="M", j="N", k="N")
    s, total = te.funcs("s total")
    total[i] = te.max(abs(x[i, k]), over=k)
    s[i, j] = te.scan("+", x[i, j] * total[i], along=j, reverse=True)
    y[i, j] = s[i, j] * g[j]
    t[i, j] = s[i, j] - 1.0


@pytest.mark.parametrize("how", ["", "stage: {x: {at: y.j, in: shared, copy: async, depth: 3}}, "])
@pytest.mark.parametrize("vectors", ["", "  when: aligned(x, y, t, 16)\n"])
def test_a_scan_between_a_reduction_and_outputs(vectors: str, how: str, tmp_path: Path) -> None:
    if how and not vectors:
        how = how.replace("copy: async, depth: 3", "depth: 2")
    kernel = (
        f"  - {{name: a, writes: [y, t], grid: {{i: 4}}, warps: 4, place: {{total: {{loop: {{k: 64}}}}}}, {how}"
        "scan: {s: {across: loop, by: {j: 64}}}}\n"
    )
    head = f"texpr: 1\nalgorithm: weighted\nvariants:\n- name: wide\n  target: [sm_80]\n{vectors}  kernels:\n{kernel}"
    plain = kernel.replace(how, "")
    rest = f"- name: rest\n  target: [sm_80]\n  kernels:\n{plain}" if vectors else ""
    built = bundle(weighted, head + rest, tmp_path)
    rng = np.random.default_rng(5)
    for m, n in ((1, 8), (3, 64), (5, 72), (4, 200)):
        x = rng.standard_normal((m, n)).astype(np.float16)
        assert worst(built, weighted, {"x": x, "g": rng.standard_normal(n).astype(np.float32)}) <= 1
