"""Every directive of a schedule, alone or with those it needs, computes what the algorithm says: run on the emulator
over sizes around the tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst


@te.algorithm("x: f32[M, N] -> y: f32[M, N]")
def scaled(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 2.0


@te.algorithm("x: f16[M, K], w: f16[K, N], u: f16[M, L], v: f16[L, N], b: f32[N] -> y: f16[M, N], z: f32[M, N]")
def two_products(x: Any, w: Any, u: Any, v: Any, b: Any, y: Any, z: Any) -> None:
    i, j, k, l = te.axes(i="M", j="N", k="K", l="L")  # noqa: E741
    gx, gh = te.funcs("gx gh")
    gx[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    gh[i, j] = te.sum(u[i, l] * v[l, j], over=l)
    y[i, j] = te.tanh(gx[i, j] + gh[i, j] + b[j])
    z[i, j] = (gx[i, j] + gh[i, j]) * 2.0


@te.algorithm("x: f16[M, N], g: f16[N] -> y: f16[M, N], z: f16[M, N], s: f32[M]")
def rows(x: Any, g: Any, y: Any, z: Any, s: Any) -> None:
    i, j = te.axes(i="M", j="N")
    s[i] = te.sum(x[i, j], over=j)
    y[i, j] = x[i, j] * g[j] + s[i]
    z[i, j] = x[i, j] - s[i]


@te.algorithm("x: f32[H, W] -> y: f32[H, W]")
def smooth(x: Any, y: Any) -> None:
    i, j, r, s = te.axes(i="H", j="W", r=3, s=5)
    rowwise = te.func("rowwise")
    rowwise[i, j] = te.sum(x.mirrored()[i, j + s - 2], over=s)
    y[i, j] = te.max(rowwise.clamped()[i + r - 1, j], over=r)


SIZES = [(1, 1), (7, 33), (70, 129)]


@pytest.mark.parametrize(
    "kernel",
    [
        "split: {i: {into: [io, ii], by: 3}}\n    grid: {io: 4, ii: 1, j: 32}",
        "split: {j: {into: [jo, ji], by: 32}}\n    grid: {i: 2, jo: 1}\n    whole: {ji: 32}",
        "fuse: {ij: [i, j]}\n    grid: {ij: 256}",
        "grid: {i: 4, j: 32}\n    reorder: [j, i]",
        "grid: {i: 4, j: 32}\n    order: {group: i, by: 4}",
        "grid: {i: 4, j: 32}\n    order: {reverse: j}",
        "grid: {i: 2, j: 32}\n    order: {hilbert: [j, i], by: 4}\n    persistent: true",
        "grid: {i: 4, j: 32}\n    persistent: true",
        "grid: {i: 4, j: 32}\n    persistent: {programs: {value: \"2 * sms\", max: 512}}",
        "grid: {i: 8, j: 32}\n    map: {i: {warps: 2, lanes: 4}, j: {lanes: 8, each: 4}}",
        "grid: {i: 4}\n    place: {y: {at: tile, loop: {j: 64}}}",
        "grid: {i: 4, j: 64}\n    place: {y: {at: tile, by: {j: 16}}}",
        "grid: {i: 32, j: 32}\n    stage: {x: {at: tile, in: shared}}",
        "grid: {i: 32, j: 32}\n    stage: {x: {at: tile, in: shared, copy: async}}",
        "grid: {i: 4, j: 32}\n    stage: {x: {at: tile, in: registers}}",
    ],
)
def test_an_elementwise_kernel_is_right_however_it_is_cut(kernel: str, tmp_path: Path) -> None:
    built = bundle(scaled, f"  - name: k\n    writes: [y]\n    warps: 2\n    {kernel}\n", tmp_path)
    rng = np.random.default_rng(1)
    for m, n in SIZES:
        assert worst(built, scaled, {"x": rng.standard_normal((m, n)).astype(np.float32)}) <= 1


@pytest.mark.parametrize(
    "place, stage",
    [
        ("gx: {loop: {k: 32}, mma: mma}, gh: {loop: {l: 32}, mma: mma}", ""),
        (
            "gx: {loop: {k: 32}, mma: mma}, gh: {loop: {l: 16}, mma: mma, into: gx}, y: {by: {j: 32}, via: shared}, "
            "z: {by: {j: 32}}",
            "x: {at: gx.k, in: shared, depth: 2}, w: {at: gx.k, in: shared}",
        ),
        (
            "gx: {loop: {k: 16}, mma: {op: mma, rows: j, cols: i}}, gh: {loop: {l: 16}, mma: fma}",
            "u: {at: gh.l, in: shared}, v: {at: gh.l, in: shared}, b: {at: program, in: registers}",
        ),
        ("gx: {loop: {k: 32}, mma: mma}, gh: {loop: {l: 32}, mma: mma}, z: {with: y}", ""),
    ],
)
def test_contractions_are_right_however_they_are_placed(place: str, stage: str, tmp_path: Path) -> None:
    kernel = "  - name: k\n    writes: [y, z]\n    persistent: {programs: 2}\n"
    directives = f"    place: {{{place}}}\n" + (f"    stage: {{{stage}}}\n" if stage else "")
    schedule = f"{kernel}    grid: {{i: 32, j: 64}}\n{directives}"
    if "program" in stage:  # held for all tiles of a program: the tiles must not move along j
        schedule = (
            "texpr: 1\nalgorithm: two_products\nvariants:\n- name: narrow\n  target: sm_80\n  when: N <= 64\n"
            f"  kernels:\n{kernel}    grid: {{i: 32}}\n    whole: {{j: 64}}\n{directives}"
            f"- name: wide\n  target: sm_80\n  kernels:\n{kernel}    grid: {{i: 32, j: 32}}\n"
            "    place: {gx: {loop: {k: 32}}, gh: {loop: {l: 32}}}\n"
        )
    built = bundle(two_products, schedule, tmp_path)
    rng = np.random.default_rng(2)
    for m, k, n, length in ((1, 1, 1, 1), (33, 0, 65, 7), (70, 50, 64, 33)):
        arrays = {"x": halves(rng, m, k), "w": halves(rng, k, n), "u": halves(rng, m, length)}
        arrays |= {"v": halves(rng, length, n), "b": rng.standard_normal(n).astype(np.float32)}
        assert worst(built, two_products, arrays) <= 1


@pytest.mark.parametrize(
    "kernels",
    [
        "  - name: k\n    writes: [s, y, z]\n    grid: {i: 2}\n"
        "    place: {s: {loop: {j: 64}}, y: {at: tile, loop: {j: 64}}, z: {with: y}}\n",
        "  - name: sums\n    writes: [s]\n    grid: {i: 1}\n    place: {s: {loop: {j: 128}}}\n"
        "  - name: both\n    writes: [y, z]\n    grid: {i: 4, j: 64}\n",
        "  - name: parts\n    writes: [s.part]\n    grid: {i: 2, j.part: 1}\n"
        "    split_reduction: {of: [s], over: j, parts: 3}\n    place: {s.part: {at: tile, loop: {j: 32}}}\n"
        "  - name: rest\n    writes: [s, y, z]\n    grid: {i: 2}\n    whole: {j.part: 4}\n"
        "    place: {y: {at: tile, loop: {j: 64}}, z: {with: y}}\n",
    ],
)
def test_row_kernels_are_right_in_one_launch_or_several(kernels: str, tmp_path: Path) -> None:
    built = bundle(rows, kernels, tmp_path)
    rng = np.random.default_rng(3)
    for m, n in ((1, 1), (5, 63), (3, 200)):
        assert worst(built, rows, {"x": halves(rng, m, n), "g": halves(rng, n)}) <= 1


@pytest.mark.parametrize(
    "directives",
    [
        "",
        "    stage: {x: {at: tile, in: shared}}\n",
        "    place: {rowwise: {at: tile, in: shared, by: {i: 2, j: 64}}}\n",
        "    place: {rowwise: {at: tile, in: shared}}\n    stage: {x: {at: tile, in: shared, by: {i: 4, j: 64}}}\n",
    ],
)
def test_stencils_are_right_recomputed_or_staged(directives: str, tmp_path: Path) -> None:
    built = bundle(smooth, f"  - name: k\n    writes: [y]\n    grid: {{i: 8, j: 32}}\n{directives}", tmp_path)
    rng = np.random.default_rng(4)
    for h, w in ((1, 1), (2, 3), (9, 70)):
        assert worst(built, smooth, {"x": rng.standard_normal((h, w)).astype(np.float32)}) <= 1


@te.algorithm("x: f32[N] -> y: f32[N], n: i64[N]")
def chain(x: Any, y: Any, n: Any) -> None:
    (i,) = te.axes(i="N")
    a, b, c = te.funcs("a b c")
    a[i] = x[i] * 2.0
    b[i] = a.clamped()[i + 1] * 3.0
    c[i] = b.clamped()[i + 1] * 5.0
    y[i] = c.clamped()[i + 1] + 1.0
    n[i] = c.clamped()[i - 1].to("i64")


def test_buffers_that_share_bytes_and_fills_leave_results_right(tmp_path: Path) -> None:
    kernels = "".join(f"  - {{name: k{f}, writes: [{f}], grid: {{i: 64}}, fill: {{{f}: 7.5}}}}\n" for f in "abc")
    built = bundle(chain, f"{kernels}  - {{name: last, writes: [y, n], like: ka, fill: {{n: -1}}}}\n", tmp_path)
    rng = np.random.default_rng(4)
    for n in (0, 1, 64, 131):
        assert worst(built, chain, {"x": rng.standard_normal(n).astype(np.float32)}) <= 1
    (function,) = json.loads((tmp_path / "chain" / "manifest.json").read_text())["functions"]
    assert [buffer["slot"] for buffer in function["variants"][0]["workspace"]] == [0, 1, 0]
