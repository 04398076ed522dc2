"""Language features that few kernels use, run on the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst
from texpr.plan.errors import AliasNotElementwise
from texpr.runtime import load

ROWS = "  - name: k\n    writes: [{writes}]\n    grid: {{i: 2}}\n    place: {{{place}}}\n"


def byte_sum(v: Any) -> Any:
    """What the PTX below computes."""
    word = np.asarray(v, np.uint32)
    return sum((word >> shift) & 255 for shift in (0, 8, 16, 24)).astype(np.uint32)


@te.algorithm("x: u32[N] -> y: u32[N]")
def sum_of_bytes(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = te.ptx(
        "dp4a.u32.u32 $0, $1, 0x01010101, 0;", x[i], dtype="u32", constraints="=r,r", reference=byte_sum, max_ulp=0
    ) + te.u32(1)


def test_inline_ptx_is_an_operation_like_any_other(tmp_path: Path) -> None:
    built = bundle(sum_of_bytes, "  - name: k\n    writes: [y]\n    grid: {i: 128}\n", tmp_path)
    x = np.random.default_rng(0).integers(0, 2**32, 200, dtype=np.uint32)
    np.testing.assert_array_equal(built(x), byte_sum(x) + 1)


@te.algorithm("x: f16[M, N], s: f16[N]?, a: f32, n: i32 in [0, 100) -> y: f16[M, N]")
def scaled(x: Any, s: Any, a: Any, n: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.where(te.present(s), x[i, j] * s.get(j, 2) * a, x[i, j] + n.to("f32"))


def test_optional_tensors_and_scalars_reach_the_kernel(tmp_path: Path) -> None:
    built = bundle(scaled, "  - name: k\n    writes: [y]\n    grid: {i: 2, j: 32}\n", tmp_path)
    rng = np.random.default_rng(1)
    for scale in (None, halves(rng, 50)):
        arrays = {"x": halves(rng, 3, 50), "s": scale, "a": 1.5, "n": 7}
        assert worst(built, scaled, arrays) <= 1


@te.algorithm("x: f32[M, N] -> y: f32[M, N] alias(x)")
def centred(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    top = te.func("top")
    top[i] = te.max(x[i, j], over=j)
    y[i, j] = x[i, j] - top[i]


def test_an_aliased_output_may_overwrite_its_input(tmp_path: Path) -> None:
    place = "top: {loop: {j: 32}}, y: {at: tile, loop: {j: 32}}"
    built = bundle(centred, ROWS.format(writes="y", place=place), tmp_path)
    x = np.random.default_rng(2).standard_normal((5, 70)).astype(np.float32)
    expected = x - x.max(1, keepdims=True)
    np.testing.assert_array_equal(built(x, out=x), expected)


@te.algorithm("x: f32[N] -> y: f32[N] alias(x)")
def shifted(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = x.clamped()[i - 1]


def test_a_kernel_that_would_read_overwritten_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AliasNotElementwise) as caught:
        bundle(shifted, "  - name: k\n    writes: [y]\n    grid: {i: 128}\n", tmp_path)
    assert "alias(x)" in caught.value.hint


@te.algorithm("x: f32[M*, N], k: i32[M, N] -> n: i32[M], a: bool[M], e: u32[M], p: f32[M], lo: f32[M], at: i32[M]")
def reductions(x: Any, k: Any, n: Any, a: Any, e: Any, p: Any, lo: Any, at: Any) -> None:
    i, j = te.axes(i="M", j="N")
    n[i] = te.sum(1, over=j, where=(k[i, j] > 0) & (j < i + 20))
    a[i] = te.any(x[i, j] > 2.0, over=j)
    e[i] = te.reduce("xor", k[i, j].to("u32"), over=j)
    p[i] = te.prod(1.0 + x[i, j] * 0.01, over=j)
    lo[i], at[i] = te.argmin(x[i, j], over=j)


def test_reductions_of_every_kind_share_one_tile(tmp_path: Path) -> None:
    place = ", ".join(f"{name}: {{loop: {{j: 32}}}}" for name in ("n", "a", "e", "p", "lo"))
    built = bundle(reductions, ROWS.format(writes="n, a, e, p, lo, at", place=place), tmp_path)
    rng = np.random.default_rng(3)
    for m, n in ((1, 1), (5, 67)):
        wide = rng.standard_normal((m, n + 3)).astype(np.float32)
        arrays = {"x": wide[:, :n], "k": rng.integers(-9, 9, (m, n), dtype=np.int32)}
        assert worst(built, reductions, arrays) <= 1


compensated = te.monoid(lambda p, q: (p[0] + q[0], p[1] + q[1] + p[0] * q[0]), identity=(0.0, 0.0), commutative=True)


@te.algorithm("x: f32[M, N] -> s: f32[M], e: f32[M]")
def symmetric(x: Any, s: Any, e: Any) -> None:
    """The first two elementary symmetric polynomials of each row."""
    i, j = te.axes(i="M", j="N")
    s[i], e[i] = te.reduce(compensated, (x[i, j], 0.0 * x[i, j]), over=j)


def test_a_monoid_of_the_user_reduces_in_registers_and_across_lanes(tmp_path: Path) -> None:
    built = bundle(symmetric, ROWS.format(writes="s, e", place="s: {loop: {j: 64}}"), tmp_path)
    x = np.random.default_rng(4).standard_normal((3, 150)).astype(np.float32)
    s, e = built(x)
    wide = x.astype(float)
    np.testing.assert_allclose(s, wide.sum(1), atol=1e-4)
    np.testing.assert_allclose(e, (wide.sum(1) ** 2 - (wide**2).sum(1)) / 2, atol=1e-2)


times = te.monoid(
    lambda p, q: (p[0] * q[0] - p[1] * q[1], p[0] * q[1] + p[1] * q[0]), identity=(1.0, 0.0), commutative=True
)


@te.algorithm("a: f32[M, N], b: f32[M, N] -> s: f32[M], e: f32[M]")
def multiplied(a: Any, b: Any, s: Any, e: Any) -> None:
    """The product of each row's complex numbers."""
    i, j = te.axes(i="M", j="N")
    s[i], e[i] = te.reduce(times, (a[i, j], b[i, j]), over=j)


def test_a_monoid_that_commutes_but_for_the_last_bit_is_the_same_for_all_lanes_and_runs(tmp_path: Path) -> None:
    """Across four warps: lanes that combined in orders of their own would store values that differ in the last bit."""
    built = bundle(multiplied, ROWS.format(writes="s, e", place="s: {loop: {j: 512}}"), tmp_path)
    angles = np.random.default_rng(4).uniform(0, 6, (3, 600)).astype(np.float32)
    s, e = built(np.cos(angles), np.sin(angles))
    turned = np.exp(1j * angles.astype(float)).prod(1)
    np.testing.assert_allclose(s + 1j * e, turned, atol=1e-3)
    again = load(str(tmp_path / "multiplied"), device="emulator", sm=80, schedule_seed=1)
    assert all(map(np.array_equal, (s, e), again(np.cos(angles), np.sin(angles))))


@te.algorithm("x: f32[M, N] -> v: f32[M], at: i32[M]")
def largest(x: Any, v: Any, at: Any) -> None:
    i, j = te.axes(i="M", j="N")
    v[i], at[i] = te.argmax(x[i, j], over=j)


def test_the_largest_of_nothing_is_nowhere(tmp_path: Path) -> None:
    built = bundle(largest, ROWS.format(writes="v, at", place="v: {loop: {j: 32}}"), tmp_path)
    value, position = built(np.zeros((3, 0), np.float32))
    assert value.tolist() == [-np.inf] * 3
    assert position.tolist() == [-1] * 3


composed = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0))


@te.algorithm("x: f32[M, N] -> a: f32[M], b: f32[M]")
def recurrence(x: Any, a: Any, b: Any) -> None:
    i, j = te.axes(i="M", j="N")
    a[i], b[i] = te.reduce(composed, (0.5 * x[i, j], x[i, j]), over=j)


@pytest.mark.parametrize("size", [1, 32])
def test_an_operator_that_does_not_commute_combines_in_order(size: int, tmp_path: Path) -> None:
    built = bundle(recurrence, ROWS.format(writes="a, b", place=f"a: {{loop: {{j: {size}}}}}"), tmp_path)
    rng = np.random.default_rng(7)
    for m, n in ((1, 0), (3, 1), (5, 31), (4, 32), (7, 45)):
        assert worst(built, recurrence, {"x": rng.standard_normal((m, n)).astype(np.float32)}) <= 1


@te.algorithm("i0: f32[pid, j_tiles], tile: f32[j_tiles] -> step: f32[pid, j_tiles]")
def awkward_names(i0: Any, tile: Any, step: Any) -> None:
    i, j = te.axes(i="pid", j="j_tiles")
    step[i, j] = i0.clamped()[i - 1, j] + tile[j]


def test_arguments_may_have_any_name(tmp_path: Path) -> None:
    kernel = "  - name: k\n    writes: [step]\n    grid: {i: 4, j: 32}\n    persistent: {programs: 2}\n"
    built = bundle(awkward_names, kernel + "    stage: {i0: {at: tile, in: shared}}\n", tmp_path)
    rng = np.random.default_rng(5)
    arrays = {"i0": rng.standard_normal((9, 70)).astype(np.float32), "tile": rng.standard_normal(70).astype(np.float32)}
    assert worst(built, awkward_names, arrays) <= 1


@te.algorithm("x: f16[M, K], w: f16[K, N], r: f16[M, N] -> y: f16[M, N]")
def attention_scores(x: Any, w: Any, r: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    s, m, total = te.funcs("s m total")
    s[i, j] = te.sum(te.where(k <= i, x[i, k], 0) * w[k, j], over=k) + r[i, j]
    m[i] = te.max(s[i, j], over=j)
    total[i] = te.sum(te.exp(s[i, j] - m[i]), over=j)
    y[i, j] = te.exp(s[i, j] - m[i]) / total[i]


def test_a_masked_product_is_fused_with_a_softmax_over_its_rows(tmp_path: Path) -> None:
    """Prologue (mask), epilogue (residual) and row reductions of an accumulator in one kernel."""
    schedule = (
        "texpr: 1\nalgorithm: attention_scores\nvariants:\n- name: narrow\n  target: sm_80\n  when: N <= 64\n"
        "  kernels:\n  - name: k\n    writes: [y]\n    grid: {i: 32}\n    whole: {j: 64}\n"
        "    place: {s.r1: {loop: {k: 16}, mma: {op: mma, rows: i, cols: j}}, s: {at: tile}}\n"
        "    stage: {x: {at: s.r1.k, in: shared}, w: {at: s.r1.k, in: shared}}\n"
        "- name: any\n  target: sm_80\n  kernels:\n  - name: scores\n    writes: [s]\n    grid: {i: 32, j: 32}\n"
        "    place: {s.r1: {loop: {k: 16}}}\n"
        "  - name: softmax\n    writes: [y]\n    grid: {i: 2}\n"
        "    place: {m: {loop: {j: 64}}, total: {loop: {j: 64}}, y: {loop: {j: 64}}}\n"
    )
    built = bundle(attention_scores, schedule, tmp_path)
    rng = np.random.default_rng(6)
    for m, k, n in ((33, 20, 64), (40, 33, 50), (5, 3, 100)):
        arrays = {"x": halves(rng, m, k), "w": halves(rng, k, n), "r": halves(rng, m, n)}
        assert worst(built, attention_scores, arrays) <= 1


@te.algorithm("t: f32[256, N], wide: f16[65536], at: u8[M], far: u16[M] -> y: f32[M, N]")
def looked_up(t: Any, wide: Any, at: Any, far: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = t[at[i].to("i32"), j] + wide[far[i].to("i64")]


def test_narrow_indices_may_be_widened(tmp_path: Path) -> None:
    """Values above the largest signed number of the narrow type, too."""
    built = bundle(looked_up, "  - name: k\n    writes: [y]\n    grid: {i: 4, j: 32}\n", tmp_path)
    rng = np.random.default_rng(7)
    arrays = {
        "t": rng.standard_normal((256, 33)).astype(np.float32),
        "wide": halves(rng, 65536),
        "at": np.array([0, 127, 128, 255, 7], np.uint8),
        "far": np.array([0, 32767, 32768, 65535, 9], np.uint16),
    }
    assert worst(built, looked_up, arrays) <= 1


@te.algorithm("x: f32[M], z: f32[N] -> y: f32[M], any: bool[M]")
def greatest_of_one(x: Any, z: Any, y: Any, any: Any) -> None:
    """Reductions of what is the same at all points: the value, or the identity where there are no points."""
    i, j = te.axes(i="M", j="N")
    y[i] = te.max(x[i] * 2, over=j)
    any[i] = te.any(x[i] > 0, over=j)


def test_the_greatest_of_one_number_is_itself(tmp_path: Path) -> None:
    schedule = (
        "texpr: 1\nalgorithm: greatest_of_one\nvariants:\n- name: short\n  target: [sm_80]\n  when: N <= 64\n"
        "  kernels:\n  - {name: k, writes: [y, any], grid: {i: 8}, whole: {j: 64}}\n"
        "- name: long\n  target: [sm_80]\n  kernels:\n"
        "  - {name: k, writes: [y, any], grid: {i: 8}, place: {y: {loop: {j: 64}}, any: {loop: {j: 64}}}}\n"
    )
    built = bundle(greatest_of_one, schedule, tmp_path)
    short = (tmp_path / "greatest_of_one" / "kernel.py").read_text().split("def greatest_of_one_long")[0]
    assert "gl.reduce(" not in short
    x = np.float32([1, -2, np.nan, 0, -0.0, 7, 8, 9, 10])
    for points in (0, 1, 64, 70):
        y, found = built(x, np.zeros(points, np.float32))
        np.testing.assert_array_equal(y, x * 2 if points else np.full(9, -np.inf))
        np.testing.assert_array_equal(found, (x > 0) & (points > 0))
