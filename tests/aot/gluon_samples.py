"""Hand-written Gluon kernels that stand for what the compiler emits: a copy, a row softmax, and any other body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from texpr.aot.ir import (
    Entry,
    Example,
    IntValue,
    KernelParam,
    KernelSource,
    Launch,
    Origin,
    Package,
    ScalarArgument,
    ScalarValue,
    TensorArgument,
    TensorPointer,
    Variant,
    WorkspaceBuffer,
)
from texpr.dtypes import DType
from texpr.math.expr import TRUE, aligned, ceildiv, const, eq, ge, le, sym

ALL_TARGETS = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90a", "sm_100a", "sm_110a", "sm_120a")

COPY_TEXT = """@gluon.jit
def copy_rows(x, y, n):
    i = gl.program_id(0) * 1024 + gl.arange(0, 1024, VECTOR)
    gl.store(y + i, gl.load(x + i, mask=i < n), mask=i < n)
"""
COPY_PREAMBLE = ("VECTOR: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])",)

SOFTMAX_TEXT = """@gluon.jit
def row_softmax(x, y, rows, cols):
    i = gl.program_id(0) * 4 + gl.arange(0, 4, gl.SliceLayout(1, ROWS))
    j = gl.arange(0, 1024, gl.SliceLayout(0, ROWS))
    mask = (i < rows)[:, None] & (j < cols)[None, :]
    v = gl.load(x + i[:, None] * cols + j[None, :], mask=mask, other=-float("inf"))
    e = shifted_exp(v)
    gl.store(y + i[:, None] * cols + j[None, :], e / gl.sum(e, axis=1)[:, None], mask=mask)
"""
SOFTMAX_PREAMBLE = (
    "ROWS: gl.constexpr = gl.BlockedLayout([1, 4], [1, 32], [4, 1], [1, 0])",
    "@gluon.jit\ndef shifted_exp(v):\n    m = gl.max(v, axis=1)\n    return gl.exp(v - m[:, None])",
)


def copy_kernel(*targets: str) -> KernelSource:
    """y[:n] = x[:n], 1024 float32 per program."""
    params = (
        KernelParam("x", "*fp32", TensorPointer("x"), 16),
        KernelParam("y", "*fp32", TensorPointer("y"), 16),
        KernelParam("n", "i32", IntValue(sym("N")), 4),
    )
    origins = ((2, Origin("y", "copy.yaml:7")), (3, Origin("y", "copy.yaml:8")))
    return KernelSource("copy_rows", COPY_TEXT, COPY_PREAMBLE, params, 4, targets or ("sm_80",), origins)


def softmax_kernel(*targets: str) -> KernelSource:
    """Softmax over rows of at most 1024 float32, four rows per program, one warp per row."""
    params = (
        KernelParam("x", "*fp32", TensorPointer("x"), 16),
        KernelParam("y", "*fp32", TensorPointer("y"), 16),
        KernelParam("rows", "i32", IntValue(sym("M"))),
        KernelParam("cols", "i32", IntValue(sym("N")), 4),
    )
    places = ((2, "y", "softmax.yaml:5"), (5, "x", "softmax.yaml:6"), (6, "e", "softmax.yaml:9"))
    origins = tuple((line, Origin(node, schedule)) for line, node, schedule in places)
    return KernelSource("row_softmax", SOFTMAX_TEXT, SOFTMAX_PREAMBLE, params, 4, targets or ("sm_80",), origins)


def scratch_kernel(body: str, *targets: str, preamble: tuple[str, ...] = COPY_PREAMBLE, warps: int = 4) -> KernelSource:
    """``scratch(x, a)`` over a float32 pointer and a float32, with an indented body; line k is from ``s.yaml:k``."""
    text = f"@gluon.jit\ndef scratch(x, a):\n{body}"
    params = (KernelParam("x", "*fp32", TensorPointer("x"), 16), KernelParam("a", "fp32", ScalarValue("a")))
    origins = tuple((line, Origin(f"line{line}", f"s.yaml:{line}")) for line in range(1, text.count("\n") + 1))
    return KernelSource("scratch", text, preamble, params, warps, targets or ("sm_80",), origins)


def sample_package(*targets: str) -> Package:
    """A bundle ``sample`` of two entries: ``sample_copy`` (a scalar, a stride, two variants) and ``sample_softmax``."""
    targets = targets or ("sm_80", "sm_90a")
    m, n = sym("M"), sym("N")
    launches = (Launch("copy_rows", ceildiv(n, const(1024))),)
    copy = Entry(
        symbol="sample_copy",
        types=(("T", DType.F32),),
        statics=(("R", 3),),
        arguments=(
            TensorArgument("x", DType.F32, (n,), (1,), output=False, low=const(-1), high=n),
            ScalarArgument("steps", DType.I32, low=const(0), high=n),
            TensorArgument("y", DType.F32, (n,), (1,), output=True, may_alias="x", strided=((0, "y_stride_0"),)),
        ),
        dims=("N",),
        derived=(("H", n // 2),),
        facts=(eq(n % 4, const(0)),),
        variants=(
            Variant("wide", targets[:1], aligned("x", to=16), launches, flops=const(0)),
            Variant(
                "any",
                targets,
                TRUE,
                launches,
                workspace=(WorkspaceBuffer("part", n * 4),),
                limits=(le(n, const(2**31 - 1)),),
                bytes_moved=n * 8,
            ),
        ),
    )
    softmax = Entry(
        symbol="sample_softmax",
        types=(),
        statics=(),
        arguments=(
            TensorArgument("x", DType.F32, (m, n), (1, 1), output=False),
            TensorArgument("y", DType.F32, (m, n), (1, 1), output=True),
        ),
        dims=("M", "N"),
        derived=(),
        facts=(ge(n, const(1)),),
        variants=(Variant("only", targets[-1:], TRUE, (Launch("row_softmax", ceildiv(m, const(4))),)),),
    )
    kernels = (copy_kernel(*targets), softmax_kernel(targets[-1]))
    return Package("sample", (copy, softmax), kernels, "texpr: 1\nalgorithm: sample\n", "def sample(): ...\n")


def softmax_package(rows: int, cols: int, target: str = "sm_80") -> Package:
    """A bundle ``sample`` of the softmax alone, with an example of random rows and its float64 result."""
    package = sample_package(target)
    x = np.random.default_rng(1).standard_normal((rows, cols)).astype(np.float32)
    powers = np.exp(x.astype(np.float64))
    y = powers / powers.sum(axis=1, keepdims=True)
    example = Example(
        entry="sample",
        dims=(("M", rows), ("N", cols)),
        scalars=(),
        inputs=(("x", x.tobytes()),),
        expected=(("y", y.tobytes(), np.full_like(y, 1e-6).tobytes()),),
    )
    entry = replace(package.entries[1], symbol="sample")
    return replace(package, entries=(entry,), kernels=package.kernels[1:], example=example)
