"""Several instances of a role that computes, on the emulator: parts of one tile, or tiles in turn, whatever the order
in which warps run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import halves
from tests.integration.test_boxes import TARGETS, product, scaled, scores, stages, triangle, variants
from tests.integration.test_roles import attend, built, right
from tests.integration.test_tensor_stores import product as halved_product
from texpr.lang.accuracy import Accuracy

SIZES = ((97, 48, 72), (33, 32, 40), (100, 0, 8), (1, 8, 136))
PLAIN = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"


def roles(computes: str, load: str, how: str, registers: str = "") -> str:
    fetching = f"load: {{warps: 1, {'registers: 24, ' if registers else ''}runs: [{load}]}}"
    return f"roles: {{compute: {{warps: 4, {how}, {registers}runs: [{computes}]}}, {fetching}}}"


@pytest.mark.parametrize(
    ("how", "target"), [("times: 2, split: i", TARGETS[0]), ("times: 2, split: i", TARGETS[1]),
                        ("times: 4, split: i", TARGETS[0])],
)  # fmt: skip
def test_parts_of_a_tile(how: str, target: str, tmp_path: Path) -> None:
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    kernel = f"{PLAIN}, persistent: {{programs: 2}}, stage: {{{entry}}}"
    kernel = f"{kernel}, {roles('y', 'stage.x, stage.w', how)}"
    bundles = built(product, variants("product", target, kernel, PLAIN, "x, w"), tmp_path, target)
    rng = np.random.default_rng(0)
    for m, k, n in SIZES:
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize(("how", "rows"), [("times: 2, split: i", 128), ("times: 2", 64)], ids=["parts", "in turn"])
def test_groups_of_warps_multiply_by_warpgroups(how: str, rows: int, depth: int, tmp_path: Path) -> None:
    """Each has 64 rows, of one tile or of every other one."""
    mma = "mma: {op: wgmma, rows: i, cols: j, a: shared}"
    tile = f"grid: {{i: {rows}, j: 32}}, place: {{y: {{loop: {{k: 32}}, {mma}}}}}"
    entry = stages("y.k", x=f"copy: tma, depth: {depth}", w=f"copy: tma, depth: {depth}")
    each = roles("y", "stage.x, stage.w", how, registers="registers: 240, ")
    kernel = f"{tile}, persistent: {{programs: 2}}, stage: {{{entry}}}, {each}"
    bundles = built(product, variants("product", "sm_90a", kernel, PLAIN, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(1)
    for m, k, n in ((257, 96, 40), (65, 32, 8), (128, 0, 8), (300, 168, 8)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@te.algorithm("x: f16[M, K], w: f16[K, N], b: f32[N] -> y: f16[M, N], c: f32[N]", require=["K % 8 == 0", "N % 8 == 0"])
def with_columns(x: Any, w: Any, b: Any, y: Any, c: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc, half = te.funcs("acc half")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    half[j] = b[j] * 0.5
    y[i, j] = acc[i, j] + half[j]
    c[j] = half[j]


def test_what_has_no_part_is_computed_by_all_and_stored_once(tmp_path: Path) -> None:
    """And pieces of parts go out through shared memory of their own."""
    place = "place: {acc: {at: tile, loop: {k: 16}}, half: {at: tile}, y: {via: shared, copy: tma, depth: 2}}"
    entry = stages("acc.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    how = roles("acc, half, y, c", "stage.x, stage.w", "times: 2, split: i")
    kernel = f"grid: {{j: 32}}, whole: {{i: 32}}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {how}"
    plain = "grid: {j: 32}, whole: {i: 32}, place: {acc: {at: tile, loop: {k: 16}}}"
    text = variants("with_columns", "sm_90a", kernel, plain, "x, w, y")
    text = text.replace("writes: [y]", "writes: [y, c]").replace("when: ", "when: M >= 1 and M <= 32 and ")
    text += "- {name: last, target: sm_90a, kernels: [{name: y, writes: [y], grid: {i: 1, j: 1}, place: {acc: {at: tile, loop: {k: 16}}}}, {name: c, writes: [c], grid: {j: 32}}]}\n"  # noqa: E501
    text = text.replace("name: rest\n  target: [sm_90a]\n", "name: rest\n  target: [sm_90a]\n  when: M <= 32\n")
    bundles = built(with_columns, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(2)
    for m, k, n in ((32, 48, 72), (17, 16, 96), (1, 0, 8), (16, 32, 40)):
        b = rng.standard_normal(n).astype(np.float32)
        assert right(bundles, with_columns, x=halves(rng, m, k), w=halves(rng, k, n), b=b), (m, k, n)


@pytest.mark.parametrize("mode", ["split", "mask"])
def test_parts_make_the_steps_of_the_whole_tile(mode: str, tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}"
    entry = stages("y.k", l="copy: tma, depth: 3", x="copy: tma, depth: 3")
    place = f"place: {{y: {{loop: {{k: 16}}, trim: {{k: {mode}}}}}}}"
    how = roles("y", "stage.l, stage.x", "times: 2, split: i")
    kernel = f"{grid}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {how}"
    text = variants("triangle", "sm_90a", kernel, PLAIN, "l, x")
    text = text.replace("kernels:", "assume: [finite(l), finite(x)]\n  kernels:")
    bundles = built(triangle, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(3)
    for m, k, n in ((33, 40, 8), (97, 96, 40), (1, 8, 8), (40, 0, 8)):
        assert right(bundles, triangle, l=halves(rng, m, k), x=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize("mode", ["split", "mask"])
def test_one_pass_over_rows_in_parts(mode: str, tmp_path: Path) -> None:
    """What a guard leaves out of a tile that all instances read is zeroed by one of them."""
    grid = "grid: {b: 1, i: 32}, whole: {d: 32, e: 32}, place: {s: {at: u.j}}"
    online = f"online: {{funcs: [m, total, u], at: tile, loop: {{j: 32}}, trim: {{j: {mode}}}}}"
    entry = ", ".join([stages("tile", q="copy: tma"), stages("u.j", k="copy: tma, depth: 2", v="copy: tma, depth: 2")])
    how = roles("online, s, o", "stage.q, stage.k, stage.v", "times: 2, split: i")
    text = variants("attend", "sm_90a", f"{grid}, {online}, stage: {{{entry}}}, {how}", f"{grid}, {online}", "q, k, v")
    text = text.replace("writes: [y]", "writes: [o]")
    text = text.replace("  kernels:", "  relax: [{rounding: p}]\n  assume: [finite(v)]\n  kernels:")
    bundles = built(attend, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(6)
    for b, s, length in ((1, 1, 1), (2, 33, 65), (3, 17, 32)):
        q, k, v = (halves(rng, b, rows, 32) for rows in (s, length, length))
        n = rng.integers(0, length + 1, b).astype(np.int32)
        for one, count in enumerate(n):
            v[one, count:] = np.nan  # what the guard leaves out may be anything
        assert right(bundles, attend, Accuracy(relaxed=frozenset({"p"})), q=q, k=k, v=v, n=n), (b, s, length)


@pytest.mark.parametrize(("times", "target", "store"), [
    (2, "sm_90a", ""), (3, "sm_90a", "y: {via: shared, copy: tma, by: {j: 16}, depth: 2}"), (2, "sm_120a", ""),
])  # fmt: skip
def test_tiles_in_turn(times: int, target: str, store: str, tmp_path: Path) -> None:
    """More and fewer tiles than instances, and steps that are no multiple of the slots."""
    place = f"place: {{acc: {{at: tile, loop: {{k: 16}}}}, {store}}}"
    entry = stages("acc.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    tile = "grid: {i: 32, j: 32}"
    how = roles("acc, y", "stage.x, stage.w", f"times: {times}")
    kernel = f"{tile}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {how}"
    plain = f"{tile}, place: {{acc: {{at: tile, loop: {{k: 16}}}}}}"
    text = variants("product", target, kernel, plain, "x, w, y")
    bundles = built(halved_product, text, tmp_path, target)
    rng = np.random.default_rng(4)
    for m, k, n in ((193, 48, 72), (33, 32, 40), (100, 0, 8), (1, 16, 8), (129, 80, 32)):
        assert right(bundles, halved_product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize("mode", ["split", "mask"])
def test_tiles_of_others_have_steps_of_their_own(mode: str, tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}"
    entry = stages("y.k", l="copy: tma, depth: 3", x="copy: tma, depth: 3")
    place = f"place: {{y: {{loop: {{k: 16}}, trim: {{k: {mode}}}}}}}"
    how = roles("y", "stage.l, stage.x", "times: 2")
    kernel = f"{grid}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {how}"
    text = variants("triangle", "sm_90a", kernel, PLAIN, "l, x")
    text = text.replace("kernels:", "assume: [finite(l), finite(x)]\n  kernels:")
    bundles = built(triangle, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(6)
    for m, k, n in ((33, 40, 8), (193, 96, 40), (1, 8, 8), (40, 0, 8)):
        assert right(bundles, triangle, l=halves(rng, m, k), x=halves(rng, k, n)), (m, k, n)


def test_loops_inside_of_loops_and_stages_of_the_tile_are_passed_by(tmp_path: Path) -> None:
    grid = "grid: {i: 4}, place: {y: {loop: {a: 4, b: 32}}}"
    inner, outer = stages("y.b", x="copy: tma, depth: 3", v="copy: tma, depth: 3"), stages("y.a", t="copy: tma")
    how = roles("y", "stage.x, stage.v, stage.t", "times: 2")
    kernel = f"{grid}, persistent: {{programs: 2}}, stage: {{{inner}, {outer}}}, {how}"
    bundles = built(scaled, variants("scaled", "sm_90a", kernel, grid, "x, t, v"), tmp_path / "a", "sm_90a")
    rng = np.random.default_rng(7)
    for m, a, b in ((21, 3, 12), (33, 13, 132), (3, 0, 8), (3, 2, 0)):
        x, t, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, a, b), (a,), (b,)))
        assert right(bundles, scaled, x=x, t=t, v=v), (m, a, b)
    grid = "grid: {b: 1, g: 1, r: 1, i: 16, j: 16}, whole: {d: 32}"
    entry, how = stages("tile", q="copy: tma", k="copy: tma"), roles("y", "stage.q, stage.k", "times: 2")
    kernel = f"{grid}, persistent: {{programs: 3}}, stage: {{{entry}}}, {how}"
    bundles = built(scores, variants("scores", "sm_90a", kernel, grid, "q, k"), tmp_path / "b", "sm_90a")
    for b, g, r, s, length in ((1, 1, 1, 1, 1), (2, 2, 3, 17, 33)):
        assert right(bundles, scores, q=halves(rng, b, g, r, s, 32), k=halves(rng, b, g, length, 32))
