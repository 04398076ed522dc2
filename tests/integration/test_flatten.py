"""Steps of a reduction that persistent programs share out over all tiles, on the emulator: more programs than tiles and
fewer, shares that end inside of tiles or with them, tiles without a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves
from tests.integration.test_turnstile import decode, extrema, maps, operands, product, right
from texpr.emulator import Fault, FaultKind
from texpr.gluon import statements
from texpr.plan.build import plan_variant
from texpr.plan.show import show_variant
from texpr.runtime import load
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


def shares(of: str, order: str, programs: str) -> str:
    over = order.rpartition(" ")[2]
    return (
        f"    persistent: {programs}\n    order: {{flatten: [{order}]}}\n"
        f"    split_reduction: {{of: [{of}], over: {over}, by: program, combine: turnstile}}\n"
    )


def multiplied(op: str, order: str, programs: str) -> str:
    return (
        f"  - name: a\n    writes: [y]\n    grid: {{i: 16, j: 32}}\n    warps: 2\n{shares('acc', order, programs)}"
        f"    place: {{acc: {{at: tile, loop: {{k: 16}}, mma: {op}}}}}\n"
        "    stage: {x: {at: acc.k, in: shared, depth: 2}, w: {at: acc.k, in: shared, depth: 2}}\n"
    )


SIZES = [(0, 5, 3), (1, 1, 1), (40, 0, 9), (33, 97, 65), (3, 340, 31)]


@pytest.mark.parametrize(
    ("op", "order", "programs"),
    [("mma", "i, j, k", "{programs: 5}"), ("fma", "j, i, k", "{programs: 3}"), ("mma", "i, j, k", "true")],
)
def test_products_in_shares(op: str, order: str, programs: str, tmp_path: Path) -> None:
    bundle(product, multiplied(op, order, programs), tmp_path)
    for sizes in SIZES:
        assert right(product, tmp_path, **operands(*sizes)), sizes


@pytest.mark.parametrize("programs", [1, 2, 7, 16, 40])
def test_any_number_of_programs(programs: int, tmp_path: Path) -> None:
    """48 steps in all."""
    bundle(product, multiplied("mma", "i, j, k", f"{{programs: {programs}}}"), tmp_path)
    assert right(product, tmp_path, **operands(48, 128, 64))


@pytest.mark.parametrize("roles", [False, True])
def test_boxes_in_shares(roles: bool, tmp_path: Path) -> None:
    own = "    warps: 4\n"
    if roles:
        own = (
            "    roles:\n      load: {warps: 1, registers: 40, runs: [stage.x, stage.w]}\n"
            "      compute: {warps: 4, registers: 208, runs: [acc, y]}\n"
        )
    kernel = (
        "texpr: 1\nalgorithm: product\nvariants:\n- name: boxes\n  target: sm_90a\n"
        "  when: N >= 1 and K >= 1 and K % 8 == 0 and N % 8 == 0 and aligned(x, w, y, 16)\n  kernels:\n"
        f"  - name: a\n    writes: [y]\n    grid: {{i: 64, j: 32}}\n{own}{shares('acc', 'i, j, k', '{programs: 5}')}"
        "    place: {acc: {at: tile, loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j}}}\n"
        "    stage:\n      x: {at: acc.k, in: shared, depth: 3, copy: tma}\n"
        "      w: {at: acc.k, in: shared, depth: 3, copy: tma}\n"
        "- name: rest\n  target: sm_90a\n  kernels:\n"
        "  - name: a\n    writes: [y]\n    grid: {i: 16, j: 16}\n    place: {acc: {loop: {k: 16}}}\n"
    )
    bundle(product, kernel, tmp_path, target="sm_90a")
    for m, k, n in ((1, 8, 8), (65, 296, 40), (130, 64, 72)):
        assert right(product, tmp_path, sm=90, **operands(m, k, n)), (m, k, n)


def test_groups_in_shares(tmp_path: Path) -> None:
    kernel = (
        f"  - name: a\n    writes: [top, best, some, low]\n    grid: {{i: 4}}\n    warps: 2\n"
        f"{shares('best, some, low', 'i, j', '{programs: 5}')}"
        "    merge: {funcs: [top, best, some, low], at: tile, loop: {j: 16}}\n"
    )
    bundle(extrema, kernel, tmp_path)
    rng = np.random.default_rng(1)
    for m, n in ((3, 0), (1, 1), (9, 47), (2, 131)):
        x = rng.integers(-5, 5, (m, n)).astype(np.float32)
        x[rng.random((m, n)) < 0.02] = np.nan
        assert right(extrema, tmp_path, x=x, u=rng.random((m, n)) < 0.02), (m, n)


def test_rescaled_accumulators_in_shares(tmp_path: Path) -> None:
    kernel = (
        "texpr: 1\nalgorithm: decode\nvariants:\n- name: only\n  target: sm_80\n"
        "  relax: [{rounding: p}]\n  assume: [finite(q), finite(k), finite(v)]\n  kernels:\n"
        "  - name: a\n    writes: [o, lse]\n    grid: {b: 1}\n    whole: {r: 16, d: 64, e: 64}\n"
        f"    warps: 1\n{shares('m, total, u', 'b, j', '{programs: 5}')}"
        "    online: {funcs: [m, total, u], at: tile, loop: {j: 32}}\n"
        "    place: {s: {at: u.j, mma: {op: mma, rows: r, cols: j}}, p: {at: u.j}, "
        "u: {mma: {op: mma, rows: r, cols: e}}}\n"
        "    stage: {k: {at: u.j, in: shared, depth: 2}, v: {at: u.j, in: shared, depth: 2}}\n"
    )
    bundle(decode, kernel, tmp_path)
    rng = np.random.default_rng(4)
    for length in (0, 1, 97, 200):
        arrays = {"q": halves(rng, 3, 16, 64), "k": halves(rng, 3, length, 64), "v": halves(rng, 3, length, 64)}
        lengths = np.array([length, length // 3, length // 2], np.int32)
        assert right(decode, tmp_path, relaxed=frozenset("p"), n=lengths, **arrays), length


def test_shares_are_combined_in_order(tmp_path: Path) -> None:
    kernel = (
        f"  - name: a\n    writes: [h, g]\n    grid: {{i: 2}}\n    warps: 2\n{shares('g, h', 'i, j', '{programs: 5}')}"
        "    place: {g: {loop: {j: 16}}}\n"
    )
    bundle(maps, kernel, tmp_path)
    rng = np.random.default_rng(3)
    for m, n in ((1, 1), (3, 0), (5, 131)):
        a, b = (rng.integers(0, 65536, (m, n)).astype(np.uint16) for _ in range(2))
        assert right(maps, tmp_path, a=a, b=b), (m, n)


def test_numbers_in_the_order_of_starting_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 programs, of which 16 are resident: each waits for the one before it."""
    monkeypatch.setattr(statements, "ticket", lambda f, item: "gl.program_id(0)")
    bundle(product, multiplied("mma", "i, j, k", "{programs: 40}"), tmp_path)
    built = load(str(tmp_path / "product"), device="emulator", sm=80, schedule_seed=1)
    with pytest.raises(Fault) as caught:
        built(**operands(16, 720, 32))
    assert caught.value.kind is FaultKind.DEADLOCK


def test_shares_are_shown() -> None:
    text = multiplied("mma", "i, j, k", "true")
    record = load_schedule(f"texpr: 1\nalgorithm: product\nvariants:\n- name: a\n  target: sm_80\n  kernels:\n{text}")
    algorithm = product.bind({})
    shown = show_variant(plan_variant(algorithm, record.variants[0], TARGETS["sm_80"]), algorithm)
    assert "steps along i, j, k in equal shares   taken in the order in which programs start" in shown
    left = "in turn along k: 2 KB of a.acc to the next program if steps are left, and from the one before"
    assert f"| {left}; whoever has the last step goes on:\n| | store y" in shown


@te.algorithm("count: i32[], x: f32[CAP, N] -> y: f32[M]", dims={"M": "count[] <= CAP"})
def counted_rows(count: Any, x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i] = te.sum(x[i, j], over=j)


@pytest.mark.parametrize("shared", [True, False])
def test_as_many_tiles_as_the_device_says(shared: bool, tmp_path: Path) -> None:
    cut = "    grid: {i: 4, j.part: 1}\n    split_reduction: {of: [y], over: j, parts: 3, combine: turnstile}\n"
    if shared:
        cut = f"    grid: {{i: 4}}\n{shares('y', 'i, j', '{programs: 6}')}"
    kernel = f"  - name: a\n    writes: [y]\n    warps: 1\n{cut}    place: {{y: {{loop: {{j: 16}}}}}}\n"
    bundle(counted_rows, kernel, tmp_path)
    rng = np.random.default_rng(6)
    for room, n in ((30, 50), (5, 0), (9, 100)):
        for count in (0, 1, room // 2, room):
            x = rng.standard_normal((room, n)).astype(np.float32)
            assert right(counted_rows, tmp_path, count=np.array(count, np.int32), x=x), (room, n, count)


@te.algorithm("x: f16[M, R, K], w: f16[R, K, N] -> y: f32[M, N]", static={"R": 3})
def taps(x: Any, w: Any, y: Any) -> None:
    i, j, r, k = te.axes(i="M", j="N", r="R", k="K")
    y[i, j] = te.sum(x[i, r, k] * w[r, k, j], over=(r, k))


@pytest.mark.parametrize("over", ["r", "k"])
@pytest.mark.parametrize("shared", [True, False])
def test_one_of_several_loops(over: str, shared: bool, tmp_path: Path) -> None:
    cut = f"    grid: {{i: 16, j: 16, {over}.part: 1}}\n"
    cut += f"    split_reduction: {{of: [y], over: {over}, parts: 2, combine: turnstile}}\n"
    if shared:
        cut = f"    grid: {{i: 16, j: 16}}\n{shares('y', f'i, j, {over}', '{programs: 5}')}"
    kernel = (
        f"  - name: a\n    writes: [y]\n    warps: 1\n{cut}    place: {{y: {{loop: {{r: 1, k: 16}}}}}}\n"
        "    stage: {x: {at: y.k, in: shared, depth: 2}, w: {at: y.k, in: shared, depth: 2}}\n"
    )
    bundle(taps, kernel, tmp_path)
    rng = np.random.default_rng(8)
    for m, k, n in ((17, 40, 20), (3, 0, 5), (30, 16, 33)):
        assert right(taps, tmp_path, x=halves(rng, m, 3, k), w=halves(rng, 3, k, n)), (m, k, n)
