"""Loops that leave out steps compute what the guard says: masks and tests, with and without copies that run ahead,
from all steps dead to all steps live; and what is left out is not executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst


@te.algorithm("x: f16[P, C], w: f16[V, C, K], map: i32[V, N] in [-1, P) -> y: f32[N, K]")
def gathered(x: Any, w: Any, map: Any, y: Any) -> None:
    """Rows found through a map that has holes."""
    i, v, c, k = te.axes(i="N", v="V", c="C", k="K")
    acc = te.func("acc")
    acc[i, k] = te.sum(x[map[v, i], c] * w[v, c, k], over=(v, c), where=map[v, i] >= 0)
    y[i, k] = acc[i, k]


def gathered_by(cut: str, stages: str, target: str = "sm_80", most: int = 64, tile: int = 32) -> str:
    return (
        f"texpr: 1\nalgorithm: gathered\nvariants:\n- name: only\n  target: [{target}]\n  assume: [finite(w)]\n"
        f"  when: V <= {most} and C % 8 == 0 and K % 8 == 0 and aligned(x, w, y, 16)\n  kernels:\n  - name: k\n"
        f"    writes: [y]\n    grid: {{i: {tile}, k: 32}}\n    warps: 2\n"
        f"    place: {{acc: {{at: tile, {cut}, mma: mma}}}}\n    stage: {{{stages}}}\n"
        f"- {{name: rest, target: {target}, assume: [finite(w)], kernels: [{{name: k, writes: [y], "
        "grid: {i: 32, k: 32}, place: {acc: {loop: {v: 1, c: 16}}}}]}\n"
    )


def holes(rng: np.random.Generator, v: int, n: int, p: int, density: float) -> np.ndarray[Any, Any]:
    """A map whose entries are there with a probability."""
    found = rng.integers(0, p, (v, n), dtype=np.int32)
    found[rng.random((v, n)) >= density] = -1
    return found


SIZES = [(40, 33, 32, 24, 27, 0.05), (1, 1, 8, 8, 1, 1.0), (33, 5, 24, 40, 9, 0.0), (67, 64, 16, 32, 13, 0.01)]
MASK, STEP = "skip: {v: {test: mask}}", "skip: {v: {test: step}}"
ASYNC = "x: {at: acc.c, in: shared, depth: 3, copy: async}, w: {at: acc.c, in: shared, depth: 3, copy: async}"
MIXED = "x: {at: acc.c, in: shared, depth: 2, ahead: 1}, w: {at: acc.c, in: shared, depth: 3, copy: async}"
UNEVEN = "x: {at: acc.c, in: shared, depth: 2, copy: async}, w: {at: acc.c, in: shared, depth: 4, copy: async}"
RING = "map: {at: acc.v, in: shared, depth: 2, copy: async}"
CUTS = {
    "mask, nothing staged": (f"loop: {{v: 1, c: 16}}, {MASK}", ""),
    "mask, three in flight": (f"loop: {{v: 1, c: 16}}, {MASK}", ASYNC),
    "mask, registers and async": (f"loop: {{v: 1, c: 16}}, {MASK}", MIXED),
    "mask, unequal distances": (f"loop: {{v: 1, c: 16}}, {MASK}", UNEVEN),
    "mask, two points a step": (f"loop: {{v: 2, c: 16}}, {MASK}", ""),
    "mask, the inner loop": (f"loop: {{c: 16, v: 1}}, {MASK}", ASYNC.replace("acc.c", "acc.v")),
    "mask, a stage of its own": (f"loop: {{v: 1, c: 16}}, {MASK}", f"map: {{at: acc.v, in: registers}}, {ASYNC}"),
    "mask, a ring for the map": (f"loop: {{v: 1, c: 16}}, {MASK}", RING),
    "step, nothing staged": (f"loop: {{v: 1, c: 16}}, {STEP}", ""),
    "step, the inner loop": (f"loop: {{c: 16, v: 1}}, {STEP}", ""),
    "step, staged": (f"loop: {{v: 1, c: 16}}, {STEP}", "x: {at: acc.c, in: shared}, w: {at: acc.c, in: shared}"),
}  # fmt: skip


@pytest.mark.parametrize("cut", list(CUTS))
def test_dead_steps_are_left_out_of_a_contraction(cut: str, tmp_path: Path) -> None:
    built = bundle(gathered, gathered_by(*CUTS[cut]), tmp_path)
    rng = np.random.default_rng(1)
    for n, p, c, k, v, density in SIZES:
        arrays = {"x": halves(rng, p, c), "w": halves(rng, v, c, k), "map": holes(rng, v, n, p, density)}
        assert worst(built, gathered, arrays) <= 1


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("most", [1, 32, 33, 64])
def test_words_of_every_width(most: int, target: str, tmp_path: Path) -> None:
    built = bundle(gathered, gathered_by(*CUTS["mask, three in flight"], target, most), tmp_path, target=target)
    rng = np.random.default_rng(2)
    for v in {1, most - 1, most}:
        arrays = {"x": halves(rng, 9, 8), "w": halves(rng, v, 8, 8), "map": holes(rng, v, 35, 9, 0.02)}
        arrays["map"][-1:, :3] = 1  # the highest bit is set
        assert worst(built, gathered, arrays) <= 1
    empty = {"x": halves(rng, 9, 0), "w": halves(rng, most, 0, 8), "map": holes(rng, most, 3, 9, 0.5)}
    assert worst(built, gathered, empty) <= 1


@te.algorithm("x: f16[M, K], w: f16[K, N], rows: bool[M], pairs: bool[M, K] -> y: f32[M, N]")
def guarded_operand(x: Any, w: Any, rows: Any, pairs: Any, y: Any) -> None:
    """Conjuncts over the axes of one operand."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k] * w[k, j], over=k, where=rows[i] & pairs[i, k])


@pytest.mark.parametrize("stages", ["", "w: {at: y.k, in: shared, depth: 2, copy: async}"])
def test_what_the_guard_of_an_operand_excludes_is_zero_whatever_it_is(stages: str, tmp_path: Path) -> None:
    """NaN and infinities of x where its own guard fails; w is finite, which the schedule must say."""
    text = (
        "texpr: 1\nalgorithm: guarded_operand\nvariants:\n- name: only\n  target: [sm_80]\n  assume: [finite(w)]\n"
        "  when: K <= 128 and N % 8 == 0 and aligned(w, 16)\n  kernels:\n  - {name: k, writes: [y], warps: 1, "
        "grid: {i: 16, j: 16}, place: {y: {loop: {k: 16}, skip: {k: {test: mask}}, mma: mma}}, "
        f"stage: {{{stages}}}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [y], grid: {i: 4, j: 8}, "
        "place: {y: {loop: {k: 8}}}}]}\n"
    )
    built = bundle(guarded_operand, text, tmp_path)
    rng = np.random.default_rng(6)
    rows, pairs = rng.random(37) < 0.5, np.repeat(rng.random((37, 6)) < 0.2, 16, axis=1)
    x = np.where(rows[:, None] & pairs, halves(rng, 37, 96), rng.choice(np.array([np.nan, np.inf, -0.0], np.float16)))
    arrays = {"x": x.astype(np.float16), "w": halves(rng, 96, 24), "rows": rows, "pairs": pairs}
    assert worst(built, guarded_operand, arrays) <= 1
    assert np.isfinite(built(**arrays)).all()


@te.algorithm("x: f32[M, K], live: bool[MB, KB], top: f32[K] -> m: f32[M], p: i32[M], l: f32[M], s: f32[M]",
              require=["MB * 4 >= M", "KB * 8 >= K"])  # fmt: skip
def blocks(x: Any, live: Any, top: Any, m: Any, p: Any, l: Any, s: Any) -> None:  # noqa: E741
    """Rows of a matrix of which some blocks are there: greatest element, sum of exponentials, weighted sum."""
    i, j = te.axes(i="M", j="K")
    there = live[i // 4, j // 8]
    m[i], p[i] = te.argmax(x[i, j], over=j, where=there)
    l[i] = te.sum(te.exp(x[i, j] - m[i]), over=j, where=there)
    s[i] = te.sum(x[i, j] * top[j], over=j, where=there & (top[j] > -9))


@pytest.mark.parametrize("tile, step", [(1, 8), (4, 8), (8, 16)])
@pytest.mark.parametrize("test", ["mask", "step"])
def test_reductions_of_all_kinds(test: str, tile: int, step: int, tmp_path: Path) -> None:
    skip = f"loop: {{j: {step}}}, skip: {{j: {{test: {test}}}}}"
    kernel = (
        "texpr: 1\nalgorithm: blocks\nvariants:\n- name: only\n  target: [sm_80]\n  when: K <= 512\n  kernels:\n"
        f"  - {{name: k, writes: [m, p, l, s], grid: {{i: {tile}}}, warps: 1, "
        f"place: {{m: {{{skip}}}, l: {{{skip}}}, s: {{{skip}}}}}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [m, p, l, s], grid: {i: 1}, "
        "place: {m: {loop: {j: 8}}, l: {loop: {j: 8}}, s: {loop: {j: 8}}}}]}\n"
    )
    built = bundle(blocks, kernel, tmp_path)
    rng = np.random.default_rng(3)
    for m, k, density in [(13, 100, 0.3), (1, 1, 1.0), (5, 40, 0.0), (9, 513, 0.1)]:
        arrays = {"x": rng.standard_normal((m, k)).astype(np.float32), "top": rng.standard_normal(k).astype(np.float32)}
        arrays["live"] = rng.random((-(-m // 4), -(-k // 8))) < density
        assert worst(built, blocks, arrays) <= 1


@te.algorithm("x: f32[M, K], live: bool[MB, KB] -> m: f32[M], l: f32[M]", require=["MB * 4 >= M", "KB * 8 >= K"])
def block_softmax(x: Any, live: Any, m: Any, l: Any) -> None:  # noqa: E741
    i, j = te.axes(i="M", j="K")
    m[i] = te.max(x[i, j], over=j, where=live[i // 4, j // 8])
    l[i] = te.sum(te.exp(x[i, j] - m[i]), over=j, where=live[i // 4, j // 8])


@pytest.mark.parametrize("test", ["mask", "step"])
def test_members_of_a_group_leave_out_the_same_steps(test: str, tmp_path: Path) -> None:
    kernel = (
        "texpr: 1\nalgorithm: block_softmax\nvariants:\n- name: only\n  target: [sm_80]\n  when: K <= 512\n  kernels:\n"
        "  - name: k\n    writes: [m, l]\n    grid: {i: 4}\n    warps: 1\n"
        f"    online: {{funcs: [m, l], at: tile, loop: {{j: 8}}, skip: {{j: {{test: {test}}}}}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [m, l], grid: {i: 1}, "
        "place: {m: {loop: {j: 8}}, l: {loop: {j: 8}}}}]}\n"
    )
    built = bundle(block_softmax, kernel, tmp_path)
    rng = np.random.default_rng(4)
    for m, k, density in [(13, 100, 0.3), (4, 64, 0.0), (1, 1, 1.0)]:
        x = rng.standard_normal((m, k)).astype(np.float32)
        assert worst(built, block_softmax, {"x": x, "live": rng.random((-(-m // 4), -(-k // 8))) < density}) <= 1


@te.algorithm("a: f32[M, K], b: f32[M, K], on: i32[K] -> u: f32[M], v: f32[M]")
def recurrence(a: Any, b: Any, on: Any, u: Any, v: Any) -> None:
    """Affine maps one after the other, those that are on."""
    i, k = te.axes(i="M", k="K")
    affine = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), name="affine")
    u[i], v[i] = te.reduce(affine, (a[i, k], b[i, k]), over=k, where=on[k] != 0)


@pytest.mark.parametrize("test", ["mask", "step"])
def test_what_does_not_commute_keeps_its_order(test: str, tmp_path: Path) -> None:
    kernel = (
        "texpr: 1\nalgorithm: recurrence\nvariants:\n- name: only\n  target: [sm_80]\n  when: K <= 64\n  kernels:\n"
        f"  - {{name: k, writes: [u, v], grid: {{i: 8}}, warps: 1, place: {{u: {{loop: {{k: 4}}, "
        f"skip: {{k: {{test: {test}}}}}}}}}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [u, v], grid: {i: 8}, "
        "place: {u: {loop: {k: 4}}}}]}\n"
    )
    built = bundle(recurrence, kernel, tmp_path)
    rng = np.random.default_rng(5)
    a, b = (rng.uniform(0.5, 1.5, (11, 61)).astype(np.float32) for _ in range(2))
    assert worst(built, recurrence, {"a": a, "b": b, "on": rng.integers(0, 4, 61, dtype=np.int32) // 3}) <= 1


@te.algorithm("x: f32[M, K], n: i32[K], row: i32[M] -> y: f32[M]")
def by_value(x: Any, n: Any, row: Any, y: Any) -> None:
    """The guard reads a func, and no axis of the tile: in steps of one point it holds wherever a step is live."""
    i, k = te.axes(i="M", k="K")
    even = te.func("even", "i32")
    even[k] = n[k] % 2
    y[i] = te.sum(x[i, k], over=k, where=even[k] == 0)


@pytest.mark.parametrize("test", ["mask", "step"])
def test_left_out_terms_are_never_computed_with(test: str, tmp_path: Path) -> None:
    """Infinities and NaN where the guard is false contribute nothing, and the sum of no points is +0."""
    place = f"y: {{loop: {{k: 1}}, skip: {{k: {{test: {test}}}}}}}"
    kernel = (
        "texpr: 1\nalgorithm: by_value\nvariants:\n- name: only\n  target: [sm_80]\n  when: K <= 64\n  kernels:\n"
        f"  - {{name: k, writes: [y], grid: {{i: 4}}, warps: 1, place: {{{place}}}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [y], grid: {i: 4}, place: {y: {loop: {k: 4}}}}]}\n"
    )
    built = bundle(by_value, kernel, tmp_path)
    n = np.arange(37, dtype=np.int32)
    x = np.where(n % 2 == 0, np.float32(-0.0), np.float32("nan")) * np.ones((5, 1), np.float32)
    x[1, 1::4] = np.inf
    x[2, 4] = np.inf
    row = np.zeros(5, np.int32)
    found = built(x=x, n=n, row=row)
    np.testing.assert_array_equal(found, te.reference(by_value)(x=x, n=n, row=row)["y"])
    assert not np.signbit(found).any() and np.isinf(found[2]) and np.isfinite(np.delete(found, 2)).all()
    nothing = built(x=x, n=np.ones(37, np.int32), row=row)
    assert not nothing.any() and not np.signbit(nothing).any()


@te.algorithm("x: f32[M, R, K], n: i32[M] -> y: f32[M]")
def two_loops(x: Any, n: Any, y: Any) -> None:
    """A bound of one axis, holes of another."""
    i, r, k = te.axes(i="M", r="R", k="K")
    y[i] = te.sum(x[i, r, k], over=(r, k), where=(k < n[i]) & ((i - r) % 3 == 0) & (r * r != i))


@pytest.mark.parametrize("how", [
    "loop: {r: 1, k: 8}, trim: {k: split}, skip: {r: {test: mask}}",
    "loop: {r: 1, k: 8}, trim: [k], skip: {r: {test: step}}",
    "loop: {k: 8, r: 2}, trim: [k], skip: {r: {test: mask}}",
])  # fmt: skip
@pytest.mark.parametrize("around", ["grid: {i: 1}, persistent: {programs: 3}", "grid: {i: 4}"])
def test_one_loop_is_trimmed_and_another_skipped(around: str, how: str, tmp_path: Path) -> None:
    inner = "k" if "r: 1" in how else "r"
    stage = "" if "step" in how else f", stage: {{x: {{at: y.{inner}, in: shared, depth: 2, ahead: 1}}}}"
    text = (
        "texpr: 1\nalgorithm: two_loops\nvariants:\n- name: only\n  target: [sm_80]\n  when: R <= 40\n  kernels:\n"
        f"  - {{name: k, writes: [y], warps: 1, {around}, place: {{y: {{{how}}}}}{stage}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [y], grid: {i: 1}, "
        "place: {y: {loop: {r: 1, k: 8}}}}]}\n"
    )
    built = bundle(two_loops, text, tmp_path)
    rng = np.random.default_rng(7)
    for m, r, k in [(1, 1, 1), (13, 7, 37), (6, 40, 9), (5, 0, 8), (5, 3, 0)]:
        x = rng.standard_normal((m, r, k)).astype(np.float32)
        assert worst(built, two_loops, {"x": x, "n": rng.integers(-2, k + 3, m, dtype=np.int32)}) <= 1
