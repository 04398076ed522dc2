"""Roles on the emulator: one fetches, another computes, and slots go round between them over tiles, parts of loops and
loops inside of loops, whatever the order in which warps run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import halves, worst
from tests.integration.test_boxes import TARGETS, convolved, product, scaled, scores, stages, triangle, variants
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import chosen_targets, package_of
from texpr.lang.accuracy import Accuracy
from texpr.lang.algorithm import AlgorithmDef
from texpr.runtime import Bundle, load
from texpr.schedule import load_schedule

SEEDS = (None, 1, 2)


def built(definition: AlgorithmDef, text: str, folder: Path, target: str) -> list[Bundle]:
    """One bundle, to be run in lockstep and in random orders of warps."""
    record = load_schedule(text, f"{definition.name}.yaml")
    package = package_of(definition, record, chosen_targets(record, [target]), {}, {})
    write_bundle(package, folder / definition.name, BuildOptions())
    sm = int("".join(filter(str.isdigit, target)))
    return [load(str(folder / definition.name), device="emulator", sm=sm, schedule_seed=seed) for seed in SEEDS]


def right(
    bundles: list[Bundle], definition: AlgorithmDef, accuracy: Accuracy | None = None, **arrays: Any
) -> bool:
    return all(worst(bundle, definition, arrays, None, accuracy) <= 1 for bundle in bundles)


def roles(computes: str, **fetching: str) -> str:
    fetched = ", ".join(f"{name}: {{warps: 1, registers: 40, runs: [{runs}]}}" for name, runs in fetching.items())
    return f"roles: {{compute: {{warps: 4, registers: 208, runs: [{computes}]}}, {fetched}}}"


@pytest.mark.parametrize("target", TARGETS)
def test_slots_go_round_over_all_tiles_of_a_program(target: str, tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    kernel = f"{grid}, persistent: {{programs: 2}}, stage: {{{entry}}}, {roles('y', load='stage.x, stage.w')}"
    bundles = built(product, variants("product", target, kernel, grid, "x, w"), tmp_path, target)
    rng = np.random.default_rng(0)
    for m, k, n in ((97, 48, 72), (64, 16, 64), (33, 32, 40), (100, 0, 8), (5, 112, 8), (1, 8, 136)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize(
    ("depth", "flying"), [(2, None), (3, None), (4, None), (3, 0), (4, 2), (5, 3)]  # None: what the depth allows
)
def test_products_in_flight_keep_the_slots_that_they_read(depth: int, flying: int | None, tmp_path: Path) -> None:
    tile, plain = "grid: {i: 64, j: 32}", "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    how = "op: wgmma, rows: i, cols: j, a: shared" + ("" if flying is None else f", in_flight: {flying}")
    place = f"place: {{y: {{loop: {{k: 32}}, mma: {{{how}}}}}}}"
    entry = stages("y.k", x=f"copy: tma, depth: {depth}", w=f"copy: tma, depth: {depth}")
    fetched = roles("y", load="stage.x, stage.w")
    kernel = f"{tile}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {fetched}"
    bundles = built(product, variants("product", "sm_90a", kernel, plain, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(7)
    for m, k, n in ((97, 96, 72), (33, 32, 40), (100, 0, 8), (5, 168, 8)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


@pytest.mark.parametrize("fetching", [{"a": "stage.x", "b": "stage.w"}, {"a": "stage.x"}], ids=["two", "one of two"])
def test_rings_of_several_roles_meet_in_one_step(fetching: dict[str, str], tmp_path: Path) -> None:
    grid = "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    entry = stages("y.k", x="copy: tma, depth: 4", w="copy: tma, depth: 2")
    computes = "y" if len(fetching) == 2 else "y, stage.w"
    kernel = f"{grid}, persistent: {{programs: 2}}, stage: {{{entry}}}, {roles(computes, **fetching)}"
    bundles = built(product, variants("product", "sm_90a", kernel, grid, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(1)
    for m, k, n in ((97, 48, 72), (33, 80, 40), (40, 0, 8)):
        assert right(bundles, product, x=halves(rng, m, k), w=halves(rng, k, n)), (m, k, n)


def test_a_tile_of_an_outer_loop_is_kept_while_the_inner_one_runs(tmp_path: Path) -> None:
    grid = "grid: {i: 4}, place: {y: {loop: {a: 4, b: 32}}}"
    inner, outer = stages("y.b", x="copy: tma, depth: 3", v="copy: tma, depth: 3"), stages("y.a", t="copy: tma")
    kernel = f"{grid}, stage: {{{inner}, {outer}}}, {roles('y', load='stage.x, stage.v, stage.t')}"
    bundles = built(scaled, variants("scaled", "sm_90a", kernel, grid, "x, t, v"), tmp_path, "sm_90a")
    rng = np.random.default_rng(2)
    for m, a, b in ((5, 3, 12), (9, 13, 132), (3, 0, 8), (3, 2, 0), (4, 8, 64)):
        x, t, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, a, b), (a,), (b,)))
        assert right(bundles, scaled, x=x, t=t, v=v), (m, a, b)


def test_a_stage_of_the_tile_is_fetched_again_for_the_next(tmp_path: Path) -> None:
    grid = "grid: {b: 1, g: 1, r: 1, i: 16, j: 16}, whole: {d: 32}"
    entry = stages("tile", q="copy: tma", k="copy: tma")
    load_both = roles("y", load="stage.q, stage.k")
    kernel = f"{grid}, persistent: {{programs: 3}}, stage: {{{entry}}}, {load_both}"
    bundles = built(scores, variants("scores", "sm_90a", kernel, grid, "q, k"), tmp_path, "sm_90a")
    rng = np.random.default_rng(3)
    for b, g, r, s, length in ((1, 1, 1, 1, 1), (2, 2, 3, 17, 33)):
        assert right(bundles, scores, q=halves(rng, b, g, r, s, 32), k=halves(rng, b, g, length, 32))


def test_parts_of_a_trimmed_loop_are_fetched_in_turn(tmp_path: Path) -> None:
    grid, plain = "grid: {i: 32, j: 32}", "grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
    entry = stages("y.k", l="copy: tma, depth: 3", x="copy: tma, depth: 3")
    place = "place: {y: {loop: {k: 16}, trim: {k: split}}}"
    kernel = f"{grid}, persistent: {{programs: 2}}, {place}, stage: {{{entry}}}, {roles('y', load='stage.l, stage.x')}"
    text = variants("triangle", "sm_90a", kernel, plain, "l, x")
    text = text.replace("kernels:", "assume: [finite(l), finite(x)]\n  kernels:")
    bundles = built(triangle, text, tmp_path, "sm_90a")
    rng = np.random.default_rng(4)
    for m, k, n in ((33, 40, 8), (97, 96, 40), (1, 8, 8), (40, 0, 8)):
        assert right(bundles, triangle, l=halves(rng, m, k), x=halves(rng, k, n)), (m, k, n)


def test_shifted_boxes_are_fetched_by_another_role(tmp_path: Path) -> None:
    grid = "grid: {n: 1, p: 2, q: 16, k: 16}, place: {y: {loop: {r: 1, s: 1, c: 16}}}"
    entry = stages("y.c", x="copy: tma, depth: 4", w="copy: tma, depth: 4")
    kernel = f"{grid}, persistent: {{programs: 2}}, stage: {{{entry}}}, {roles('y', load='stage.x, stage.w')}"
    bundles = built(convolved, variants("convolved", "sm_90a", kernel, grid, "x, w"), tmp_path, "sm_90a")
    rng = np.random.default_rng(5)
    for n, h, w, c, k in ((1, 1, 1, 8, 8), (2, 5, 17, 24, 8), (1, 4, 4, 0, 8)):
        assert right(bundles, convolved, x=halves(rng, n, h, w, c), w=halves(rng, 3, 3, c, k))


@te.algorithm(
    "q: f16[B, S, D], k: f16[B, L, D], v: f16[B, L, D], n: i32[B] in [0, L] -> o: f16[B, S, D]", static=dict(D=32),
    require=["S >= 1", "L >= 1"],
)  # fmt: skip
def attend(q: Any, k: Any, v: Any, n: Any, o: Any) -> None:
    b, i, j, d, e = te.axes(b="B", i="S", j="L", d="D", e="D")
    s, m, p, total, u = te.funcs("s m p total u")
    s[b, i, j] = te.sum(q[b, i, d] * k[b, j, d], over=d)
    keep = j < n[b]
    m[b, i] = te.max(s[b, i, j], over=j, where=keep)
    p[b, i, j] = te.exp(s[b, i, j] - m[b, i])
    total[b, i] = te.sum(p[b, i, j], over=j, where=keep)
    u[b, i, e] = te.sum(p[b, i, j].to("f16") * v[b, j, e], over=j, where=keep)
    o[b, i, e] = te.where(total[b, i] > 0, u[b, i, e] / total[b, i], 0)


@pytest.mark.parametrize("mode", ["split", "mask"])
def test_one_pass_over_rows_has_its_operands_fetched(mode: str, tmp_path: Path) -> None:
    grid = "grid: {b: 1, i: 32}, whole: {d: 32, e: 32}, place: {s: {at: u.j}}"
    online = f"online: {{funcs: [m, total, u], at: tile, loop: {{j: 32}}, trim: {{j: {mode}}}}}"
    entry = ", ".join([stages("tile", q="copy: tma"), stages("u.j", k="copy: tma, depth: 2", v="copy: tma, depth: 2")])
    kernel = f"{grid}, {online}, stage: {{{entry}}}, persistent: {{programs: 2}}"
    with_roles = f"{kernel}, {roles('online, s, o', load='stage.q, stage.k, stage.v')}"
    text = variants("attend", "sm_90a", with_roles, f"{grid}, {online}", "q, k, v")
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
