"""Inline PTX of a user's: every type of operand and result, several results, shared by what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle
from texpr.lang.arrays import encode, value_dtype
from texpr.plan.default import default_schedule
from texpr.schedule import dump_schedule

MOVES = {
    "i8": "b32", "u8": "b32", "f8e5m2": "b32", "i16": "b16", "u16": "b16", "f16": "b16", "bf16": "b16", "i32": "b32",
    "u32": "b32", "f32": "f32", "i64": "b64", "u64": "b64", "f64": "f64",
}  # fmt: skip
"""The suffix of ``mov`` for the register that a type is in."""


@te.algorithm("x: T[N], z: U[N] -> a: U[N], b: T[N]", T=tuple(MOVES), U=tuple(MOVES))
def swapped(x: Any, z: Any, a: Any, b: Any) -> None:
    """Two results of two types, each written before the operand of the other is read."""
    (i,) = te.axes(i="N")
    first, second = te.type("T").value, te.type("U").value
    a[i], b[i] = te.ptx(
        f"mov.{MOVES[second]} $0, $3; mov.{MOVES[first]} $1, $2;",
        x[i],
        z[i],
        dtype=(second, first),
        reference=lambda v, w: (w, v),
    )


PAIRS = [
    ("i8", "f64"), ("u8", "f16"), ("f8e5m2", "i32"), ("i16", "u64"), ("u16", "bf16"), ("f32", "i64"), ("u32", "i8"),
]  # fmt: skip


def numbers(dtype: str, rng: np.random.Generator) -> Any:
    """Random numbers, negative ones among them where the type has any."""
    low = 0 if dtype.startswith("u") else -100
    return encode(rng.integers(low, 100, 130).astype(value_dtype(te.DType(dtype))), te.DType(dtype))


@pytest.mark.parametrize("types", PAIRS, ids=lambda pair: "-".join(pair))
def test_every_type_is_an_operand_and_a_result(tmp_path: Path, types: tuple[str, str]) -> None:
    binding = dict(zip("TU", types, strict=True))
    built = bundle(swapped, "  - name: k\n    writes: [a, b]\n    grid: {i: 64}\n", tmp_path, binding)
    rng = np.random.default_rng(3)
    x, z = (numbers(dtype, rng) for dtype in types)
    a, b = built(x, z, types=binding)
    np.testing.assert_array_equal(a, z)
    np.testing.assert_array_equal(b, x)
    reference = te.reference(swapped, types=binding)(x=x, z=z)
    np.testing.assert_array_equal(a, reference["a"])
    np.testing.assert_array_equal(b, reference["b"])


def wide_product(a: Any, b: Any) -> tuple[Any, Any]:
    """The halves of the 64-bit product of two words, the higher first."""
    product = np.asarray(a, np.uint64) * np.asarray(b, np.uint64)
    return product >> np.uint64(32), product & np.uint64(0xFFFFFFFF)


@te.algorithm("x: u32[M, N], z: u32[M, N] -> y: u32[M, N], s: u32[M]", require=["N <= 64"])
def products(x: Any, z: Any, y: Any, s: Any) -> None:
    """Both halves are read twice, in a fused expression and in a reduction."""
    i, j = te.axes(i="M", j="N")
    high, low = te.ptx(
        "mul.hi.u32 $0, $2, $3; mul.lo.u32 $1, $2, $3;",
        x[i, j] + te.u32(1),
        z[i, j],
        dtype=("u32", "u32"),
        reference=wide_product,
    )
    y[i, j] = (high ^ low) + high
    s[i] = te.sum(high & low, over=j)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("kernels", ["hand", "default"])
def test_several_results_fuse_with_what_is_around_them(tmp_path: Path, target: str, kernels: str) -> None:
    text = (
        f"texpr: 1\nalgorithm: products\nvariants:\n- name: only\n  target: [{target}]\n"
        "  kernels:\n  - {name: k, writes: [y, s], warps: 2, grid: {i: 4}, whole: {j: 64}}\n"
    )
    if kernels == "default":
        text = dump_schedule(default_schedule(products, [target]))
    built = bundle(products, text, tmp_path, target=target)
    rng = np.random.default_rng(4)
    for rows, points in [(0, 5), (1, 1), (4, 64), (5, 63), (7, 13)]:
        x, z = rng.integers(0, 2**32, (2, rows, points), dtype=np.uint32)
        wanted = te.reference(products)(x=x, z=z)
        y, s = built(x, z)
        np.testing.assert_array_equal(y, wanted["y"])
        np.testing.assert_array_equal(s, wanted["s"])


def test_results_of_one_operation_are_computed_once(tmp_path: Path) -> None:
    schedule = (
        "  - {name: k, writes: [y], grid: {i: 4, j: 32}}\n"
        "  - {name: sums, writes: [s], grid: {i: 4}, place: {s: {at: tile, loop: {j: 32}}}}\n"
    )
    bundle(products, schedule, tmp_path)
    assert (tmp_path / "products" / "kernel.py").read_text().count("mul.hi.u32") == 2  # once per kernel
