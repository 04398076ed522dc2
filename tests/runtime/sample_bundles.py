"""Two small packages with hand-written Gluon kernels, for the tests of everything that runs a bundle.

``affine``: ``x: T[M*, K], b: T[K]?, a: f32 -> y: T[M, K]`` for three element types: y = x * a + b.
``staged``: ``x: i32[B, (G, C)], k: i32 -> y: i32[B, (G, C)] alias(x)``: y = (x + k) * 2, two kernels and a workspace.
"""

from __future__ import annotations

import atexit
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path

from texpr.aot.bundle import write_bundle
from texpr.aot.ir import (
    Entry,
    Example,
    IntValue,
    KernelParam,
    KernelSource,
    Launch,
    Origin,
    Package,
    PresentFlag,
    ScalarArgument,
    ScalarValue,
    TensorArgument,
    TensorPointer,
    Variant,
    WorkspaceBuffer,
    WorkspacePointer,
)
from texpr.dtypes import DType
from texpr.math.expr import TRUE, aligned, ceildiv, conjunction, const, eq, sym

M, K, B, G, C = sym("M"), sym("K"), sym("B"), sym("G"), sym("C")

_TRITON = {DType.F16: "fp16", DType.BF16: "bf16", DType.F32: "fp32"}
_LAYOUT = ("FLAT: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])",)

_AFFINE = """@gluon.jit
def {name}(x, b, y, a, present, columns, stride):
    row = gl.program_id(0).to(gl.int64)
    for start in range(0, columns, 512):
        j = start + gl.arange(0, 512, FLAT)
        inside = j < columns
        value = gl.load(x + row * stride + j, mask=inside).to(gl.float32)
        shift = gl.load(b + j, mask=inside & (present != 0), other=0.0).to(gl.float32)
        gl.store(y + row * columns + j, (value * a + shift).to(y.dtype.element_ty), mask=inside)
"""


def _affine_kernel(dtype: DType, targets: tuple[str, ...], text: str) -> KernelSource:
    pointer = f"*{_TRITON[dtype]}"
    params = (
        KernelParam("x", pointer, TensorPointer("x")),
        KernelParam("b", pointer, TensorPointer("b")),
        KernelParam("y", pointer, TensorPointer("y")),
        KernelParam("a", "fp32", ScalarValue("a")),
        KernelParam("present", "i32", PresentFlag("b")),
        KernelParam("columns", "i32", IntValue(K)),
        KernelParam("stride", "i64", IntValue(sym("x_stride_0"), wide=True)),
    )
    name = f"affine_{dtype}_rows"
    origins = tuple((line, Origin("y", f"affine.yaml:{line}")) for line in range(2, 9))
    return KernelSource(name, text.format(name=name), _LAYOUT, params, 4, targets, origins)


def _affine_entry(symbol: str, dtype: DType, targets: tuple[str, ...]) -> Entry:
    stride = sym("x_stride_0")
    arguments = (
        TensorArgument(
            "x", dtype, (M, K), (1, 1), output=False, strided=((0, "x_stride_0"),), elements=(M - 1) * stride + K
        ),
        TensorArgument("b", dtype, (K,), (1,), output=False, optional=True),
        ScalarArgument("a", DType.F32),
        TensorArgument("y", dtype, (M, K), (1, 1), output=True),
    )
    variant = Variant("rows", targets, TRUE, (Launch(f"affine_{dtype}_rows", M),))
    return Entry(symbol, (("T", dtype),), (), arguments, ("M", "K"), (), (), (variant,))


def affine_package(
    *dtypes: DType, targets: tuple[str, ...] = ("sm_80",), text: str = _AFFINE, example: Example | None = None
) -> Package:
    """``affine`` for some of f16, bf16, f32. ``text`` replaces the kernel, e.g. by :func:`out_of_bounds_text`."""
    symbols = ["affine"] if len(dtypes) == 1 else [f"affine_{dtype}" for dtype in dtypes]
    entries = tuple(_affine_entry(symbol, dtype, targets) for symbol, dtype in zip(symbols, dtypes, strict=True))
    kernels = tuple(_affine_kernel(dtype, targets, text) for dtype in dtypes)
    return Package("affine", entries, kernels, "texpr: 1\nalgorithm: affine\n", "", example)


def out_of_bounds_text() -> str:
    """The affine kernel with its store shifted one element past the row, so that the last row ends outside y."""
    return _AFFINE.replace("y + row * columns + j,", "y + row * columns + j + 1,")


def affine_example() -> Example:
    """5 rows of 700 float32, exact in float32."""
    rows, columns, factor = 5, 700, 0.5
    x = [float((7 * i) % 64) for i in range(rows * columns)]
    b = [float(j % 8) for j in range(columns)]
    y = [value * factor + b[i % columns] for i, value in enumerate(x)]
    return Example(
        entry="affine",
        dims=(("M", rows), ("K", columns)),
        scalars=(("a", factor),),
        inputs=(("x", struct.pack(f"<{len(x)}f", *x)), ("b", struct.pack(f"<{len(b)}f", *b))),
        expected=(("y", struct.pack(f"<{len(y)}d", *y), bytes(8 * len(y))),),
    )


_SHIFT = """@gluon.jit
def staged_shift(x, part, k, n):
    i = gl.program_id(0) * 512 + gl.arange(0, 512, FLAT)
    gl.store(part + i, gl.load(x + i, mask=i < n) + k, mask=i < n)
"""
_DOUBLE = """@gluon.jit
def staged_double(part, y, n):
    i = gl.program_id(0) * 512 + gl.arange(0, 512, FLAT)
    gl.store(y + i, gl.load(part + i, mask=i < n) * 2, mask=i < n)
"""


def staged_package(targets: tuple[str, ...] = ("sm_80",)) -> Package:
    """``staged`` requires C % 4 == 0 and 0 <= k < C."""
    total = B * G * C
    arguments = (
        TensorArgument("x", DType.I32, (B, G, C), (1, 2), output=False),
        ScalarArgument("k", DType.I32, low=const(0), high=C),
        TensorArgument("y", DType.I32, (B, G, C), (1, 2), output=True, may_alias="x"),
    )
    part = WorkspacePointer("part")
    count = KernelParam("n", "i32", IntValue(total))
    shift = KernelSource(
        "staged_shift",
        _SHIFT,
        _LAYOUT,
        (
            KernelParam("x", "*i32", TensorPointer("x")),
            KernelParam("part", "*i32", part),
            KernelParam("k", "i32", ScalarValue("k")),
            count,
        ),
        4,
        targets,
    )
    double = KernelSource(
        "staged_double",
        _DOUBLE,
        _LAYOUT,
        (KernelParam("part", "*i32", part), KernelParam("y", "*i32", TensorPointer("y")), count),
        4,
        targets,
    )
    launches = (Launch("staged_shift", ceildiv(total, 512)), Launch("staged_double", ceildiv(total, 512)))
    buffers = (WorkspaceBuffer("part", 4 * total),)
    variants = (
        Variant("aligned", targets, conjunction(aligned("x", "y", to=16), eq(total % 512, 0)), launches, buffers),
        Variant("general", targets, TRUE, launches, buffers),
    )
    entry = Entry("staged", (), (), arguments, ("B", "G", "C"), (), (eq(C % 4, 0),), variants)
    return Package("staged", (entry,), (shift, double), "texpr: 1\nalgorithm: staged\n", "")


_PACKAGES = {
    "affine": lambda: affine_package(DType.F32),
    "affine_demo": lambda: affine_package(DType.F32, example=affine_example()),
    "affine_types": lambda: affine_package(DType.F16, DType.BF16, DType.F32),
    "affine_broken": lambda: affine_package(DType.F32, text=out_of_bounds_text()),
    "affine_newer": lambda: affine_package(DType.F32, targets=("sm_86", "sm_90a")),
    "staged": staged_package,
}


@cache
def bundle(name: str) -> Path:
    """The directory of one of the bundles above, built once per test process."""
    return write_bundle(_PACKAGES[name](), _folder() / name).folder


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="texpr-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
