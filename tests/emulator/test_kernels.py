"""Compiled kernels give the numbers NumPy gives, on every architecture family, without a false alarm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.emulator.compiled import (
    compile_kernel,
    compiled_copy,
    compiled_gemm,
    compiled_softmax,
    run_compiled,
)
from tests.emulator.exact import ValueTable
from texpr.emulator import Device, Fault, FaultKind

pytest.importorskip("triton")
ARCHITECTURES = [80, 90, 120]
rng = np.random.default_rng(31)


@pytest.mark.parametrize("sm", [80, 86, 87, 89, 90, 100, 110, 120])
def test_copy_on_every_architecture(sm: int) -> None:
    for n in (1, 511, 512, 1300):
        x = rng.standard_normal(n).astype(np.float32)
        got, _ = run_compiled(compiled_copy(sm, False), {"x": x, "y": 0, "n": n}, (-(-n // 512),),
                              outputs={"y": ((n,), np.float32)})
        np.testing.assert_array_equal(got["y"], x)


def test_a_broken_promise_of_divisibility_is_out_of_bounds() -> None:
    n = 514
    x = rng.standard_normal(n).astype(np.float32)
    with pytest.raises(Fault) as caught:
        run_compiled(compiled_copy(80, True), {"x": x, "y": 0, "n": n}, (2,), outputs={"y": ((n,), np.float32)})
    assert caught.value.kind is FaultKind.OUT_OF_BOUNDS and caught.value.buffer == "x"
    assert caught.value.source is not None and caught.value.source.file.endswith("gluon_kernels.py")


@pytest.mark.parametrize("sm", ARCHITECTURES)
@pytest.mark.parametrize("seed", [None, 3])
def test_softmax(sm: int, seed: int | None) -> None:
    rows, columns, stride = 20, 1000, 1024
    x = np.full((rows, stride), np.nan, np.float32)
    x[:, :columns] = rng.standard_normal((rows, columns)) * 4
    device = Device(sm=sm, batch=8, seed=seed)
    got, _ = run_compiled(compiled_softmax(sm), {"x": x, "y": 0, "columns": columns, "stride": stride}, (rows,),
                          outputs={"y": ((rows, stride), np.float32)}, device=device)
    value = np.exp(x[:, :columns].astype(np.float64) - x[:, :columns].max(1, keepdims=True))
    np.testing.assert_allclose(got["y"][:, :columns], value / value.sum(1, keepdims=True), atol=1e-6)
    # What lies outside of the mask was never written.
    assert (got["y"][:, columns:].view(np.uint32) == 0xFFFF_FFFF).all()


@pytest.mark.parametrize("sm", ARCHITECTURES)
def test_transpose(sm: int) -> None:
    rows, columns = 70, 33
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    compiled = compile_kernel("transpose", sm, (("x", "*fp32"), ("y", "*fp32"), ("rows", "i32"), ("columns", "i32")),
                              (("TILE", 32),))
    got, stats = run_compiled(compiled, {"x": x, "y": 0, "rows": rows, "columns": columns}, (3, 2),
                              outputs={"y": ((columns, rows), np.float32)})
    np.testing.assert_array_equal(got["y"], x.T)
    assert stats.warnings == {}


@pytest.mark.parametrize("seed", [None, 4])
def test_histogram(seed: int | None) -> None:
    n = 1900
    x = rng.integers(0, 64, n).astype(np.int32)
    compiled = compile_kernel("histogram", 80, (("x", "*i32"), ("counts", "*i32"), ("n", "i32")),
                              (("BLOCK", 512), ("BINS", 64)))
    got, _ = run_compiled(compiled, {"x": x, "counts": np.zeros(64, np.int32), "n": n}, (4,),
                          outputs={"counts": ((64,), np.int32)}, device=Device(sm=80, seed=seed))
    np.testing.assert_array_equal(got["counts"], np.bincount(x, minlength=64))


def operand(kind: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Storage and values of small numbers that every format holds exactly."""
    values = rng.integers(-4, 5, shape).astype(np.float64)
    match kind:
        case "i8":
            return values.astype(np.int8), values
        case "fp16":
            return values.astype(np.float16), values
        case "fp32":
            return values.astype(np.float32), values
        case "bf16":
            return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16), values
    exponent, mantissa = (4, 3) if kind == "fp8e4nv" else (5, 2)
    table = ValueTable(exponent, mantissa, infinity=kind == "fp8e5")
    return np.vectorize(table.round)(values).astype(np.uint8), values


CASES: list[tuple[int, str, str]] = [
    *[(sm, "fp16", "fp32") for sm in (80, 86, 89, 90, 100, 120)],
    (80, "fp16", "fp16"), (80, "bf16", "fp32"), (120, "bf16", "fp32"), (80, "fp32", "fp32"), (90, "fp32", "fp32"),
    (80, "i8", "i32"), (120, "i8", "i32"), (89, "fp8e4nv", "fp32"), (120, "fp8e4nv", "fp32"), (90, "fp8e5", "fp32"),
]


@pytest.mark.parametrize(("sm", "kind", "accumulator"), CASES)
def test_pipelined_matrix_products(sm: int, kind: str, accumulator: str) -> None:
    rows, columns, depth = 100, 80, 208
    a, a_values = operand(kind, (rows, depth))
    b, b_values = operand(kind, (depth, columns))
    dtype: Any = {"fp32": np.float32, "fp16": np.float16, "i32": np.int32}[accumulator]
    arguments = {"a": a, "b": b, "c": 0, "M": rows, "N": columns, "K": depth}
    got, stats = run_compiled(compiled_gemm(sm, kind, accumulator), arguments, (2, 2),
                              outputs={"c": ((rows, columns), dtype)})
    np.testing.assert_array_equal(got["c"].astype(np.float64), a_values @ b_values)
    assert stats.warnings == {}


def test_a_matrix_product_under_random_schedules() -> None:
    rows, columns, depth = 64, 64, 96
    a, a_values = operand("fp16", (rows, depth))
    b, b_values = operand("fp16", (depth, columns))
    arguments = {"a": a, "b": b, "c": 0, "M": rows, "N": columns, "K": depth}
    for seed in range(3):
        got, _ = run_compiled(compiled_gemm(80, "fp16", "fp32"), arguments, (1, 1),
                              outputs={"c": ((rows, columns), np.float32)}, device=Device(sm=80, seed=seed))
        np.testing.assert_array_equal(got["c"], a_values @ b_values)
