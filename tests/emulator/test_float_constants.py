"""Floating-point instructions whose operands are constants; their semantics are in `conformance/floats.py`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.emulator.snippets import Array, run_lanes, run_one
from texpr.emulator.isa_float import with_modifiers
from texpr.emulator.rows import Modifiers


def half_values(bits: Array, name: str) -> Array:
    if name == "f16":
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@pytest.mark.parametrize(("opcode", "bits", "constants", "function"), [
    ("add.f32", 32, "0f40000000", lambda x: x + 2), ("sub.rz.f32", 32, "0f40000000", lambda x: x - 2),
    ("div.rn.f32", 32, "0f40400000", lambda x: x / 3),
    ("fma.rn.f32", 32, "0f40000000, 0f3F800000", lambda x: 2 * x + 1),
    ("add.f64", 64, "0d4000000000000000", lambda x: x + 2), ("mul.rm.f64", 64, "0d4008000000000000", lambda x: 3 * x),
    ("fma.rn.f64", 64, "0d4000000000000000, 0d3FF0000000000000", lambda x: 2 * x + 1),
    ("max.f32", 32, "0f40000000", lambda x: max(x, 2)), ("div.full.f32", 32, "0f40000000", lambda x: x / 2),
    ("add.f16", 16, "0x4000", lambda x: x + 2), ("fma.rn.bf16", 16, "0x4000, 0x3F80", lambda x: 2 * x + 1),
])
def test_operands_may_be_constants(opcode: str, bits: int, constants: str, function: Callable[[float], float]) -> None:
    values = np.array([1.5, -3, 1e-3, 96, 0], np.float32)
    brain = (values.view(np.uint32) >> 16).astype(np.uint16)
    given: Array = brain if "bf16" in opcode else values.astype(f"f{bits // 8}")
    exact = half_values(given, "bf16") if "bf16" in opcode else given.astype(np.float64)
    got = run_one(opcode, [(f"b{bits}", given)], f"b{bits}", constants=constants)
    result = half_values(got, "bf16") if "bf16" in opcode else got.view(f"f{bits // 8}")
    precision = {"f32": 2.0**-22, "f64": 2.0**-51, "f16": 2.0**-10, "bf16": 2.0**-7}[opcode.split(".")[-1]]
    np.testing.assert_allclose(result, [function(x) for x in exact], rtol=precision)


def test_all_operands_may_be_constants() -> None:
    one = np.zeros(3, np.uint32)
    body = """
        add.f32 %a, 0f3F800000, 0f40000000; fma.rn.f32 %b, 0f3F800000, 0f40000000, 0f3F800000;
        fma.rn.f64 %c, 0d3FF0000000000000, 0d4000000000000000, 0d3FF0000000000000; cvt.rn.f16.f32 %h, 0f3F800000;
        cvt.rzi.s32.f32 %e, 0f40600000; max.f32 %f, 0f3F800000, 0f40000000;
        cvt.rn.satfinite.e4m3x2.f32 %g, 0f3F800000, 0f00000000;
    """
    outputs = {"a": "b32", "b": "b32", "c": "b64", "h": "b16", "e": "b32", "f": "b32", "g": "b16"}
    got = run_lanes(body, {"x": ("b32", one)}, outputs)
    assert list(got["a"].view(np.float32)) == [3] * 3 and list(got["b"].view(np.float32)) == [3] * 3
    assert list(got["c"].view(np.float64)) == [3] * 3 and list(got["h"].view(np.float16)) == [1] * 3
    assert list(got["e"]) == [3] * 3 and list(got["f"].view(np.float32)) == [2] * 3 and list(got["g"]) == [0x3800] * 3


def test_a_nan_of_single_precision_has_one_pattern_whatever_it_comes_from() -> None:
    """Partial sums that threads add in different orders agree, so that storing them twice is no race."""
    add = with_modifiers(np.add, Modifiers({}))
    inf, nan = np.float32(np.inf), np.uint32(0xFFC01234).view(np.float32)
    with np.errstate(invalid="ignore"):
        found = add(np.array([inf, -inf, nan, 1], np.float32), np.array([-inf, inf, 1, nan], np.float32))
    assert found.view(np.uint32).tolist() == [0x7FFFFFFF] * 4
