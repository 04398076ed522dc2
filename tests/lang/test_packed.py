"""Packed 4-bit tensors: what reads give, and what the signature becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import texpr as te
from tests.integration.running import bundle
from texpr.dtypes import DType
from texpr.lang.ir import Tensor
from texpr.math.expr import eq, sym


@te.algorithm("a: u4[M, K] packed(1), b: i4[K, N] packed(0) -> x: u8[M, K], y: i8[K, N], s: i32[M, N]")
def unpacked(a: Any, b: Any, x: Any, y: Any, s: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    x[i, k] = a[i, k]
    y[k, j] = b[k, j]
    s[i, j] = te.sum(a[i, k].to("i32") * b[k, j].to("i32"), over=k)


def expected(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The same by interleaving the halves of the bytes."""
    x = np.stack((a & 15, a >> 4), axis=2).reshape(a.shape[0], -1)
    y = np.stack((b & 15, b >> 4), axis=1).reshape(-1, b.shape[1]).astype(np.int8)
    y = np.where(y > 7, y - 16, y).astype(np.int8)
    return {"x": x, "y": y, "s": x.astype(np.int32) @ y.astype(np.int32)}


def test_the_even_neighbour_is_in_the_low_half() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (5, 7), np.uint8), rng.integers(0, 256, (7, 3), np.uint8)
    found = te.reference(unpacked)(a=a, b=b, K=14)
    for name, values in expected(a, b).items():
        np.testing.assert_array_equal(found[name], values)


def test_to_the_launcher_it_is_a_tensor_of_bytes() -> None:
    algorithm = unpacked.bind({})
    a, b = (param for param in algorithm.params[:2] if isinstance(param, Tensor))
    assert (a.dtype, a.element, a.packed, a.shape) == (DType.U8, DType.U4, 1, (sym("M"), sym("K") // 2))
    assert (b.dtype, b.element, b.packed, b.shape) == (DType.U8, DType.I4, 0, (sym("K") // 2, sym("N")))
    assert algorithm.facts == (eq(sym("K") % 2, 0),)


def test_generated_code_unpacks_alike(tmp_path: Path) -> None:
    kernels = (
        "  - {name: copies, writes: [x], grid: {i: 4, k: 32}}\n  - {name: more, writes: [y], grid: {k: 8, j: 32}}\n"
        "  - name: sums\n    writes: [s]\n    grid: {i: 8, j: 16}\n    place: {s: {at: tile, loop: {k: 16}}}\n"
        "    stage: {a: {at: s.k, in: shared}, b: {at: s.k, in: shared}}\n"
    )
    built = bundle(unpacked, kernels, tmp_path)
    rng = np.random.default_rng(1)
    for m, k, n in ((1, 2, 1), (9, 34, 17), (3, 0, 2)):
        a, b = rng.integers(0, 256, (m, k // 2), np.uint8), rng.integers(0, 256, (k // 2, n), np.uint8)
        found = dict(zip(("x", "y", "s"), built(a=a, b=b, x=np.zeros((m, k), np.uint8)), strict=True))
        for name, values in expected(a, b).items():
            np.testing.assert_array_equal(found[name], values)
