"""Axes visited in the order that a hint lists: the same bits for any permutation, and each point stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, halves, worst


@te.algorithm("x: f32[M, N], r: f32[M], perm: hint i32[M] permutation(M) -> y: f32[M, N], at: i64[M]")
def rows(x: Any, r: Any, perm: Any, y: Any, at: Any) -> None:
    """Reads, sums and indices of a row, and the row itself."""
    i, j, k = te.axes(i="M", j="N", k="N")
    s = te.func("s")
    s[i] = te.sum(x[i, k], over=k, where=k <= i)
    y[i, j] = x[i, j] * s[i] + r.padded(2)[i + 1]
    at[i] = i + 3


@te.algorithm("a: f16[M, K], b: f16[K, N], perm: hint i64[M]? permutation(M) -> y: f16[M, N]")
def product(a: Any, b: Any, perm: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(a[i, k] * b[k, j], over=k)
    y[i, j] = te.relu(acc[i, j])


@pytest.mark.parametrize("cut", [
    "grid: {i: 1}, whole: {j: 64}",
    "grid: {i: 8}, whole: {j: 64}",
    "grid: {i: 4}, whole: {j: 64}, persistent: {programs: 2}",
    "split: {i: {into: [io, ii], by: 3}}, grid: {io: 4, ii: 4}, whole: {j: 64}",
])  # fmt: skip
def test_rows_in_any_order(cut: str, tmp_path: Path) -> None:
    text = (
        "texpr: 1\nalgorithm: rows\nvariants:\n- name: only\n  target: [sm_80]\n  when: N <= 64\n  kernels:\n"
        f"  - {{name: k, writes: [y, at], visit: {{i: perm}}, {cut}, warps: 1, place: {{s: {{loop: {{k: 16}}}}}}}}\n"
        "- {name: rest, target: sm_80, kernels: [{name: k, writes: [at], grid: {i: 16}}, "
        "{name: l, writes: [y], grid: {i: 1, j: 64}, place: {s: {loop: {k: 16}}}}]}\n"
    )
    built = bundle(rows, text, tmp_path)
    rng = np.random.default_rng(1)
    for m, n in [(1, 1), (13, 37), (24, 64), (0, 5)]:
        x, r = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, n), m))
        orders = [np.arange(m), np.arange(m)[::-1], rng.permutation(m)]
        results = [built(x=x, r=r, perm=order.astype(np.int32)) for order in orders]
        assert worst(built, rows, {"x": x, "r": r, "perm": orders[-1].astype(np.int32)}) <= 1
        for y, at in results:
            np.testing.assert_array_equal(y, results[0][0])
            np.testing.assert_array_equal(at, np.arange(m) + 3)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("via", ["", ", y: {via: shared}"])
def test_rows_of_a_product_are_gathered_and_scattered(via: str, target: str, tmp_path: Path) -> None:
    text = (
        f"texpr: 1\nalgorithm: product\nvariants:\n- name: sorted\n  target: [{target}]\n"
        "  when: present(perm) and K % 8 == 0 and N % 8 == 0 and aligned(a, b, y, 16)\n"
        "  kernels:\n  - name: k\n    writes: [y]\n    visit: {i: perm}\n    grid: {i: 16, j: 32}\n    warps: 1\n"
        f"    place: {{acc: {{at: tile, loop: {{k: 16}}, mma: mma}}{via}}}\n"
        "    stage: {perm: {at: tile, in: registers}, a: {at: acc.k, in: shared, depth: 3, copy: async},"
        " b: {at: acc.k, in: shared, depth: 2, copy: async}}\n"
        f"- {{name: rest, target: {target}, kernels: [{{name: k, writes: [y], grid: {{i: 16, j: 32}}, "
        "place: {acc: {loop: {k: 16}}}}]}\n"
    )
    built = bundle(product, text, tmp_path, target=target)
    rng = np.random.default_rng(2)
    for m, k, n in [(1, 8, 8), (37, 40, 48), (64, 16, 32), (0, 8, 8)]:
        arrays = {"a": halves(rng, m, k), "b": halves(rng, k, n), "perm": rng.permutation(m)}
        assert worst(built, product, arrays) <= 1
        np.testing.assert_array_equal(built(**arrays), built(**arrays | {"perm": np.arange(m)}))
        assert worst(built, product, {"a": arrays["a"], "b": arrays["b"]}) <= 1


def test_a_list_that_is_no_permutation_is_refused_before_it_is_used(tmp_path: Path) -> None:
    text = (
        "texpr: 1\nalgorithm: rows\nvariants:\n- name: only\n  target: [sm_80]\n  when: N <= 64\n  kernels:\n"
        "  - {name: k, writes: [y, at], visit: {i: perm}, grid: {i: 4}, whole: {j: 64}, place: {s: {loop: {k: 8}}}}\n"
    )
    text += "- {name: rest, target: sm_80, kernels: [{name: k, writes: [at], grid: {i: 16}}, {name: l, writes: [y], "
    built = bundle(rows, text + "grid: {i: 1, j: 64}, place: {s: {loop: {k: 16}}}}]}\n", tmp_path)
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(te.errors.TExprError, match=r"permutation\(M\)"):
        built(x=x, r=np.zeros(3, np.float32), perm=np.array([0, 2, 2], np.int32))


def test_the_reference_needs_no_hints() -> None:
    x = np.ones((3, 2), np.float32)
    found = te.reference(rows)(x=x, r=x[:, 0])
    np.testing.assert_array_equal(found["at"], [3, 4, 5])
