"""Parts of reductions that programs combine in turn, on the emulator: whatever the order in which programs come, the
parts of a tile are taken in their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.emulator import Fault, FaultKind
from texpr.gluon import statements
from texpr.lang.accuracy import Accuracy
from texpr.lang.algorithm import AlgorithmDef
from texpr.math.expr import const
from texpr.runtime import load
from texpr.tile import turnstile
from texpr.tile.uniform import Scalar

SEEDS = (None, 1)


def turns(of: str, over: str, parts: str = "3") -> str:
    return f"split_reduction: {{of: [{of}], over: {over}, parts: {parts}, combine: turnstile}}"


def right(
    definition: AlgorithmDef, folder: Path, types: dict[str, str] | None = None, sm: int = 80, *,
    relaxed: frozenset[str] = frozenset(), **arrays: Any,
) -> bool:
    """Whether what was built is right in whatever order programs start and go on."""
    accuracy = Accuracy(relaxed=relaxed) if relaxed else None
    name = str(folder / definition.name)
    runs = [load(name, device="emulator", sm=sm, schedule_seed=seed) for seed in SEEDS]
    return all(worst(run, definition, arrays, types, accuracy) <= 1 for run in runs)


@te.algorithm("x: f16[M, K], w: f16[K, N], b: f32[N] -> y: f16[M, N]")
def product(x: Any, w: Any, b: Any, y: Any) -> None:
    """A product with an epilogue."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = te.gelu(acc[i, j] + b[j])


def operands(m: int, k: int, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(m + k + n)
    return {"x": halves(rng, m, k), "w": halves(rng, k, n), "b": rng.standard_normal(n).astype(np.float32)}


AWKWARD = [(0, 5, 3), (5, 0, 9), (16, 95, 32), (17, 96, 33), (3, 97, 65)]


@pytest.mark.parametrize("order", ["{i: 16, j: 32, k.part: 1}", "{k.part: 1, i: 16, j: 32}"])
@pytest.mark.parametrize("op", ["mma", "fma"])
def test_products_on_every_unit(op: str, order: str, tmp_path: Path) -> None:
    kernel = (
        f"  - name: a\n    writes: [y]\n    grid: {order}\n    warps: 2\n    {turns('acc', 'k')}\n"
        f"    place: {{acc: {{at: tile, loop: {{k: 16}}, mma: {op}}}}}\n"
        "    stage: {x: {at: acc.k, in: shared, depth: 2}, w: {at: acc.k, in: shared, depth: 2}}\n"
    )
    bundle(product, kernel, tmp_path)
    for sizes in AWKWARD:
        assert right(product, tmp_path, **operands(*sizes)), sizes


def test_products_of_warpgroups_with_boxes(tmp_path: Path) -> None:
    kernel = (
        "texpr: 1\nalgorithm: product\nvariants:\n- name: boxes\n  target: sm_90a\n"
        "  when: K >= 1 and K % 8 == 0 and N % 8 == 0 and aligned(x, w, y, 16)\n  kernels:\n"
        "  - name: a\n    writes: [y]\n    grid: {i: 64, j: 32, k.part: 1}\n    warps: 4\n"
        f"    {turns('acc', 'k')}\n"
        "    place: {acc: {at: tile, loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j}}, "
        "y: {at: tile, by: {j: 16}, via: shared}}\n"
        "    stage:\n      x: {at: acc.k, in: shared, depth: 3, copy: tma}\n"
        "      w: {at: acc.k, in: shared, depth: 3, copy: tma}\n"
        "- name: rest\n  target: sm_90a\n  kernels:\n"
        "  - name: a\n    writes: [y]\n    grid: {i: 16, j: 16}\n    place: {acc: {loop: {k: 16}}}\n"
    )
    bundle(product, kernel, tmp_path, target="sm_90a")
    for m, k, n in ((1, 8, 8), (64, 96, 32), (65, 296, 40), (30, 0, 8), (5, 64, 72)):
        assert right(product, tmp_path, sm=90, **operands(m, k, n)), (m, k, n)


@pytest.mark.parametrize("parts", ["1", "2", '{value: "clamp(K // 16, 1, 5)", max: 5}', '{value: "sms // 40", max: 9}'])
def test_any_number_of_parts(parts: str, tmp_path: Path) -> None:
    kernel = (
        f"  - name: a\n    writes: [y]\n    grid: {{i: 16, j: 32, k.part: 1}}\n    warps: 1\n"
        f"    {turns('acc', 'k', parts)}\n    place: {{acc: {{at: tile, loop: {{k: 16}}}}}}\n"
    )
    bundle(product, kernel, tmp_path)
    for sizes in AWKWARD[1:4]:
        assert right(product, tmp_path, **operands(*sizes)), sizes


@te.algorithm("x: T[M, N] -> y: T[M]", T=("f16", "f32", "f64", "i8", "u16", "i32", "i64"))
def totals(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i] = te.sum(x[i, j], over=j)


@te.algorithm("x: f32[M, N], u: bool[M, N] -> top: f32[M], best: i32[M], some: bool[M], low: f32[M]")
def extrema(x: Any, u: Any, top: Any, best: Any, some: Any, low: Any) -> None:
    i, j = te.axes(i="M", j="N")
    top[i], best[i] = te.argmax(x[i, j], over=j)
    some[i] = te.any(u[i, j], over=j)
    low[i] = te.min(x[i, j], over=j)


def numbers(dtype: str, m: int, n: int) -> Any:
    rng = np.random.default_rng(m + n)
    kind = np.dtype({"f": "float", "i": "int", "u": "uint"}[dtype[0]] + (dtype[1:] if dtype != "i8" else "8"))
    if dtype[0] == "f":
        return rng.standard_normal((m, n)).astype(kind)
    return rng.integers(0, 100, (m, n)).astype(kind)


@pytest.mark.parametrize("dtype", ["f16", "f32", "f64", "i8", "u16", "i32", "i64"])
def test_sums_of_every_type(dtype: str, tmp_path: Path) -> None:
    kernel = (
        f"  - name: a\n    writes: [y]\n    grid: {{i: 4, j.part: 1}}\n    warps: 2\n    {turns('y', 'j', '4')}\n"
        "    place: {y: {loop: {j: 32}}}\n"
    )
    bundle(totals, kernel, tmp_path, {"T": dtype})
    for m, n in ((1, 0), (4, 127), (9, 129)):
        assert right(totals, tmp_path, {"T": dtype}, x=numbers(dtype, m, n)), (m, n)


def test_reductions_that_share_a_loop_take_turns_together(tmp_path: Path) -> None:
    """Values, positions, and truths; a tuple among them."""
    kernel = (
        "  - name: a\n    writes: [top, best, some, low]\n    grid: {i: 4, j.part: 1}\n    warps: 2\n"
        f"    {turns('best, some, low', 'j')}\n"
        "    merge: {funcs: [top, best, some, low], at: tile, loop: {j: 16}}\n"
    )
    bundle(extrema, kernel, tmp_path)
    rng = np.random.default_rng(1)
    for m, n in ((3, 0), (1, 1), (4, 47), (5, 48), (2, 131)):
        x = rng.integers(-5, 5, (m, n)).astype(np.float32)
        x[rng.random((m, n)) < 0.02] = np.nan
        assert right(extrema, tmp_path, x=x, u=rng.random((m, n)) < 0.02), (m, n)


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def guarded(x: Any, y: Any) -> None:
    """A log-sum-exp over some of the points; a func stands between its reductions."""
    i, j = te.axes(i="M", j="N")
    m, total, p = te.funcs("m total p")
    keep = x[i, j] > -0.5
    m[i] = te.max(x[i, j], over=j, where=keep)
    p[i, j] = te.exp(x[i, j] - m[i])
    total[i] = te.sum(p[i, j], over=j, where=keep)
    y[i] = te.log(total[i]) + m[i]


def test_running_values_are_carried_over_from_part_to_part(tmp_path: Path) -> None:
    kernel = (
        "  - name: a\n    writes: [y]\n    grid: {j.part: 1, i: 2}\n    warps: 2\n"
        f"    {turns('m, total', 'j')}\n    online: {{funcs: [m, total], at: tile, loop: {{j: 32}}}}\n"
        "    place: {p: {at: total.j}}\n"
    )
    bundle(guarded, kernel, tmp_path)
    rng = np.random.default_rng(2)
    for m, n in ((0, 5), (3, 0), (1, 1), (3, 95), (2, 96), (5, 97), (3, 257)):
        x = rng.standard_normal((m, n)).astype(np.float32)
        x[:1, : n // 2] = -1.0  # parts without any point
        x[1:2] = -2.0
        assert right(guarded, tmp_path, x=x), (m, n)


@te.algorithm("a: u16[M, N], b: u16[M, N] -> h: u16[M], g: u16[M]")
def maps(a: Any, b: Any, h: Any, g: Any) -> None:
    """Maps h -> a h + b, which do not commute; numbers wrap around."""
    i, j = te.axes(i="M", j="N")
    compose = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1, 0), name="compose")
    g[i], h[i] = te.reduce(compose, (a[i, j], b[i, j]), over=j)


def test_operators_that_do_not_commute_take_parts_in_order(tmp_path: Path) -> None:
    kernel = (
        f"  - name: a\n    writes: [h, g]\n    grid: {{i: 2, j.part: 1}}\n    warps: 2\n    {turns('g, h', 'j')}\n"
        "    place: {g: {loop: {j: 16}}}\n"
    )
    bundle(maps, kernel, tmp_path)
    rng = np.random.default_rng(3)
    for m, n in ((1, 1), (3, 0), (3, 47), (2, 49), (1, 131)):
        a, b = (rng.integers(0, 65536, (m, n)).astype(np.uint16) for _ in range(2))
        assert right(maps, tmp_path, a=a, b=b), (m, n)


@te.algorithm(
    "q: f16[B, R, D], k: f16[B, L, D], v: f16[B, L, D], n: i32[B] in [0, L + 1) -> o: f16[B, R, D], lse: f32[B, R]",
    static={"D": 64, "R": 16},
)
def decode(q: Any, k: Any, v: Any, n: Any, o: Any, lse: Any) -> None:
    """Attention of a few queries that share their keys."""
    b, r, j, d, e = te.axes(b="B", r="R", j="L", d="D", e="D")
    s, m, p, total, u = te.funcs("s m p total u")
    s[b, r, j] = te.sum(q[b, r, d] * k[b, j, d], over=d)
    m[b, r] = te.max(s[b, r, j], over=j, where=j < n[b])
    p[b, r, j] = te.exp2(s[b, r, j] - m[b, r])
    total[b, r] = te.sum(p[b, r, j], over=j, where=j < n[b])
    u[b, r, e] = te.sum(p[b, r, j].to("f16") * v[b, j, e], over=j, where=j < n[b])
    o[b, r, e] = te.where(total[b, r] > 0, u[b, r, e] / total[b, r], 0)
    lse[b, r] = te.log2(total[b, r]) + m[b, r]


def test_accumulators_are_rescaled_from_part_to_part(tmp_path: Path) -> None:
    kernel = (
        "texpr: 1\nalgorithm: decode\nvariants:\n- name: only\n  target: sm_80\n"
        "  relax: [{rounding: p}]\n  assume: [finite(q), finite(k), finite(v)]\n  kernels:\n"
        "  - name: a\n    writes: [o, lse]\n    grid: {b: 1, j.part: 1}\n    whole: {r: 16, d: 64, e: 64}\n"
        f"    warps: 1\n    {turns('m, total, u', 'j')}\n"
        "    online: {funcs: [m, total, u], at: tile, loop: {j: 32}, trim: {j: mask}}\n"
        "    place: {s: {at: u.j, mma: {op: mma, rows: r, cols: j}}, p: {at: u.j}, "
        "u: {mma: {op: mma, rows: r, cols: e}}}\n"
        "    stage: {k: {at: u.j, in: shared, depth: 2}, v: {at: u.j, in: shared, depth: 2}}\n"
    )
    bundle(decode, kernel, tmp_path)
    rng = np.random.default_rng(4)
    for length in (0, 1, 31, 97, 200):
        arrays = {"q": halves(rng, 2, 16, 64), "k": halves(rng, 2, length, 64), "v": halves(rng, 2, length, 64)}
        lengths = np.array([length, length // 3], np.int32)
        assert right(decode, tmp_path, relaxed=frozenset("p"), n=lengths, **arrays), length


# ---- what is left out is found --------------------------------------------------------------------------------------

LEFT_OUT = {
    "no release": ("pass_turn", "release", "relaxed", FaultKind.GLOBAL_RACE),
    "no acquire": ("await_turn", "acquire", "relaxed", FaultKind.GLOBAL_RACE),
    "released to nobody": ("pass_turn", '"gpu"', '"cta"', FaultKind.GLOBAL_RACE),
    "acquired from nobody": ("await_turn", '"gpu"', '"cta"', FaultKind.GLOBAL_RACE),
    "no waiting": ("await_turn", "gl.atomic_poll", "gl.atomic_load", FaultKind.UNINITIALISED),
    "the turn of a later part": ("await_turn", "gl.to_tensor(", "gl.to_tensor(1 + ", FaultKind.DEADLOCK),
    "a turn that is nobody's": ("pass_turn", "gl.to_tensor(", "gl.to_tensor(9 + ", FaultKind.DEADLOCK),
    "numbers of the grid": ("ticket", "", "", FaultKind.DEADLOCK),
}
IN_PARTS = (
    f"  - name: a\n    writes: [y]\n    grid: {{i: 2, j.part: 1}}\n    warps: 2\n    {turns('y', 'j', '12')}\n"
    "    place: {y: {loop: {j: 32}}}\n"
)


@pytest.mark.parametrize("bug", LEFT_OUT)
def test_what_keeps_programs_in_turn_is_needed(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 programs, of which 16 are resident."""
    name, old, new, kind = LEFT_OUT[bug]
    written = getattr(statements, name)

    def wrong(*arguments: Any) -> str:
        text: str = written(*arguments)
        if not old:
            return "gl.program_id(0)"
        if "atomic_load" in new:
            text = f"{text.partition(', gl.to_tensor')[0]}, {text[text.index('sem='):]}".replace(old, new)
        return text.replace(old, new)

    monkeypatch.setattr(statements, name, wrong)
    bundle(totals, IN_PARTS, tmp_path, {"T": "f32"})
    kinds = []
    for seed in range(2):
        built = load(str(tmp_path / "totals"), device="emulator", sm=80, schedule_seed=seed)
        try:
            built(x=numbers("f32", 8, 12 * 32))
        except Fault as fault:
            kinds.append(fault.kind)
    also = {FaultKind.GLOBAL_RACE} if kind is FaultKind.UNINITIALISED else set()
    assert kinds and set(kinds) <= {kind, *also}, kinds


def test_values_that_several_threads_hold_are_read_before_they_are_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turnstile, "Barrier", lambda _: Scalar("nothing", const(0)))
    bundle(totals, IN_PARTS.replace("i: 2", "i: 1"), tmp_path, {"T": "f32"})
    faults = 0
    for seed in range(4):
        built = load(str(tmp_path / "totals"), device="emulator", sm=80, schedule_seed=seed)
        try:
            built(x=numbers("f32", 2, 12 * 32))
        except Fault as fault:
            faults += fault.kind is FaultKind.GLOBAL_RACE
    assert faults


def test_results_do_not_depend_on_who_comes_first(tmp_path: Path) -> None:
    bundle(totals, IN_PARTS, tmp_path, {"T": "f32"})
    x = numbers("f32", 9, 777) * np.float32(1e4)
    runs = [load(str(tmp_path / "totals"), device="emulator", sm=80, schedule_seed=seed)(x=x) for seed in range(4)]
    assert all((run == runs[0]).all() for run in runs)
