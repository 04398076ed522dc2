"""Inverted reductions in parts and by whole warps: sums of floats in a fixed order, copies of tiles, lanes that combine
before they update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from tests.integration.test_invert import extremes, kernel, numbers, relaxed, sums, table
from texpr.plan.build import plan_variant
from texpr.runtime import load
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


@te.algorithm("k: i32[N], v: f32[N, C] -> y: f32[12, C]")
def rows(k: Any, v: Any, y: Any) -> None:
    i, b, c = te.axes(i="N", b=12, c="C")
    y[b, c] = te.sum(v[i, c], over=i, where=k[i] == b)


def two_passes(name: str, types: str, parts: int, place: str, combine: str, *more: str) -> str:
    directives = "".join(f"    {line}\n" for line in more)
    return (
        f"texpr: 1\nalgorithm: {name}\nvariants:\n- name: only\n  target: [sm_80]\n{types}  kernels:\n"
        "  - name: parts\n    writes: [y.part]\n"
        f"    split_reduction: {{of: [y], over: i, parts: {parts}}}\n{directives}"
        f"    place: {{y.part: {place}}}\n  - name: all\n    writes: [y]\n    grid: {combine}\n"
        f"    whole: {{i.part: {parts}}}\n    warps: 1\n"
    )


def reproducible(definition: Any, text: str, types: dict[str, str] | None = None) -> bool:
    (variant,) = load_schedule(text, "s.yaml").variants
    return plan_variant(definition.bind(types or {}, {}), variant, TARGETS["sm_80"]).reproducible


WAYS = {
    "a step is a point": ("{invert: i, loop: {i: 1}, in: global}", ["fill: {y.part: 0}", "warps: 2"]),
    "a step is a warp": ("{invert: i, loop: {i: 32}, in: global, aggregate: warp}", ["fill: {y.part: 0}", "warps: 1"]),
}


@pytest.mark.parametrize("dtype", ["f32", "f64", "i64"])
@pytest.mark.parametrize("way", WAYS)
def test_parts_in_a_fixed_order(way: str, dtype: str, tmp_path: Path) -> None:
    place, more = WAYS[way]
    text = two_passes("sums", "", 4, place, "{b: 32}", "grid: {i.part: 1}", *more)
    built = bundle(sums, text, tmp_path, {"T": dtype})
    assert reproducible(sums, text, {"T": "f32"})
    rng = np.random.default_rng(1)
    real = np.dtype(f"{dtype[0]}{int(dtype[1:]) // 8}")
    for n, b in [(0, 3), (1, 1), (131, 7)]:
        values = rng.integers(-99, 99, n).astype(real) if real.kind == "i" else rng.standard_normal(n).astype(real)
        keys = rng.integers(-2, b + 2, n, dtype=np.int32)
        assert worst(built, sums, {"k": keys, "v": values, "like": np.zeros(b, np.uint8)}, {"T": dtype}) <= 1


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("{invert: i, loop: {i: 1}, in: shared}", ["grid: {i.part: 1, c: 8}", "warps: 1"]),
        (
            "{at: tile, invert: i, loop: {i: 1}, in: shared}",
            ["grid: {c: 4, i.part: 2}", "warps: 2", "persistent: {programs: 3}"],
        ),
        (
            "{invert: i, loop: {c: 1, i: 32}, in: global, aggregate: warp}",
            ["grid: {i.part: 1}", "fill: {y.part: 0}", "warps: 1"],
        ),
    ],
)
def test_rows_are_stored_from_copies_of_tiles(place: str, more: list[str], tmp_path: Path) -> None:
    text = two_passes("rows", "", 4, place, "{b: 4, c: 8}", *more)
    built = bundle(rows, text, tmp_path)
    assert reproducible(rows, text)
    rng = np.random.default_rng(2)
    for n, c in [(0, 1), (1, 3), (77, 8), (50, 17)]:
        arrays = {"k": rng.integers(-2, 14, n, dtype=np.int32), "v": rng.standard_normal((n, c)).astype(np.float32)}
        assert worst(built, rows, arrays) <= 1


def test_a_relaxed_sum_covers_its_parts(tmp_path: Path) -> None:
    place = "{invert: i, loop: {i: 64}, in: global}"
    text = two_passes(
        "sums", "  relax: [{order: y}]\n", 2, place, "{b: 32}", "grid: {i.part: 1}", "fill: {y.part: 0}", "warps: 1"
    )
    built = bundle(sums, text, tmp_path, {"T": "f32"})
    assert not reproducible(sums, text, {"T": "f32"})
    rng = np.random.default_rng(3)
    keys, values = rng.integers(-2, 9, 150, dtype=np.int32), rng.standard_normal(150).astype(np.float32)
    assert worst(built, sums, {"k": keys, "v": values, "like": np.zeros(7, np.uint8)}, {"T": "f32"}) <= 1


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64", "f32", "f64"])
def test_warps_combine_first(dtype: str, tmp_path: Path) -> None:
    body = kernel("y", "grid: {i: 128}", "fill: {y: 0}", "place: {y: {invert: i, in: global, aggregate: warp}}")
    built = bundle(sums, relaxed(body), tmp_path, {"T": dtype})
    rng = np.random.default_rng(4)
    for n, b in [(1, 1), (300, 2), (130, 40)]:
        values = numbers(rng, dtype, n)
        keys = rng.integers(-1, b + 1, n, dtype=np.int32)
        assert worst(built, sums, {"k": keys, "v": values, "like": np.zeros(b, np.uint8)}, {"T": dtype}) <= 1


@pytest.mark.parametrize("memory", ["global", "shared"])
@pytest.mark.parametrize(
    "how", [["grid: {i: 32}", "whole: {j: 4}"], ["grid: {i: 64}", "whole: {j: 4}", "persistent: {programs: 2}"]]
)
def test_every_operator_over_warps(memory: str, how: list[str], tmp_path: Path) -> None:
    where = f"{{invert: [i, j], in: {memory}, aggregate: warp}}"
    fills = f"lo: {2**31 - 1}, hi: {-(2**31)}, a: {2**32 - 1}, o: 0, x: 0"
    places = ", ".join(f"{name}: {where}" for name in ("lo", "hi", "a", "o", "x"))
    built = bundle(extremes, kernel("lo, hi, a, o, x", *how, f"fill: {{{fills}}}", f"place: {{{places}}}"), tmp_path)
    rng = np.random.default_rng(5)
    for n in (0, 1, 37, 90):
        keys = rng.integers(-3, 19, (n, 3), dtype=np.int64)
        values = rng.integers(-1000, 1000, n, dtype=np.int32)
        assert worst(built, extremes, {"k": keys, "v": values}) == 0


def test_equal_values_are_counted(tmp_path: Path) -> None:
    places = (
        "place: {y: {invert: i, in: global, aggregate: warp}, n: {invert: i, in: global, once: l, aggregate: warp}}"
    )
    built = bundle(table, kernel("y, n", "grid: {i: 64, l: 2}", "fill: {y: 0, n: 0}", places), tmp_path)
    rng = np.random.default_rng(6)
    for n, wide, p, q in [(1, 1, 1, 1), (90, 5, 2, 3)]:
        arrays = {
            "r": rng.integers(0, p + 2, n, dtype=np.uint8),
            "c": rng.integers(-2, q + 2, n, dtype=np.int16),
            "v": rng.integers(-99, 99, (n, wide), dtype=np.int32),
            "w": rng.integers(0, 4, p, dtype=np.int32),
            "like": np.zeros((p, q), np.uint8),
        }
        assert worst(built, table, arrays) == 0


@pytest.mark.parametrize("way", [*WAYS, None])
def test_bits_do_not_depend_on_the_order_of_warps_if_the_schedule_says_so(way: str | None, tmp_path: Path) -> None:
    """Without a way: two warps add to the same elements in any order, which this data shows."""
    place, more = WAYS.get(way or "", ("{invert: i, loop: {i: 64}, in: global}", ["fill: {y.part: 0}", "warps: 2"]))
    relax = "" if way else "  relax: [{order: y}]\n"
    text = two_passes("sums", relax, 2, place, "{b: 32}", "grid: {i.part: 1}", *more)
    bundle(sums, text, tmp_path, {"T": "f32"})
    rng = np.random.default_rng(7)
    keys = rng.integers(0, 2, 400, dtype=np.int32)
    values = (rng.standard_normal(400) * 10.0 ** rng.integers(-4, 5, 400)).astype(np.float32)
    found = set()
    for seed in range(6):
        built = load(str(tmp_path / "sums"), device="emulator", sm=80, schedule_seed=seed)
        found.add(built(k=keys, v=values, like=np.zeros(2, np.uint8)).tobytes())
    assert (len(found) == 1) is (way is not None)
