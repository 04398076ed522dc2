"""Matrix products: the instruction table against what Triton really emits, and the numbers on the emulator."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gluon.programs import add, cast, lit, load, matmul, mul, pointer, program, space, uni
from tests.gluon.toolbox import build, decode, encode, run, storage_dtype
from texpr.dtypes import DType
from texpr.instructions import mma_form
from texpr.math.expr import const
from texpr.targets import TARGETS
from texpr.tile.ir import Assign, DotStep, Full, Lane, Relayout, Store, Var
from texpr.tile.layouts import Blocked, Operand
from texpr.tile.verify import verify

PTX_NAMES = {
    DType.F16: "f16", DType.BF16: "bf16", DType.TF32: "tf32", DType.I8: "s8", DType.F64: "f64",
    DType.F8E4M3: "e4m3", DType.F8E5M2: "e5m2",
}  # fmt: skip
CASES = [
    (DType.F16, "sm_80", (128, 128, 32), DType.F16), (DType.BF16, "sm_80", (64, 64, 32), DType.F32),
    (DType.TF32, "sm_80", (64, 64, 32), DType.F32), (DType.I8, "sm_80", (64, 64, 64), DType.I32),
    (DType.F64, "sm_80", (64, 32, 16), DType.F64), (DType.F8E4M3, "sm_89", (64, 64, 64), DType.F32),
    (DType.F8E5M2, "sm_90a", (64, 64, 64), DType.F32),
]  # fmt: skip


@pytest.mark.parametrize("operand, arch, tile, output", CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_pipelined_products_on_tensor_cores(
    operand: DType, arch: str, tile: tuple[int, int, int], output: DType
) -> None:
    form = mma_form(operand, operand, TARGETS[arch])
    assert form is not None
    stored = DType.F32 if operand is DType.TF32 else operand
    made = matmul(
        4 if tile[2] <= 32 else 3, tile, stored, output, operand if operand is DType.TF32 else None, form.k_width,
        form.accumulator,
    )  # fmt: skip
    verify(made)
    built = build(made, arch)
    instruction = f"mma.sync.aligned.{form.name}.row.col"
    kind = PTX_NAMES[operand]
    found = [name for name in built.instructions() if name.startswith("mma.sync")]
    assert found and all(name.startswith(instruction) and f".{kind}.{kind}." in name for name in found), found
    assert "cp.async.cg" in built.ptx and main_loop(built.ptx).count("bar.sync") == 1
    m, n, k = 70, 48, 80
    rng = np.random.default_rng(1)
    x = encode(rng.integers(-4, 5, (m, k)) if operand is DType.I8 else rng.standard_normal((m, k)), stored)
    w = encode(rng.integers(-4, 5, (k, n)) if operand is DType.I8 else rng.standard_normal((k, n)), stored)
    y = np.zeros((m, n), storage_dtype(output))
    run(built, {"x": x, "w": w, "y": y}, M=m, N=n, K=k)
    left, right = decode(x, stored).astype(np.float64), decode(w, stored).astype(np.float64)
    rounding = 2.0**-10 if operand is DType.TF32 else 0.0 if operand in (DType.I8,) else 2.0**-14
    if operand is DType.F64:
        rounding = 2.0**-50
    allowed = rounding * (np.abs(left) @ np.abs(right)) + 2.0**-10 * (output is DType.F16) * np.abs(left @ right)
    assert (np.abs(decode(y, output) - left @ right) <= allowed).all()


def main_loop(ptx: str) -> str:
    """The block of the PTX that multiplies."""
    start = ptx.rindex("$L__BB", 0, ptx.index("mma.sync"))
    return ptx[start : ptx.index("bra", ptx.rindex("mma.sync"))]


def test_one_barrier_per_turn_of_the_pipeline() -> None:
    """linear_gelu's shape: 128 x 128 x 32, four stages."""
    built = build(matmul())
    body = main_loop(built.ptx)
    assert body.count("bar.sync") == 1
    assert body.count("mma.sync.aligned.m16n8k16") == 64
    assert body.count("cp.async.cg.shared.global") == 8


def test_products_by_fused_multiply_adds() -> None:
    layout = Blocked((4, 4), (8, 4), (2, 2), (1, 0))
    acc = space("acc", layout, ("i", 64), ("j", 32))
    a_space = space("a", Operand(0, layout, 0), ("i", 64), ("k", 16))
    b_space = space("b", Operand(1, layout, 0), ("k", 16), ("j", 32))
    x_space = space("x", Blocked((1, 4), (8, 4), (4, 1), (1, 0)), ("i", 64), ("k", 16))
    w_space = space("w", Blocked((1, 4), (4, 8), (4, 1), (1, 0)), ("k", 16), ("j", 32))
    for dtype in (DType.F32, DType.F64):
        x = load("x", dtype, add(mul(Lane(x_space, 0), uni(16)), Lane(x_space, 1)))
        w = load("w", dtype, add(mul(Lane(w_space, 0), uni(32)), Lane(w_space, 1)))
        a, b = Relayout(x, dtype, a_space, (0, 1)), Relayout(w, dtype, b_space, (0, 1))
        zero = Full(lit(0.0, dtype), dtype, acc, (0, 1))
        step = DotStep(a, b, Var("acc", dtype, acc, (0, 1)), False, dtype, acc, (0, 1))
        offset = add(mul(Lane(acc, 0), uni(32)), Lane(acc, 1))
        total = Var("acc", dtype, acc, (0, 1))
        body = [Assign("acc", zero), Assign("acc", step), Store("y", const(0), offset, None, total)]
        made = program("fma_product", [pointer(n, dtype) for n in "xwy"], body)
        verify(made)
        rng = np.random.default_rng(2)
        left, right = (rng.standard_normal(s).astype(storage_dtype(dtype)) for s in ((64, 16), (16, 32)))
        y = np.zeros((64, 32), left.dtype)
        run(build(made), {"x": left, "w": right, "y": y})
        np.testing.assert_allclose(y, left.astype(np.float64) @ right, rtol=1e-5, atol=1e-5)


def test_doubling_in_f16_rounds_at_the_store() -> None:
    line = space("line", Blocked((1,), (32,), (4,), (0,)), ("i", 128))
    i = Lane(line, 0)
    value = cast(mul(cast(load("x", DType.F16, i), DType.F32), lit(1.001, DType.F32)), DType.F16)
    parameters = [pointer("x", DType.F16), pointer("y", DType.F16)]
    made = program("doubling", parameters, [Store("y", const(0), i, None, value)])
    x = np.linspace(-8, 8, 128).astype(np.float16)
    y = np.zeros_like(x)
    run(build(made), {"x": x, "y": y})
    np.testing.assert_array_equal(y, (x.astype(np.float32) * np.float32(1.001)).astype(np.float16))
