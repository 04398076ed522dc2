"""Inverted reductions compute what the guard says: every operator, types, both memories, keys in and out of range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst


@te.algorithm("k: i32[N], v: T[N], like: u8[B] -> y: T[B]", T=("i32", "u32", "i64", "u64", "f32", "f64"))
def sums(k: Any, v: Any, like: Any, y: Any) -> None:
    i, b = te.axes(i="N", b="B")
    y[b] = te.sum(v[i], over=i, where=(k[i] == b) & (i != 3))


@te.algorithm("k: i64[N, 3], v: i32[N] -> lo: i32[16], hi: i32[16], a: u32[16], o: u32[16], x: u32[16]")
def extremes(k: Any, v: Any, lo: Any, hi: Any, a: Any, o: Any, x: Any) -> None:
    """Keys and values read twice, and every operator there is."""
    i, j, b = te.axes(i="N", j=3, b=16)
    word = v[i].to("u32") << (3 * j).to("u32")
    lo[b] = te.min(v[i] - j.to("i32"), over=(i, j), where=b == k[i, j])
    hi[b] = te.max(v[i] + j.to("i32"), over=(i, j), where=k[i, j] - 1 == b)
    a[b] = te.reduce("and", ~word, over=(i, j), where=k[i, j] == b)
    o[b] = te.reduce("or", word, over=(i, j), where=k[i, j] == b)
    x[b] = te.reduce("xor", word, over=(i, j), where=k[i, j] == b)


@te.algorithm("r: u8[N], c: i16[N], v: i32[N, L], w: i32[P], like: u8[P, Q] -> y: i32[P, L, Q], n: u32[P]")
def table(r: Any, c: Any, v: Any, w: Any, like: Any, y: Any, n: Any) -> None:
    """Two keys, an axis between them, a weight found by a key, and a count that has fewer axes."""
    i, p, l, q = te.axes(i="N", p="P", l="L", q="Q")  # noqa: E741
    y[p, l, q] = te.sum(v[i, l] * w[p] + l.to("i32"), over=i, where=(r[i] == p) & (c[i] == q) & (w[p] != 1))
    n[p] = te.sum(te.u32(2), over=i, where=r[i] == p)


def kernel(writes: str, *directives: str) -> str:
    lines = ["- name: k", f"  writes: [{writes}]", "  warps: 2", *(f"  {line}" for line in directives)]
    return "".join(f"  {line}\n" for line in lines)


def relaxed(body: str) -> str:
    """A schedule of ``sums`` whose floats may be added in any order."""
    head = "texpr: 1\nalgorithm: sums\nvariants:\n- name: only\n  target: [sm_80]\n  relax: [{order: y}]\n"
    return f"{head}  kernels:\n{body}"


def numbers(rng: np.random.Generator, dtype: str, count: int) -> Any:
    real = np.dtype(f"{dtype[0]}{int(dtype[1:]) // 8}")
    drawn = rng.integers(0, 1 << 31, count) if real.kind in "iu" else rng.standard_normal(count)
    return drawn.astype(real)


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64", "f32", "f64"])
def test_sums_of_every_type(dtype: str, tmp_path: Path) -> None:
    body = kernel("y", "grid: {i: 64}", "fill: {y: 0}", "place: {y: {invert: i, in: global}}")
    built = bundle(sums, relaxed(body), tmp_path, {"T": dtype})
    rng = np.random.default_rng(1)
    for n, b in [(0, 3), (1, 1), (200, 7)]:
        values = numbers(rng, dtype, n)
        keys = rng.integers(-2, b + 2, n, dtype=np.int32)
        if n:
            keys[-1] = np.iinfo(np.int32).min
        assert worst(built, sums, {"k": keys, "v": values, "like": np.zeros(b, np.uint8)}, {"T": dtype}) <= 1


@pytest.mark.parametrize("memory", ["global", "shared"])
@pytest.mark.parametrize(
    "how",
    [
        ["grid: {i: 32}", "whole: {j: 4}"],
        ["grid: {i: 16, j: 1}"],
        ["grid: {i: 8}", "whole: {j: 4}", "persistent: {programs: 3}"],
    ],
)
def test_every_operator_in_both_memories(memory: str, how: list[str], tmp_path: Path) -> None:
    where = f"{{invert: [i, j], in: {memory}}}"
    fills = f"lo: {2**31 - 1}, hi: {-(2**31)}, a: {2**32 - 1}, o: 0, x: 0"
    places = ", ".join(f"{name}: {where}" for name in ("lo", "hi", "a", "o", "x"))
    built = bundle(extremes, kernel("lo, hi, a, o, x", *how, f"fill: {{{fills}}}", f"place: {{{places}}}"), tmp_path)
    rng = np.random.default_rng(2)
    for n in (0, 1, 37, 90):
        keys = rng.integers(-3, 19, (n, 3), dtype=np.int64)
        if n > 1:
            keys[:2, 0] = [np.iinfo(np.int64).min, np.iinfo(np.int64).max]
        values = rng.integers(-1000, 1000, n, dtype=np.int32)
        assert worst(built, extremes, {"k": keys, "v": values}) == 0


@pytest.mark.parametrize("grid", ["{i: 32, l: 4}", "{i: 1, l: 8}", "{l: 1, i: 128}"])
def test_two_keys_and_an_axis_that_one_func_lacks(grid: str, tmp_path: Path) -> None:
    places = "place: {y: {invert: i, in: global}, n: {invert: i, in: global, once: l}}"
    built = bundle(table, kernel("y, n", f"grid: {grid}", "fill: {y: 0, n: 0}", places), tmp_path)
    rng = np.random.default_rng(3)
    for n, wide, p, q in [(1, 1, 1, 1), (40, 5, 4, 3), (130, 9, 2, 8)]:
        arrays = {
            "r": rng.integers(0, p + 2, n, dtype=np.uint8),
            "c": rng.integers(-2, q + 2, n, dtype=np.int16),
            "v": rng.integers(-99, 99, (n, wide), dtype=np.int32),
            "w": rng.integers(0, 4, p, dtype=np.int32),
            "like": np.zeros((p, q), np.uint8),
        }
        assert worst(built, table, arrays) == 0


@te.algorithm("k: i32[N], v: i32[N] -> y: i32[5]")
def doubled(k: Any, v: Any, y: Any) -> None:
    i, b, c = te.axes(i="N", b=5, c=7)
    at, sums = te.funcs("at sums", "i32")
    at[c] = c.to("i32") * 3 % 5
    sums[b] = te.sum(v[i], over=i, where=(at.clamped()[k[i]] == b) & (at.clamped()[k[i] - 1] < v[i]))
    y[b] = sums[b] * 2


def test_many_programs_read_and_update_the_workspace(tmp_path: Path) -> None:
    """The emulator runs programs in batches. The first ones read the workspace and write nothing; the last one, which
    is smaller, writes."""
    text = """
  - {name: keys, writes: [at], grid: {c: 8}, warps: 1}
  - {name: add, writes: [sums], fill: {sums: 0}, grid: {i: 128}, place: {sums: {invert: i, in: global}}, warps: 4}
  - {name: double, writes: [y], grid: {b: 8}, warps: 1}
"""
    built = bundle(doubled, text.lstrip("\n"), tmp_path)
    rng = np.random.default_rng(9)
    for n in (128 * 17, 128 * 41 + 3):
        values = rng.integers(-9, 9, n, dtype=np.int32)
        values[:-50] = 0
        assert worst(built, doubled, {"k": rng.integers(0, 7, n, dtype=np.int32), "v": values}) == 0
