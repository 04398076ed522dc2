"""Compiled kernels of sm_90a: tensor copies, mbarriers, wgmma and warp specialisation give NumPy's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.emulator.compiled_hopper import Hopper, compile_hopper, run_hopper
from tests.emulator.exact import ValueTable
from texpr.emulator import Device

pytest.importorskip("triton")
rng = np.random.default_rng(53)
SEEDS = [None, 1, 2]


def add_one(sm: int = 90, kind: str = "fp32") -> Hopper:
    signature = (("source", f"{kind}[32,32]"), ("target", f"{kind}[32,32]"))
    return compile_hopper("tma_add_one", signature, (("BM", 32), ("BN", 32)), sm=sm)


def gemm(turned: bool = False) -> Hopper:
    signature = (("a", "fp16[64,64]"), ("b", "fp16[64,64]"), ("c", "fp32[64,64]"), ("K", "i32"))
    return compile_hopper("wgmma_gemm", signature, (("STAGES", 3), ("WARPS", 4), ("KM", turned)))


def specialised() -> Hopper:
    tiles = tuple((name, "fp16[64,64]") for name in "abc")
    return compile_hopper(
        "specialised_gemm", (*tiles, ("M", "i32"), ("N", "i32"), ("K", "i32")), (("STAGES", 3), ("WARPS", 4))
    )


@pytest.mark.parametrize("sm", [90, 100, 120])
@pytest.mark.parametrize("seed", SEEDS)
def test_tensor_copies_in_and_out(sm: int, seed: int | None) -> None:
    """Ragged edges: what is outside arrives as zero and is not written."""
    x = rng.standard_normal((70, 44)).astype(np.float32)
    got, stats = run_hopper(add_one(sm), {"source": x, "target": np.empty_like(x)}, (3, 2), maps=("source", "target"),
                            outputs=("target",), device=Device(sm=sm, seed=seed))
    np.testing.assert_array_equal(got["target"], x + 1)
    assert stats.warnings == {}


@pytest.mark.parametrize("sm", [90, 120])
@pytest.mark.parametrize("seed", SEEDS)
def test_tensor_maps_made_by_the_kernel(sm: int, seed: int | None) -> None:
    signature = (("x", "*fp32"), ("y", "*fp32"), ("rows", "i32"), ("columns", "i32"))
    kernel = compile_hopper("tma_own_maps", signature, (("BM", 32), ("BN", 32)), sm=sm, divisible=("x", "y", "columns"))
    x = rng.standard_normal((70, 48)).astype(np.float32)
    got, _ = run_hopper(kernel, {"x": x, "y": np.empty_like(x), "rows": 70, "columns": 48}, (3, 2), outputs=("y",),
                        device=Device(sm=sm, seed=seed))
    np.testing.assert_array_equal(got["y"], x + 1)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_pipelined_product(turned: bool, seed: int | None) -> None:
    rows, columns, depth = 100, 72, 200
    a = rng.integers(-4, 5, (rows, depth)).astype(np.float16)
    b = rng.integers(-4, 5, (columns, depth) if turned else (depth, columns)).astype(np.float16)
    arguments = {"a": a, "b": b, "c": np.empty((rows, columns), np.float32), "K": depth}
    got, _ = run_hopper(gemm(turned), arguments, (2, 2), maps=("a", "b", "c"), outputs=("c",),
                        device=Device(sm=90, seed=seed))
    np.testing.assert_array_equal(got["c"], a.astype(np.float32) @ (b.T if turned else b).astype(np.float32))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_warp_specialised_product(seed: int | None) -> None:
    rows, columns, depth = 136, 136, 200
    a = rng.integers(-4, 5, (rows, depth)).astype(np.float16)
    b = rng.integers(-2, 3, (depth, columns)).astype(np.float16)
    arguments = {"a": a, "b": b, "c": np.empty((rows, columns), np.float16), "M": rows, "N": columns, "K": depth}
    got, _ = run_hopper(specialised(), arguments, (3,), maps=("a", "b", "c"), outputs=("c",),
                        device=Device(sm=90, seed=seed))
    np.testing.assert_array_equal(got["c"], (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16))


def operand(kind: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Storage and values of small numbers that every format holds exactly."""
    values = rng.integers(-4, 5, shape).astype(np.float64)
    plain: dict[str, Any] = {"i8": np.int8, "fp16": np.float16, "fp32": np.float32}
    if kind in plain:
        return values.astype(plain[kind]), values
    if kind == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16), values
    table = ValueTable(4, 3, infinity=False) if kind == "fp8e4nv" else ValueTable(5, 2)
    return np.vectorize(table.round)(values).astype(np.uint8), values


FORMS = [
    # kind, accumulator, columns, depth, A in registers, B K-major, width of the swizzle in bytes
    *[("fp16", "fp32", 32, 64, registers, turned, width)
      for registers in (False, True) for turned in (False, True) for width in (32, 64, 128)],
    ("fp16", "fp16", 64, 32, False, True, 64), ("bf16", "fp32", 64, 64, False, False, 128),
    ("bf16", "fp32", 128, 64, True, True, 128), ("fp32", "fp32", 32, 32, False, True, 128),
    ("fp32", "fp32", 16, 16, True, True, 64), ("i8", "i32", 32, 128, False, True, 128),
    ("i8", "i32", 64, 64, True, True, 64), ("fp8e4nv", "fp32", 32, 128, False, True, 128),
    ("fp8e5", "fp32", 32, 64, True, True, 64), ("fp16", "fp32", 256, 64, False, False, 128),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "accumulator", "columns", "depth", "registers", "turned", "width"), FORMS)
def test_wgmma_of_every_type_and_layout(
    kind: str, accumulator: str, columns: int, depth: int, registers: bool, turned: bool, width: int
) -> None:
    from triton.experimental.gluon import language as gl

    bits = {"fp32": 32, "fp16": 16, "bf16": 16}.get(kind, 8)
    if width > min(columns if not turned else depth, depth) * bits // 8:
        pytest.skip("the tile is narrower than the swizzle")
    layout = gl.NVMMASharedLayout(swizzle_byte_width=width, element_bitwidth=bits, rank=2)
    constants = (("BM", 64), ("BN", columns), ("BK", depth), ("WARPS", 4), ("A_LAYOUT", layout), ("B_LAYOUT", layout),
                 ("A_REGISTERS", registers), ("B_TURNED", turned))
    signature = (("a", f"*{kind}"), ("b", f"*{kind}"), ("c", f"*{accumulator}"))
    kernel = compile_hopper("wgmma_tile", signature, constants, divisible=("a", "b", "c"))
    a, a_values = operand(kind, (64, depth))
    b, b_values = operand(kind, (columns, depth) if turned else (depth, columns))
    dtype: Any = {"fp32": np.float32, "fp16": np.float16, "i32": np.int32}[accumulator]
    got, _ = run_hopper(kernel, {"a": a, "b": b, "c": np.empty((64, columns), dtype)}, (1,), outputs=("c",))
    np.testing.assert_array_equal(got["c"].astype(np.float64), a_values @ (b_values.T if turned else b_values))
