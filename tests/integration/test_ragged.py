"""Ragged axes: groups of different lengths, empty ones among them, reduced over and on the left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.plan.errors import LoopAxisInvalid, NotLowered, TrimInvalid

OFFSETS = ([0, 0], [0, 1], [0, 7, 7, 8], [0, 0, 33, 33, 64, 65], [0, 5, 5, 5, 40, 41, 41])


@te.algorithm(
    "x: f32[Z], off: i32[R + 1] offsets(Z) -> total: f32[R], low: f32[R], best: f32[R], at: i32[R], mu: f32[R]"
)
def statistics(x: Any, off: Any, total: Any, low: Any, best: Any, at: Any, mu: Any) -> None:
    (r,) = te.axes(r="R")
    p = te.ragged("p", off, r)
    total[r] = te.sum(x[p], over=p, where=x[p] > -1)
    low[r] = te.min(x[p], over=p)
    best[r], at[r] = te.argmax(x[p], over=p)
    mu[r] = te.mean(x[p], over=p)


STATISTICS = """  - name: k
    writes: [total, low, best, at, mu]
    grid: {{r: {rows}}}
    place:
      total: {{at: tile, loop: {{p: 8}}}}
      low: {{at: tile, loop: {{p: 4}}}}
      best: {{at: tile, loop: {{p: 16}}, base: {{p: tile}}}}
      mu.r1: {{at: tile, loop: {{p: 8}}}}
      mu.r2: {{at: tile, loop: {{p: 8}}}}
"""


@pytest.mark.parametrize("rows", [1, 4])
def test_reductions_take_the_points_of_their_group(rows: int, tmp_path: Path) -> None:
    built = bundle(statistics, STATISTICS.format(rows=rows), tmp_path)
    rng = np.random.default_rng(rows)
    for offsets in OFFSETS:
        x = rng.standard_normal(offsets[-1]).astype(np.float32)
        arrays = {"x": x, "off": np.asarray(offsets, np.int32)}
        assert worst(built, statistics, arrays) <= 1
        assert worst(built, statistics, arrays | {"x": np.where(x > 1, np.inf, x).astype(np.float32)}) <= 1


@te.algorithm("x: f16[Z, C], w: f16[R, C], off: i64[R + 1] offsets(Z) -> y: f32[R]")
def weighted(x: Any, w: Any, off: Any, y: Any) -> None:
    r, c = te.axes(r="R", c="C")
    p = te.ragged("p", off, r)
    y[r] = te.sum(x[p, c] * w[r, c], over=(p, c))


def test_a_group_looped_over_together_with_another_axis(tmp_path: Path) -> None:
    """Flattened into one pipeline, and with 64-bit offsets."""
    place = "place: {y: {at: tile, loop: {p: 4, c: 8}}}"
    stage = "stage: {x: {at: y.c, in: shared, depth: 3, copy: sync}}"
    built = bundle(weighted, f"  - name: k\n    writes: [y]\n    grid: {{r: 1}}\n    {place}\n    {stage}\n", tmp_path)
    rng = np.random.default_rng(0)
    for offsets in OFFSETS:
        arrays = {"x": halves(rng, offsets[-1], 11), "w": halves(rng, len(offsets) - 1, 11)}
        assert worst(built, weighted, arrays | {"off": np.asarray(offsets, np.int64)}) <= 1


@te.algorithm("x: f16[P, C], dy: f16[Q, K], a: i32[Z] in [0, P), b: i32[Z] in [0, Q) -> y: f32[C, K]")
def paired(x: Any, dy: Any, a: Any, b: Any, y: Any) -> None:
    c, k, p = te.axes(c="C", k="K", p="Z")
    y[c, k] = te.sum(x[a[p], c] * dy[b[p], k], over=p)


def test_dead_steps_of_a_contraction_through_data_add_nothing(tmp_path: Path) -> None:
    """A dead lane reads index 0, at which there is an element."""
    place = "place: {y: {at: tile, loop: {p: 16}, mma: {op: mma, rows: c, cols: k}}}"
    built = bundle(paired, f"  - name: k\n    writes: [y]\n    grid: {{c: 16, k: 16}}\n    {place}\n", tmp_path)
    rng = np.random.default_rng(0)
    for size in (0, 1, 15, 17):
        pairs = {name: rng.integers(0, 3, size).astype(np.int32) for name in "ab"}
        assert worst(built, paired, {"x": halves(rng, 3, 16), "dy": halves(rng, 3, 16), **pairs}) <= 1


def test_base_of_an_axis_that_follows_no_groups(tmp_path: Path) -> None:
    place = "place: {y: {at: tile, loop: {p: 16}, base: {p: tile}}}"
    with pytest.raises(LoopAxisInvalid, match="follow groups"):
        bundle(paired, f"  - name: k\n    writes: [y]\n    grid: {{c: 16, k: 16}}\n    {place}\n", tmp_path)


def test_a_loop_over_groups_is_not_trimmed(tmp_path: Path) -> None:
    place = "place: {y: {at: tile, loop: {p: 16, c: 1}, trim: [p]}}"
    with pytest.raises(TrimInvalid, match="points of its groups already"):
        bundle(weighted, f"  - name: k\n    writes: [y]\n    grid: {{r: 1}}\n    {place}\n", tmp_path)


CURSORS = """  - name: k
    writes: [total, low, best, at, mu]
    grid: {{r: {rows}}}
    place:
      total: {{at: tile, loop: {{p: 8}}, base: {{p: row}}}}
      low: {{at: tile, loop: {{p: 8}}, base: {{p: row}}, trim: {{p: split}}}}
      best: {{at: tile, loop: {{p: 8}}, base: {{p: row}}}}
      mu.r1: {{at: tile, loop: {{p: 8}}, base: {{p: row}}}}
      mu.r2: {{at: tile, loop: {{p: 8}}, base: {{p: row}}}}
"""


@pytest.mark.parametrize("rows", [1, 4])
def test_every_row_has_a_cursor_of_its_own(rows: int, tmp_path: Path) -> None:
    built = bundle(statistics, CURSORS.format(rows=rows), tmp_path)
    rng = np.random.default_rng(rows)
    for offsets in OFFSETS:
        x = rng.standard_normal(offsets[-1]).astype(np.float32)
        arrays = {"x": np.where(x > 1, np.inf, x).astype(np.float32), "off": np.asarray(offsets, np.int32)}
        assert worst(built, statistics, arrays) <= 1


@te.algorithm("x: f32[Z, C], off: i32[R + 1] offsets(Z), last: i32[R] -> y: f32[R, C]")
def upto(x: Any, off: Any, last: Any, y: Any) -> None:
    """Of every group the points up to one that may lie anywhere."""
    r, c = te.axes(r="R", c="C")
    p = te.ragged("p", off, r)
    y[r, c] = te.sum(x[p, c], over=p, where=p <= last[r])


@pytest.mark.parametrize("mode", ["mask", "split"])
@pytest.mark.parametrize("rows", [1, 8])
def test_cursors_stop_where_the_guard_does(rows: int, mode: str, tmp_path: Path) -> None:
    place = f"place: {{y: {{at: tile, loop: {{p: 4}}, base: {{p: row}}, trim: {{p: {mode}}}}}}}"
    text = f"  - name: k\n    writes: [y]\n    grid: {{r: {rows}, c: 16}}\n    {place}\n"
    built = bundle(upto, text, tmp_path)
    rng = np.random.default_rng(rows)
    for offsets in OFFSETS:
        last = rng.integers(-3, offsets[-1] + 9, len(offsets) - 1).astype(np.int32)
        arrays = {"x": rng.standard_normal((offsets[-1], 19)).astype(np.float32), "last": last}
        assert worst(built, upto, arrays | {"off": np.asarray(offsets, np.int32)}) <= 1


def test_cursors_together_with_another_loop(tmp_path: Path) -> None:
    """Steps of the rows' own points times those of an axis, with 64-bit offsets."""
    place = "place: {y: {at: tile, loop: {p: 16, c: 2}, base: {p: row}}}"
    built = bundle(weighted, f"  - name: k\n    writes: [y]\n    grid: {{r: 2}}\n    {place}\n", tmp_path)
    rng = np.random.default_rng(0)
    for offsets in OFFSETS:
        arrays = {"x": halves(rng, offsets[-1], 11), "w": halves(rng, len(offsets) - 1, 11)}
        assert worst(built, weighted, arrays | {"off": np.asarray(offsets, np.int64)}) <= 1


@te.algorithm("x: f16[M, K], w: f16[E, K, N], off: i32[E + 1] offsets(M) -> y: f16[M, N]")
def grouped(x: Any, w: Any, off: Any, y: Any) -> None:
    e, j, k = te.axes(e="E", j="N", k="K")
    m = te.ragged("m", off, e)
    y[m, j] = te.sum(x[m, k] * w[e, k, j], over=k)


GROUPED = "place: {y: {at: tile, loop: {k: 16}, mma: {op: mma, rows: m, cols: j}}}"


@pytest.mark.parametrize(
    "more",
    [
        "grid: {m: 16, j: 16}",
        "grid: {j: 16, m: 16}\n    order: {reverse: m}",
        "grid: {m: 32, j: 16}\n    order: {group: m, by: 2}\n    persistent: true",
        "grid: {m: 16, j: 16}\n    stage: {x: {at: y.k, in: shared, depth: 3, copy: async}}",
        "grid: {m: 64}\n    whole: {j: 32}\n    persistent: {programs: 3}",
    ],
)
def test_tiles_of_rows_lie_in_one_group(more: str, tmp_path: Path) -> None:
    when = "  when: N <= 32 and K % 8 == 0 and aligned(x, 16)\n"
    schedule = (
        f"texpr: 1\nalgorithm: grouped\nvariants:\n- name: only\n  target: [sm_80]\n{when}  kernels:\n"
        f"  - name: k\n    writes: [y]\n    {more}\n    {GROUPED}\n"
        "- name: rest\n  target: [sm_80]\n  kernels:\n  - {name: r, writes: [y], grid: {m: 1, j: 1},"
        " place: {y: {at: tile, loop: {k: 1}}}}\n"
    )
    built = bundle(grouped, schedule, tmp_path)
    rng = np.random.default_rng(0)
    for offsets in OFFSETS:
        groups = len(offsets) - 1
        for columns in (1, 19):
            arrays = {"x": halves(rng, offsets[-1], 24), "w": halves(rng, groups, 24, columns)}
            assert worst(built, grouped, arrays | {"off": np.asarray(offsets, np.int32)}) <= 1


def test_many_empty_groups_between_two_rows(tmp_path: Path) -> None:
    built = bundle(grouped, f"  - name: k\n    writes: [y]\n    grid: {{m: 16, j: 16}}\n    {GROUPED}\n", tmp_path)
    rng = np.random.default_rng(0)
    off = np.asarray([0] * 40 + [1] * 60 + [2], np.int32)
    arrays = {"x": halves(rng, 2, 8), "w": halves(rng, 100, 8, 3), "off": off}
    assert worst(built, grouped, arrays) <= 1


@te.algorithm("x: f32[Z], s: f32[R], off: i32[R + 1] offsets(Z), at: i32[N] in [0, Z) -> y: f32[Z], z: f32[N]")
def scaled(x: Any, s: Any, off: Any, at: Any, y: Any, z: Any) -> None:
    r, i = te.axes(r="R", i="N")
    p = te.ragged("p", off, r)
    low = te.func("low")
    low[r] = te.min(x[p], over=p)
    y[p] = (x[p] - low[r]) * s[r]
    z[i] = y[at[i]]


SCALED = """  - name: lows
    writes: [low]
    grid: {{r: 2}}
    place: {{low: {{at: tile, loop: {{p: 16}}}}}}
  - name: points
    writes: [y]
    {points}
  - name: picked
    writes: [z]
    grid: {{i: 32}}
"""


@pytest.mark.parametrize("points", ["grid: {p: 32}", "grid: {r: 1}\n    place: {y: {loop: {p: 8}}}"])
def test_points_know_their_group(points: str, tmp_path: Path) -> None:
    built = bundle(scaled, SCALED.format(points=points), tmp_path)
    rng = np.random.default_rng(0)
    for offsets in OFFSETS:
        size = offsets[-1]
        x, s = rng.standard_normal(size), rng.standard_normal(len(offsets) - 1)
        at = rng.integers(0, max(size, 1), 9 if size else 0)
        arrays = {"x": x.astype(np.float32), "s": s.astype(np.float32), "at": at.astype(np.int32)}
        assert worst(built, scaled, arrays | {"off": np.asarray(offsets, np.int32)}) <= 1


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("grid: {r: 2}\n    place: {y: {loop: {p: 8}}}", "points p of 2 groups at once"),
        ("grid: {p: 8, r: 1}", "p in the grid beside its groups r"),
    ],
)
def test_tiles_of_several_groups_are_not_stored_along_their_points(points: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(NotLowered, match=message):
        bundle(scaled, SCALED.format(points=points), tmp_path)


def test_a_func_whose_group_is_not_known_is_not_inlined(tmp_path: Path) -> None:
    @te.algorithm("x: f32[Z], s: f32[R], off: i32[R + 1] offsets(Z), at: i32[N] in [0, Z) -> z: f32[N]")
    def picked(x: Any, s: Any, off: Any, at: Any, z: Any) -> None:
        r, i = te.axes(r="R", i="N")
        p = te.ragged("p", off, r)
        y = te.func("y")
        y[p] = x[p] * s[r]
        z[i] = y[at[i]]

    with pytest.raises(NotLowered, match="y at another point than p, where its r is not known"):
        bundle(picked, "  - name: k\n    writes: [z]\n    grid: {i: 32}\n", tmp_path)
    kernels = "  - {name: a, writes: [y], grid: {p: 32}}\n  - {name: b, writes: [z], grid: {i: 32}}\n"
    built = bundle(picked, kernels, tmp_path)
    arrays = {"x": np.float32([1, 2, 3]), "s": np.float32([10, 20]), "at": np.int32([2, 0, 2])}
    assert worst(built, picked, arrays | {"off": np.int32([0, 1, 3])}) <= 1


@te.algorithm(
    "q: f16[NQ, H, D], k: f16[NK, H, D], v: f16[NK, H, D], qs: i32[B + 1] offsets(NQ), ks: i32[B + 1] offsets(NK)"
    " -> o: f16[NQ, H, D]",
    static={"D": 32},
)
def attention(q: Any, k: Any, v: Any, qs: Any, ks: Any, o: Any) -> None:
    """Queries and keys of sequences of different lengths: two ragged axes of one group."""
    b, h, d, e = te.axes(b="B", h="H", d="D", e="D")
    i, j = te.ragged("i", qs, b), te.ragged("j", ks, b)
    s, m, p, l, u = te.funcs("s m p l u")  # noqa: E741
    s[i, h, j] = te.sum(q[i, h, d] * k[j, h, d], over=d)
    m[i, h] = te.max(s[i, h, j], over=j)
    p[i, h, j] = te.exp(s[i, h, j] - m[i, h])
    l[i, h] = te.sum(p[i, h, j], over=j)
    u[i, h, e] = te.sum(p[i, h, j].to("f16") * v[j, h, e], over=j)
    o[i, h, e] = te.where(l[i, h] > 0, u[i, h, e] / l[i, h], 0)


def test_tiles_of_queries_see_the_keys_of_their_sequence(tmp_path: Path) -> None:
    schedule = """texpr: 1
algorithm: attention
variants:
- name: any
  target: [sm_80]
  relax: [{rounding: p}]
  assume: [finite(q), finite(k), finite(v)]
  kernels:
  - name: forward
    writes: [o]
    grid: {i: 32, h: 1}
    whole: {d: 32, e: 32}
    online: {funcs: [m, l, u], at: tile, loop: {j: 32}}
    place:
      s: {at: u.j, mma: {op: mma, rows: i, cols: j}}
      p: {at: u.j}
      u: {mma: {op: mma, rows: i, cols: e}}
"""
    built = bundle(attention, schedule, tmp_path)
    rng = np.random.default_rng(0)
    for qs, ks in (([0, 1], [0, 3]), ([0, 0, 40, 41, 50], [0, 9, 9, 80, 81]), ([0, 33, 70], [0, 64, 97])):
        q, k, v = (halves(rng, size, 2, 32) * np.float16(0.3) for size in (qs[-1], ks[-1], ks[-1]))
        found = built(q, k, v, np.int32(qs), np.int32(ks)).astype(np.float64)
        for n in range(len(qs) - 1):
            for h in range(2):
                a, b = (x[s[n] : s[n + 1], h].astype(np.float64) for x, s in ((q, qs), (k, ks)))
                weights = np.exp(a @ b.T)
                total = weights.sum(axis=1, keepdims=True)
                wanted = weights / np.where(total > 0, total, 1) @ v[ks[n] : ks[n + 1], h].astype(np.float64)
                np.testing.assert_allclose(found[qs[n] : qs[n + 1], h], wanted, atol=4e-3)
