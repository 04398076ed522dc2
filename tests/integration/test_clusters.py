"""Clusters on the emulator: programs that get boxes from one of them, where tiles and clusters end inside of an axis,
for every number of steps around the depth of the ring, and whatever the order in which programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import halves
from tests.integration.test_boxes import convolved, product, scaled, scores, stages, triangle, variants
from tests.integration.test_roles import attend, built, right, roles
from texpr.lang.accuracy import Accuracy

PLAIN = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
_FOUR = "persistent: {programs: 4}, "
LOAD = roles("y", load="stage.x, stage.w")


@pytest.mark.parametrize(
    ("cluster", "persistent"),
    [("{i: 2}", _FOUR), ("{j: 2}", ""), ("{i: 2, j: 2}", _FOUR), ("{j: 4}", "")],
)
def test_programs_of_a_cluster_share_boxes(cluster: str, persistent: str, tmp_path: Path) -> None:
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    kernel = f"{PLAIN}, cluster: {cluster}, {persistent}stage: {{{entry}}}, {LOAD}"
    bundles = built(product, variants("product", "sm_90a", kernel, PLAIN, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(0)
    for m, k, n in ((97, 48, 72), (64, 16, 64), (100, 0, 8), (5, 112, 8), (1, 32, 136)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize("depth", [2, 4])
def test_a_product_in_flight_keeps_the_slots_of_all_programs(depth: int, tmp_path: Path) -> None:
    place = "place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j, a: shared}}}"
    entry = stages("y.k", x=f"copy: tma, depth: {depth}", w=f"copy: tma, depth: {depth}")
    tile = "grid: {i: 64, j: 32}, cluster: {i: 2}, persistent: {programs: 1}"
    kernel = f"{tile}, {place}, stage: {{{entry}}}, {LOAD}"
    bundles = built(product, variants("product", "sm_90a", kernel, PLAIN, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(7)
    for m, k, n in ((129, 32 * (depth + 1), 72), (127, 32 * (2 * depth + 1), 40), (100, 0, 8), (5, 24, 8)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize("fetching", [{"a": "stage.x", "b": "stage.w"}, {"a": "stage.x"}], ids=["two", "one of two"])
def test_what_several_roles_fetch_for_several_programs(fetching: dict[str, str], tmp_path: Path) -> None:
    """What the computing role fetches itself, each program fetches by itself."""
    entry = stages("y.k", x="copy: tma, depth: 4", w="copy: tma, depth: 2")
    computes = "y" if len(fetching) == 2 else "y, stage.w"
    tile = f"{PLAIN}, cluster: {{i: 2, j: 2}}, persistent: {{programs: 4}}"
    kernel = f"{tile}, stage: {{{entry}}}, {roles(computes, **fetching)}"
    bundles = built(product, variants("product", "sm_90a", kernel, PLAIN, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(1)
    for m, k, n in ((97, 48, 72), (33, 80, 40), (40, 0, 8)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize(
    ("tile", "cluster"),
    [
        ("grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}, mma: fma, via: shared}}", "{i: 2, j: 2}"),
        ("grid: {i: 32, j: 64}, place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: j, cols: i}}}", "{i: 2}"),
        ("grid: {i: 64, j: 96}, place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j}}}", "{i: 2}"),
    ],
    ids=["fma", "columns as rows", "a tile of two parts"],
)
def test_every_unit_has_parts_for_programs(tile: str, cluster: str, tmp_path: Path) -> None:
    kernel = f"{tile}, cluster: {cluster}, stage: {{{stages('y.k', x='copy: tma, depth: 2', w='copy: tma, depth: 2')}}}"
    bundles = built(product, variants("product", "sm_90a", f"{kernel}, {LOAD}", PLAIN, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(10)
    assert right(bundles, product, x=halves(rng, 65, 104), w=halves(rng, 104, 136))


@pytest.mark.parametrize("unit", ["fma", "wgmma"])
def test_attention_of_several_programs_shares_its_keys(unit: str, tmp_path: Path) -> None:
    """Every program has queries of its own; steps are zeroed in the memory of each where a guard says so."""
    rows, keys = (64, 64) if unit == "wgmma" else (16, 16)
    grid = f"grid: {{b: 1, i: {rows}}}, whole: {{d: 32, e: 32}}"
    place = "{s: {at: u.j, mma: {op: wgmma, rows: i, cols: j}}, p: {at: u.j}, u: {mma: {op: wgmma, a: registers}}}"
    trim = "" if unit == "wgmma" else ", trim: {j: split}"
    online = f"online: {{funcs: [m, total, u], at: tile, loop: {{j: {keys}}}{trim}}}"
    placed = f"place: {place}" if unit == "wgmma" else "place: {s: {at: u.j}, p: {at: u.j}}"
    entry = f"{stages('tile', q='copy: tma')}, {stages('u.j', k='copy: tma, depth: 2', v='copy: tma, depth: 2')}"
    fetched = roles("online, s, p, o", load="stage.q, stage.k, stage.v")
    tile = f"{grid}, cluster: {{i: 2}}, persistent: {{programs: 4}}"
    kernel = f"{tile}, {online}, {placed}, stage: {{{entry}}}, {fetched}"
    plain = f"{grid}, {online}, place: {{s: {{at: u.j}}, p: {{at: u.j}}}}"
    text = variants("attend", "sm_90a", kernel, plain, "q, k, v").replace("writes: [y]", "writes: [o]")
    finite = "assume: [finite(q), finite(k), finite(v)]"
    text = text.replace("  kernels:", f"  relax: [{{rounding: p}}]\n  {finite}\n  kernels:")
    bundles = built(attend, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(9)
    for b, s, length in ((1, 1, 1), (2, 2 * rows + 1, 2 * keys + 1), (2, rows, 3 * keys)):
        q, k, v = (halves(rng, b, points, 32) for points in (s, length, length))
        n = rng.integers(0, length + 1, b).astype(np.int32)
        assert right(bundles, attend, Accuracy(relaxed=frozenset({"p"})), q=q, k=k, v=v, n=n), (b, s, length)


@pytest.mark.parametrize("axis", ["i", "j"])
def test_parts_of_a_trimmed_loop_are_the_same_for_all_programs(axis: str, tmp_path: Path) -> None:
    entry = stages("y.k", l="copy: tma, depth: 3", x="copy: tma, depth: 3")
    place = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}, trim: {k: split}}}"
    load = roles("y", load="stage.l, stage.x")
    kernel = f"{place}, cluster: {{{axis}: 2}}, persistent: {{programs: 4}}, stage: {{{entry}}}, {load}"
    text = variants("triangle", "sm_90a", kernel, PLAIN, "l, x")
    text = text.replace("kernels:", "assume: [finite(l), finite(x)]\n  kernels:")
    bundles = built(triangle, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(4)
    for m, k, n in ((33, 40, 8), (97, 96, 72), (40, 0, 8)):
        assert right(bundles, triangle, l=halves(rng, m, k), x=halves(rng, k, n)), (m, k, n)


def test_instances_and_programs_divide_different_axes(tmp_path: Path) -> None:
    """Both instances of both programs have read a slot before it is filled again."""
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    tile = "grid: {i: 128, j: 32}, place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j, a: shared}}}"
    how = "roles: {compute: {warps: 4, times: 2, split: i, runs: [y]}, load: {warps: 1, runs: [stage.x, stage.w]}}"
    kernel = f"{tile}, cluster: {{j: 2}}, persistent: {{programs: 4}}, stage: {{{entry}}}, {how}"
    bundles = built(product, variants("product", "sm_90a", kernel, PLAIN, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(8)
    for m, k, n in ((129, 136, 40), (65, 32, 200), (100, 0, 8)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


def test_threads_read_what_came_for_all_programs(tmp_path: Path) -> None:
    """A tile that an outer loop keeps, rows that an inner one reads: sums inside of each program."""
    grid = "grid: {i: 4}, place: {y: {loop: {a: 4, b: 32}}}"
    inner, outer = stages("y.b", x="copy: tma, depth: 3", v="copy: tma, depth: 3"), stages("y.a", t="copy: tma")
    kernel = f"{grid}, cluster: {{i: 4}}, stage: {{{inner}, {outer}}}, {roles('y', load='stage.x, stage.v, stage.t')}"
    bundles = built(scaled, variants("scaled", "sm_90a", kernel, grid, "x, t, v"), tmp_path, "sm_90a")
    rng = np.random.default_rng(2)
    for m, a, b in ((5, 3, 12), (17, 13, 132), (3, 0, 8), (3, 2, 0), (4, 8, 64)):
        x, t, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, a, b), (a,), (b,)))
        assert right(bundles, scaled, x=x, t=t, v=v), (m, a, b)


@pytest.mark.parametrize("axis", ["i", "j"])
def test_boxes_with_more_dims_than_the_tile(axis: str, tmp_path: Path) -> None:
    grid = "grid: {b: 1, g: 1, r: 1, i: 16, j: 16}, whole: {d: 32}"
    entry = stages("tile", q="copy: tma", k="copy: tma")
    tile = f"{grid}, cluster: {{{axis}: 2}}, persistent: {{programs: 4}}"
    kernel = f"{tile}, stage: {{{entry}}}, {roles('y', load='stage.q, stage.k')}"
    bundles = built(scores, variants("scores", "sm_90a", kernel, grid, "q, k"), tmp_path, "sm_90a")
    rng = np.random.default_rng(3)
    for b, g, r, s, length in ((1, 1, 1, 1, 1), (2, 2, 3, 17, 33)):
        assert right(bundles, scores, q=halves(rng, b, g, r, s, 32), k=halves(rng, b, g, length, 32))


@pytest.mark.parametrize("axis", ["p", "k"])
def test_shifted_boxes_of_several_programs(axis: str, tmp_path: Path) -> None:
    grid = "grid: {n: 1, p: 2, q: 16, k: 16}, place: {y: {loop: {r: 1, s: 1, c: 16}}}"
    entry = stages("y.c", x="copy: tma, depth: 4", w="copy: tma, depth: 4")
    tile = f"{grid}, cluster: {{{axis}: 2}}, persistent: {{programs: 4}}"
    kernel = f"{tile}, stage: {{{entry}}}, {LOAD}"
    bundles = built(convolved, variants("convolved", "sm_90a", kernel, grid, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(5)
    for n, h, w, c, k in ((1, 1, 1, 8, 8), (1, 3, 17, 24, 24)):
        assert right(bundles, convolved, x=halves(rng, n, h, w, c), w=halves(rng, 3, 3, c, k))


@te.algorithm("x: f16[B, M, K], w: f16[B, K, N], c: f16[N] -> y: f16[B, M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def layers(x: Any, w: Any, c: Any, y: Any) -> None:
    b, i, j, k = te.axes(b="B", i="M", j="N", k="K")
    acc = te.func("acc")
    acc[b, i, j] = te.sum(x[b, i, k] * w[b, k, j], over=k)
    y[b, i, j] = te.relu(acc[b, i, j] + c[j])


@pytest.mark.parametrize("cluster", ["{i: 2}", "{i: 2, j: 2}"])
def test_outputs_leave_in_pieces_of_every_program(cluster: str, tmp_path: Path) -> None:
    """Halves of accumulators, through shared memory to boxes of three dims."""
    by = "" if "j" in cluster else "by: {j: 32}, depth: 2, "
    place = "acc: {at: tile, loop: {k: 64}, mma: {op: wgmma, rows: i, cols: j}}"
    entry = stages("acc.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    grid = f"grid: {{b: 1, i: 64, j: 64}}, cluster: {cluster}, persistent: {{programs: 8}}"
    stores = f"place: {{{place}, y: {{at: tile, {by}via: shared, copy: tma}}}}"
    kernel = f"{grid}, {stores}, stage: {{{entry}}}, {roles('acc, y', load='stage.x, stage.w')}"
    plain = "grid: {b: 1, i: 32, j: 32}, place: {acc: {at: tile, loop: {k: 32}}}"
    bundles = built(layers, variants("layers", "sm_90a", kernel, plain, "x, w, y"), tmp_path, "sm_90a")
    rng = np.random.default_rng(6)
    for b, m, k, n in ((2, 65, 136, 72), (1, 128, 64, 128), (1, 1, 8, 200)):
        arrays = {"x": halves(rng, b, m, k), "w": halves(rng, b, k, n), "c": halves(rng, n)}
        assert right(bundles, layers, **arrays), (b, m, k, n)
