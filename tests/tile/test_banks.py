"""Bank conflicts as the compiler predicts them are those that the emulator counts in the PTX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tests.emulator.compiled  # noqa: F401  (places Triton's cache)
from texpr.emulator import Device, load_ptx
from texpr.emulator.counters import Level, Way
from texpr.tile.banks import best_swizzle, extra_passes
from texpr.tile.layouts import Blocked, Swizzled

ROWWISE = Blocked((1, 4), (4, 8), (1, 1), (1, 0))
SINGLE = Blocked((1, 1), (1, 32), (1, 1), (1, 0))
PAIRS = Blocked((1, 2), (2, 16), (1, 1), (1, 0))
SQUARE = Blocked((1, 4), (8, 4), (1, 1), (1, 0))


def conflicts(
    shape: tuple[int, int], dtype: str, writer: Blocked, swizzle: Swizzled, reader: Blocked, turned: bool
) -> tuple[int, int]:
    """Bank conflicts of one warp that writes a tile and reads it (transposed if `turned`)."""
    pytest.importorskip("triton")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource

    from tests.tile.staged_kernels import through_shared

    def blocked(layout: Blocked) -> Any:
        return gl.BlockedLayout(list(layout.each), list(layout.lanes), list(layout.warps), list(layout.order))

    constants = {
        "ROWS": shape[0], "COLUMNS": shape[1], "WRITER": blocked(writer), "READER": blocked(reader), "TURNED": turned,
        "SHARED": gl.SwizzledSharedLayout(swizzle.vec, swizzle.per_phase, swizzle.max_phase, list(swizzle.order)),
    }
    pointers = {"x": f"*{dtype}", "y": f"*{dtype}"}
    kinds = pointers | dict.fromkeys(constants, "constexpr")
    source = GluonASTSource(
        through_shared, {name: kinds[name] for name in through_shared.arg_names}, constants,
        {(0,): [["tt.divisibility", 16]], (1,): [["tt.divisibility", 16]]},
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 1})
    module = load_ptx(str(kernel.asm["ptx"]))
    (name,) = module.kernels
    device = Device(sm=80, counters=True)
    size = shape[0] * shape[1] * {"i8": 1, "fp16": 2, "fp32": 4}[dtype]
    given, result = device.alloc(size, "x"), device.alloc(size, "y")
    device.write(given, np.arange(size, dtype=np.uint8))
    params = [given.to_bytes(8, "little"), result.to_bytes(8, "little")]
    params += [bytes(8)] * (len(module.kernels[name].params) - len(params))
    stats = device.launch(module, name, [1], [32], kernel.metadata.shared, params)
    assert stats.counters is not None
    ways = ((Way.STORE, Way.MATRIX_STORE), (Way.LOAD, Way.MATRIX_LOAD))
    found = [stats.counters.traffic(Level.SHARED, *some) for some in ways]
    assert all(traffic.bytes == size for traffic in found)
    return found[0].conflicts, found[1].conflicts


@pytest.mark.parametrize(("shape", "dtype", "writer", "swizzle", "reader", "turned"), [
    ((32, 32), "fp32", SINGLE, Swizzled(1, 1, 32, (1, 0)), SINGLE, True),  # none
    ((32, 32), "fp32", SINGLE, Swizzled(1, 1, 8, (1, 0)), SINGLE, True),   # too few phases
    ((32, 64), "fp32", ROWWISE, Swizzled(4, 1, 8, (1, 0)), SINGLE, False),
    ((32, 64), "fp32", SQUARE, Swizzled(4, 1, 1, (1, 0)), SINGLE, False),  # no swizzle
    ((32, 64), "fp16", PAIRS, Swizzled(2, 1, 1, (1, 0)), PAIRS, True),
    ((32, 64), "fp16", PAIRS, Swizzled(2, 1, 16, (1, 0)), SINGLE, True),
    ((64, 64), "fp16", SQUARE, Swizzled(4, 1, 4, (1, 0)), SQUARE, False),
    ((64, 64), "i8", ROWWISE, Swizzled(4, 2, 8, (1, 0)), SINGLE, True),
])
def test_predicted_passes_are_counted(
    shape: tuple[int, int], dtype: str, writer: Blocked, swizzle: Swizzled, reader: Blocked, turned: bool
) -> None:
    element = {"i8": 1, "fp16": 2, "fp32": 4}[dtype]
    predicted = (
        extra_passes(shape, element, writer, swizzle, False), extra_passes(shape, element, reader, swizzle, turned)
    )
    assert conflicts(shape, dtype, writer, swizzle, reader, turned) == predicted


@pytest.mark.parametrize(("shape", "dtype"), [((32, 32), "fp32"), ((32, 64), "fp32")])
def test_the_best_swizzle_of_a_transposition_meets_no_conflicts(shape: tuple[int, int], dtype: str) -> None:
    swizzle, left = best_swizzle(shape, 4 if dtype == "fp32" else 2, ROWWISE, SINGLE, True)
    assert (left, conflicts(shape, dtype, ROWWISE, swizzle, SINGLE, True)) == (0, (0, 0))
