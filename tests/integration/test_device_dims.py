"""Dims that only the device knows: programs for the rows that are there, the rest left alone, nothing read of it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from tests.integration.test_invert import kernel
from texpr.emulator.standin import run_program


@te.algorithm(
    "x: f32[N, K], count: T[], w: f32[K] -> y: f32[N, K], s: f32[K], last: f32[K]",
    T=("i32", "u32", "i64"),
    dims=dict(N="count[] <= CAP"),
)
def scaled(x: Any, count: Any, w: Any, y: Any, s: Any, last: Any) -> None:
    """Rows, a sum over them, and a value that depends on how many there are."""
    i, k = te.axes(i="N", k="K")
    y[i, k] = x[i, k] * w[k]
    s[k] = te.sum(x[i, k], over=i)
    last[k] = w[k] * te.dim("N").to("f32")


@te.algorithm("x: i32[M] -> count: i32[], y: i32[N], z: i32[N, 3], t: i32[]", dims=dict(N="count[] <= M // 2"))
def halves(x: Any, count: Any, y: Any, z: Any, t: Any) -> None:
    """More may be counted than there is room for."""
    i, n, c = te.axes(i="M", n="N", c=3)
    rank, found = te.funcs("rank found", "i32")
    h = te.func("h", "i32")
    kept = te.where(x[i] > 0, te.i32(1), 0)
    (k,) = te.axes(k="M // 2")
    rank[i] = te.scan("+", kept, along=i, exclusive=True)
    count[()] = te.sum(kept, over=i)
    found[k] = te.max(x[i], over=i, where=(rank[i] == k) & (x[i] > 0))
    h[n] = found[n] * 2
    y[n] = h[n] + 1
    z[n, c] = h.clamped()[n + 1] + c.to("i32")
    t[()] = te.sum(h[n], over=n)


ROWS = {
    "row by row": ["grid: {k: 32, i: 1}"],
    "tiles": ["grid: {i: 16, k: 8}"],
    "few programs": ["grid: {i: 16, k: 8}", "persistent: {programs: 3}"],
    "rows within": ["grid: {k: 16}", "place: {y: {loop: {i: 8}}}"],
    "staged": ["grid: {i: 8, k: 16}", "stage: {w: {at: tile, in: shared}, x: {at: tile, in: shared}}"],
}


@pytest.mark.parametrize(("rows", "dtype"), [*((rows, "i32") for rows in ROWS), ("tiles", "u32"), ("tiles", "i64")])
def test_rows_that_an_input_counts(rows: str, dtype: str, tmp_path: Path) -> None:
    sums = "    split_reduction: {of: [s], over: i, parts: 3}\n    grid: {k: 16, i.part: 1}\n"
    text = (
        kernel("y", *ROWS[rows]).replace("name: k", "name: rows")
        + f"  - name: parts\n    writes: [s.part]\n{sums}    place: {{s.part: {{loop: {{i: 4}}}}}}\n"
        + "  - {name: sums, writes: [s, last], grid: {k: 32}, whole: {i.part: 4}}\n"
    )
    built = bundle(scaled, text, tmp_path, {"T": dtype})
    rng = np.random.default_rng(1)
    kind = np.dtype(f"{dtype[0]}{int(dtype[1:]) // 8}")
    for cap, k, count in [(0, 3, 0), (5, 4, 0), (1, 1, 1), (40, 20, 17), (33, 16, 33), (9, 5, 12), (9, 5, -3)]:
        if count < 0 and kind.kind == "u":
            continue
        there = min(max(count, 0), cap)
        x = rng.standard_normal((cap, k)).astype(np.float32)
        x[there:] = np.nan
        arrays = {"x": x, "count": np.array(count, kind), "w": rng.standard_normal(k).astype(np.float32)}
        assert worst(built, scaled, arrays, {"T": dtype}) <= 1
        marked = np.full((cap, k), 7.0, np.float32)
        built(**arrays, out={"y": marked})
        assert (marked[there:] == 7.0).all()
        assert not (marked[:there] == 7.0).any()


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_rows_that_an_earlier_kernel_counts(target: str, tmp_path: Path) -> None:
    text = """
  - {name: ranks, writes: [rank], warps: 1, scan: {rank: {across: loop, by: {i: 64}}}}
  - {name: count, writes: [count], warps: 1, place: {count: {loop: {i: 64}}}}
  - {name: found, writes: [found], fill: {found: -2147483648}, grid: {i: 32}, place: {found: {invert: i}}, warps: 1}
  - {name: h, writes: [h], grid: {n: 16}, warps: 1}
  - {name: y, writes: [y], split: {n: {into: [a, b], by: 4}}, grid: {a: 4, b: 1}, warps: 1}
  - {name: z, writes: [z], grid: {n: 8}, whole: {c: 4}, warps: 1}
  - {name: t, writes: [t], warps: 1, place: {t: {loop: {n: 32}}}}
"""
    built = bundle(halves, text.lstrip("\n"), tmp_path, target=target)
    rng = np.random.default_rng(2)
    for m, share in [(0, 0.5), (1, 1.0), (2, 1.0), (90, 0.0), (90, 0.3), (101, 0.9), (64, 0.5)]:
        x = np.where(rng.random(m) < share, rng.integers(1, 99, m), -1).astype(np.int32)
        assert worst(built, halves, {"x": x}) == 0


def test_what_the_device_counts_is_in_the_manifest_and_the_header(tmp_path: Path) -> None:
    bundle(scaled, kernel("y, s, last", "grid: {k: 16}", "place: {y: {loop: {i: 8}}, s: {loop: {i: 8}}}"), tmp_path,
           {"T": "i32"})  # fmt: skip
    (function,) = json.loads((tmp_path / "scaled" / "manifest.json").read_text())["functions"]
    assert function["counts"] == [{"name": "N", "source": "count", "room": "CAP"}]
    assert function["dims"] == ["CAP", "K"]
    shapes = {a["name"]: (a["shape"], a["valid"]) for a in function["arguments"]}
    assert shapes["x"] == (["CAP", "K"], ["N", "K"])
    assert shapes["s"] == (["K"], None)
    header = next((tmp_path / "scaled").rglob("*.h")).read_text()
    assert "N = count[], at most CAP, is read on the device" in header


def test_contracts_are_about_the_part_that_is_there(tmp_path: Path) -> None:
    @te.algorithm("at: i32[N] in [0, P), x: f32[P], count: i32[] -> y: f32[N]", dims=dict(N="count[] <= CAP"))
    def gather(at: Any, x: Any, count: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x[at[i]]

    built = bundle(gather, kernel("y", "grid: {i: 8}"), tmp_path)
    arrays = {"at": np.int32([2, 0, 1, 99, -5]), "x": np.float32([1, 2, 3])}
    assert worst(built, gather, {**arrays, "count": np.array(3, np.int32)}) == 0
    with pytest.raises(te.TExprError, match="99"):
        built(**arrays, count=np.array(4, np.int32))


def test_reads_past_the_count_would_show(tmp_path: Path) -> None:
    """The count of a launch is what the memory holds when its kernels run, not what the host may think."""
    built = bundle(
        scaled, kernel("y, s, last", "grid: {k: 16}", "place: {y: {loop: {i: 8}}, s: {loop: {i: 8}}}"), tmp_path,
        {"T": "i32"},
    )  # fmt: skip
    x, w = np.full((6, 4), np.nan, np.float32), np.ones(4, np.float32)
    x[:2] = 1
    _, sums, last = built(x=x, count=np.array(2, np.int32), w=w)
    assert (sums == 2).all() and (last == 2).all()
    _, sums, _ = built(x=x, count=np.array(3, np.int32), w=w)
    assert np.isnan(sums).all()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_c_program_needs_to_know_the_room_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    built = bundle(scaled, kernel("y, s, last", "grid: {k: 16}", "place: {y: {loop: {i: 8}}, s: {loop: {i: 8}}}"),
                   tmp_path, {"T": "i32"})  # fmt: skip
    folder, program = tmp_path / "scaled", tmp_path / "demo"
    assert built.manifest.entries[0].dims == ("CAP", "K")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
    sources = [str(folder / "demo.c"), str(folder / "scaled.c")]
    subprocess.run(["cc", *flags, *sources, "-o", str(program), "-ldl", "-lm"], check=True)
    report = io.StringIO()
    status = run_program([str(program), str(folder / "demo")], [folder], errors=report)
    assert (status, report.getvalue()) == (0, "")
    assert "PASS" in capfd.readouterr().out
