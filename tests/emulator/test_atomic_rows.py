"""atom and red: results and returned values equal those of some order of the lanes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel

REGISTERS = """
    .reg .b32 %t, %r<8>, %c; .reg .b64 %cell, %out, %in, %a, %x<4>; .reg .b16 %h<4>; .reg .f32 %f<4>; .reg .f64 %d;
"""
PARAMS = ".param .u64 cells, .param .u64 in, .param .u64 out"
START = """
    mov.u32 %t, %tid.x; ld.param.u64 %cell, [cells]; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
    and.b32 %c, %t, 3; mad.wide.u32 %cell, %c, 4, %cell;
    mad.wide.u32 %in, %t, 4, %in; mad.wide.u32 %out, %t, 4, %out; ld.global.b32 %r0, [%in];
"""


def run_atomics(body: str, cells: np.ndarray, values: np.ndarray, start: str = START) -> tuple[np.ndarray, np.ndarray]:
    """`body` works on `%cell` (four cells, lane modulo four) with `%r0`; gives cells and what `out` holds."""
    text = kernel(start + body, PARAMS, declarations=REGISTERS, threads=64)
    device, addresses, _ = run_kernel(text, {"cells": cells, "in": values, "out": 64 * 4}, threads=64)
    read = [np.frombuffer(device.read(addresses[name], size), np.uint32)
            for name, size in (("cells", cells.nbytes), ("out", 256))]
    return read[0], read[1]


REFERENCES = {
    "add.u32": lambda old, x: (old + x) % 2**32,
    "add.s32": lambda old, x: (old + x) % 2**32,
    "min.u32": min,
    "max.u32": max,
    "min.s32": lambda old, x: min(old, x, key=lambda v: v - (v >> 31 << 32)),
    "max.s32": lambda old, x: max(old, x, key=lambda v: v - (v >> 31 << 32)),
    "and.b32": lambda old, x: old & x,
    "or.b32": lambda old, x: old | x,
    "xor.b32": lambda old, x: old ^ x,
    "exch.b32": lambda old, x: x,
    "inc.u32": lambda old, x: 0 if old >= x else old + 1,
    "dec.u32": lambda old, x: x if old == 0 or old > x else old - 1,
}


FORMS = [("atom", name) for name in REFERENCES] + [("red", name) for name in REFERENCES if name != "exch.b32"]


@pytest.mark.parametrize(("form", "operation"), FORMS)
def test_integer_atomics_serve_lanes_in_order(form: str, operation: str) -> None:
    rng = np.random.default_rng(3)
    cells = rng.integers(0, 2**32, 4, dtype=np.uint32)
    values = rng.integers(0, 2**32, 64, dtype=np.uint32)
    result = "%r1, " if form == "atom" else ""
    body = f"{form}.relaxed.gpu.global.{operation} {result}[%cell], %r0;" + (
        "st.global.b32 [%out], %r1;" if form == "atom" else "")
    got, returned = run_atomics(body, cells, values)
    expected = [int(cell) for cell in cells]
    for lane in range(64):
        if form == "atom":
            assert int(returned[lane]) == expected[lane % 4]
        expected[lane % 4] = REFERENCES[operation](expected[lane % 4], int(values[lane]))
    assert [int(cell) for cell in got] == expected


def test_compare_and_swap_lets_one_lane_win() -> None:
    body = "atom.global.acq_rel.gpu.cas.b32 %r1, [%cell], 5, %t; st.global.b32 [%out], %r1;"
    cells, returned = run_atomics(body, np.array([5, 5, 6, 5], np.uint32), np.zeros(64, np.uint32))
    assert list(cells) == [0, 1, 6, 3]
    assert list(returned[:8]) == [5, 5, 6, 5, 0, 1, 6, 3]


@pytest.mark.parametrize("body", [
    "red.global.add.f32 [%cell], %r0;",
    "atom.global.gpu.acq_rel.add.f32 %r1, [%cell], %r0; st.global.b32 [%out], %r1;",
])
def test_float_sums(body: str) -> None:
    values = np.arange(64, dtype=np.float32)
    cells, _ = run_atomics(body.replace("%r1", "%f1").replace("%r0", "%f0"), np.zeros(4, np.float32), values,
                           START.replace("ld.global.b32 %r0", "ld.global.f32 %f0"))
    np.testing.assert_array_equal(cells.view(np.float32), values.reshape(16, 4).sum(axis=0))


@pytest.mark.parametrize(("scalar", "dtype"), [("f16x2", np.float16), ("bf16x2", None)])
def test_packed_half_sums(scalar: str, dtype: type | None) -> None:
    values = np.arange(128, dtype=np.float32) % 8
    brain = (values.view(np.uint32) >> 16).astype(np.uint16)
    halves = brain if dtype is None else values.astype(dtype).view(np.uint16)
    cells, _ = run_atomics(f"red.global.gpu.relaxed.add.noftz.{scalar} [%cell], %r0;", np.zeros(4, np.uint32),
                           halves.view(np.uint32))
    low, high = cells & 0xFFFF, cells >> 16
    got = np.stack([low, high], axis=1).astype(np.uint16)
    as_float = (got.astype(np.uint32) << 16).view(np.float32) if dtype is None else got.view(np.float16)
    np.testing.assert_array_equal(as_float, values.reshape(16, 4, 2).sum(axis=0))


def test_wide_and_vector_sums() -> None:
    body = """
        ld.param.u64 %cell, [cells];
        cvt.u64.u32 %x0, %r0; red.global.add.u64 [%cell], %x0;
        cvt.rn.f64.u32 %d, %r0; red.global.add.f64 [%cell+8], %d;
        cvt.rn.f32.u32 %f0, %r0; red.global.gpu.relaxed.add.v2.f32 [%cell+16], {%f0, %f0};
    """
    values = np.arange(64, dtype=np.uint32)
    cells, _ = run_atomics(body, np.zeros(6, np.uint32), values)
    total = int(values.sum())
    assert cells[:2].view(np.uint64)[0] == total and cells[2:4].view(np.float64)[0] == total
    np.testing.assert_array_equal(cells[4:].view(np.float32), [total, total])


def test_shared_atomics_count_a_histogram() -> None:
    text = kernel(
        """
        mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
        mov.u32 %r1, bins; mad.lo.u32 %r2, %t, 4, %r1;
        setp.lt.u32 %p, %t, 9; @%p st.shared.b32 [%r2], 0;
        bar.sync 0;
        mad.wide.u32 %in, %t, 4, %in; ld.global.b32 %r0, [%in]; mad.lo.u32 %r3, %r0, 4, %r1;
        red.shared.cta.relaxed.add.u32 [%r3], 1; atom.shared.inc.u32 %r4, [%r1+32], 1000;
        bar.sync 0;
        setp.lt.u32 %p, %t, 9; @%p ld.shared.b32 %r5, [%r2];
        mad.wide.u32 %out, %t, 4, %out; @%p st.global.b32 [%out], %r5;
        """,
        ".param .u64 in, .param .u64 out",
        declarations=REGISTERS + ".reg .pred %p;",
        module=".shared .align 4 .b8 bins[36];",
        threads=128,
    )
    values = np.random.default_rng(5).integers(0, 8, 128).astype(np.uint32)
    device, addresses, _ = run_kernel(text, {"in": values, "out": 36}, threads=128)
    got = np.frombuffer(device.read(addresses["out"], 36), np.uint32)
    np.testing.assert_array_equal(got, [*np.bincount(values, minlength=8), 128])
