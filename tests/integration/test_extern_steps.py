"""``te.extern``: kernels of the user's own as steps of an algorithm, in Gluon and in plain Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import worst
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import package_of
from texpr.lang.errorbound import error_bounds
from texpr.lang.errors import ReferenceResultError, UndeclaredErrorError
from texpr.plan.build import plan_variant
from texpr.plan.default import default_schedule
from texpr.plan.errors import ExternMismatch, ExternNeeded
from texpr.plan.show import show_variant
from texpr.runtime import load
from texpr.schedule import load_schedule
from texpr.targets import TARGETS

TRITON = '''import texpr as te
import triton
import triton.language as tl

UNUSED = te.DType.F32


@triton.jit
def plus(a, b):
    return a + b


@triton.jit
def prefix(x, y, total, n, scale: tl.constexpr, BLOCK: tl.constexpr):
    """One row a program: y = scale times every prefix sum of x."""
    at = tl.arange(0, BLOCK)
    row = tl.program_id(0) * n
    value = tl.load(x + row + at, mask=at < n, other=0)
    tl.store(y + row + at, tl.associative_scan(value, 0, plus) * scale, mask=at < n)
    tl.store(total + tl.program_id(0), tl.sum(value, 0).to(total.dtype.element_ty))
'''

GLUON = '''from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def plus(a, b):
    return a + b


@gluon.jit
def prefix(x, y, total, n, scale: gl.constexpr, BLOCK: gl.constexpr):
    """One row a program: y = scale times every prefix sum of x."""
    at = gl.arange(0, BLOCK, gl.BlockedLayout([BLOCK // 128], [32], [4], [0]))
    row = gl.program_id(0) * n
    value = gl.load(x + row + at, mask=at < n, other=0)
    gl.store(y + row + at, gl.associative_scan(value, 0, plus) * scale, mask=at < n)
    gl.store(total + gl.program_id(0), gl.sum(value, 0).to(total.dtype.element_ty))
'''


def prefixes(x: Any, *, scale: int) -> tuple[Any, Any]:
    """What ``prefix`` computes."""
    return np.cumsum(x, 1, dtype=x.dtype) * x.dtype.type(scale), x.sum(1, dtype=x.dtype)


prefix = te.extern(
    "prefix",
    "x: T[R, C] -> y: T[R, C], total: T[R]",
    static=["scale"],
    reference=prefixes,
    exact=True,
    T=("i32", "u32"),
)


@te.algorithm("x: i32[M, N] -> z: i32[M, N], s: i32[M], t: i32[M]", require=["N <= 256"])
def twice(x: Any, z: Any, s: Any, t: Any) -> None:
    """A compiled step, two steps by hand with another static each, and a compiled one."""
    i, j = te.axes(i="M", j="N")
    first, a, b = te.funcs("first a b")
    first[i, j] = x[i, j] + 1
    prefix(first, out=(a, s), scale=2)
    prefix(a, out=(b, t), scale=3)
    z[i, j] = b[i, j] - x[i, j]


SCHEDULE = """texpr: 1
algorithm: twice
variants:
- name: only
  target: [TARGET]
  kernels:
  - {name: before, writes: [first], grid: {i: 1, j: 128}}
  - name: one
    writes: [a, s]
    warps: 4
    extern: {source: "mine.py:prefix", programs: R, arguments: {n: C, BLOCK: 256}}
  - {name: two, writes: [b, t], like: one}
  - {name: after, writes: [z], grid: {i: 1, j: 128}}
"""


def scheduled(folder: Path, source: str, text: str = SCHEDULE, target: str = "sm_80") -> Any:
    (folder / "mine.py").write_text(source)
    (folder / "twice.yaml").write_text(text.replace("TARGET", target))
    return load_schedule(str(folder / "twice.yaml"))


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("source", [TRITON, GLUON], ids=["triton", "gluon"])
def test_steps_by_hand_stand_between_compiled_ones(tmp_path: Path, source: str, target: str) -> None:
    package = package_of(twice, scheduled(tmp_path, source, target=target), [target], {}, {})
    write_bundle(package, tmp_path / "out", BuildOptions())
    built = load(str(tmp_path / "out"), device="emulator", sm=int(target[3:5]))
    rng = np.random.default_rng(1)
    for rows, columns in [(0, 3), (1, 1), (3, 127), (2, 256), (5, 131)]:
        x = rng.integers(-1000, 1000, (rows, columns), dtype=np.int32)
        wanted = te.reference(twice)(x=x)
        for found, name in zip(built(x), ("z", "s", "t"), strict=True):
            np.testing.assert_array_equal(found, wanted[name])


def test_names_of_the_signature_stand_for_what_the_call_is_given(tmp_path: Path) -> None:
    (variant,) = scheduled(tmp_path, GLUON).variants
    text = show_variant(plan_variant(twice.bind(), variant, TARGETS["sm_80"]), twice.bind())
    assert "x = first, y = a, total = s, n = N, scale = 2, BLOCK = 256" in text
    assert "x = a, y = b, total = t, n = N, scale = 3, BLOCK = 256" in text


def test_only_what_the_function_needs_comes_along(tmp_path: Path) -> None:
    package = package_of(twice, scheduled(tmp_path, TRITON), ["sm_80"], {}, {})
    write_bundle(package, tmp_path / "out", BuildOptions())
    text = (tmp_path / "out" / "kernel.py").read_text()
    assert "def plus" in text
    assert "UNUSED" not in text


def test_the_default_schedule_says_what_it_lacks() -> None:
    with pytest.raises(ExternNeeded, match="a is computed by extern prefix, and the default schedule has no function"):
        default_schedule(twice, ["sm_80"])


def test_a_compiled_kernel_cannot_write_it(tmp_path: Path) -> None:
    text = SCHEDULE.replace("like: one}", "grid: {i: 1, j: 256}}")
    (variant,) = scheduled(tmp_path, GLUON, text).variants
    with pytest.raises(ExternNeeded, match="kernel two names no function") as caught:
        plan_variant(twice.bind(), variant, TARGETS["sm_80"])
    assert caught.value.hint.startswith("a kernel that writes b, with extern: {source: file.py:function")


def test_an_operand_is_written_before(tmp_path: Path) -> None:
    lines = SCHEDULE.splitlines(keepends=True)
    text = "".join([*lines[:6], *lines[7:11], lines[6], *lines[11:]])
    (variant,) = scheduled(tmp_path, GLUON, text).variants
    with pytest.raises(ExternMismatch, match="operand x of prefix is first, which no earlier kernel has written"):
        plan_variant(twice.bind(), variant, TARGETS["sm_80"])


def test_an_online_pass_reads_what_a_step_has_left(tmp_path: Path) -> None:
    @te.algorithm("x: i32[M, N] -> t: i32[M], y: f32[M]", require=["N <= 256"])
    def program(x: Any, t: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        sums, top, low = te.funcs("sums top low")
        prefix(x, out=(sums, t), scale=1)
        value = (sums[i, j] % 8).to("f32")
        top[i] = te.max(value, over=j)
        low[i] = te.sum(te.exp(value - top[i]), over=j)
        y[i] = te.log(low[i])

    last = "{name: after, writes: [y], grid: {i: 4}, online: {funcs: [top, low], at: tile, loop: {j: 32}}}"
    text = SCHEDULE.replace("algorithm: twice", "algorithm: program").split("  - {name: before")[0]
    text += "  - {name: one, writes: [sums, t], warps: 4, extern: {source: 'mine.py:prefix', programs: R, arguments: "
    text += f"{{n: C, BLOCK: 256}}}}}}\n  - {last}\n"
    package = package_of(program, scheduled(tmp_path, GLUON, text), ["sm_80"], {}, {})
    write_bundle(package, tmp_path / "out", BuildOptions())
    x = np.random.default_rng(2).integers(-9, 9, (5, 99), dtype=np.int32)
    _, found = load(str(tmp_path / "out"), device="emulator", sm=80)(x)
    np.testing.assert_allclose(found, te.reference(program)(x=x)["y"], rtol=1e-5, atol=1e-5)


MATMUL = '''import triton
import triton.language as tl


@triton.jit
def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    pid = tl.program_id(0)
    tiles = tl.cdiv(N, BN)
    m = pid // tiles * BM + tl.arange(0, BM)
    n = pid % tiles * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        k = start + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0.0)
        y = tl.load(b + k[:, None] * N + n[None, :], mask=(k[:, None] < K) & (n[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc)
    tl.store(c + m[:, None] * N + n[None, :], acc, mask=(m[:, None] < M) & (n[None, :] < N))
'''

product = te.extern(
    "product",
    "a: f16[M, K], b: f16[K, N] -> c: f32[M, N]",
    reference=lambda a, b: a @ b,
    error=lambda values, bounds: (np.abs(values[0]) @ np.abs(values[1])) * (values[0].shape[1] + 8) * 2.0**-23,
)


@te.algorithm("x: f16[M, K], w: f16[K, N], v: f32[N] -> y: f32[M, N]")
def linear(x: Any, w: Any, v: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    acc = te.func("acc")
    product(x, w, out=acc)
    y[i, j] = te.relu(acc[i, j] + v[j])


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_triton_pipelines_and_multiplies_on_matrix_units(tmp_path: Path, target: str) -> None:
    blocks = "{BM: 64, BN: 64, BK: 32}"
    text = (
        f"texpr: 1\nalgorithm: linear\nvariants:\n- name: only\n  target: [{target}]\n  kernels:\n"
        "  - {name: product, writes: [acc], warps: 4, extern: {source: 'mine.py:matmul', "
        f"programs: ceil(M / 64) * ceil(N / 64), arguments: {blocks}}}}}\n"
        "  - {name: last, writes: [y], grid: {i: 4, j: 128}}\n"
    )
    package = package_of(linear, scheduled(tmp_path, MATMUL, text), [target], {}, {})
    write_bundle(package, tmp_path / "out", BuildOptions())
    built = load(str(tmp_path / "out"), device="emulator", sm=int(target[3:5]))
    rng = np.random.default_rng(5)
    x, w = (rng.standard_normal(shape).astype(np.float16) for shape in ((65, 72), (72, 40)))
    v = rng.standard_normal(40).astype(np.float32)
    assert worst(built, linear, {"x": x, "w": w, "v": v}) <= 1


# ---- references and bounds -------------------------------------------------------------------------------------------


def negated(x: Any) -> Any:
    """In place, which must not change what the caller has."""
    x *= -1
    return x


def test_a_reference_works_on_copies() -> None:
    negate = te.extern("negate", "x: f32[N] -> y: f32[N]", reference=negated, exact=True)

    @te.algorithm("x: f32[N] -> y: f32[N], z: f32[N]")
    def program(x: Any, y: Any, z: Any) -> None:
        (i,) = te.axes(i="N")
        negate(x, out=y)
        z[i] = x[i]

    x = np.float32([1, -2])
    found = te.reference(program)(x=x)
    assert (found["y"].tolist(), found["z"].tolist(), x.tolist()) == ([-1, 2], [1, -2], [1, -2])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (lambda x: x[1:], r"y of shape \[2\], not y of shape \[3\]"),
        (lambda x: (x, x), "2 arrays, not a tuple of 1 arrays"),
        (lambda x: x * 0.5, "y as float64, not y as integers"),
    ],
)
def test_a_reference_returns_what_the_signature_says(reference: Any, message: str) -> None:
    step = te.extern("step", "x: i32[N] -> y: i32[N]", reference=reference, exact=True)

    @te.algorithm("x: i32[N] -> y: i32[N]")
    def program(x: Any, y: Any) -> None:
        step(x, out=y)

    with pytest.raises(ReferenceResultError, match=message):
        te.reference(program)(x=np.int32([1, 2, 3]))


def halving(**declared: Any) -> Any:
    """``y = 3 x / 2``: the operand of the second step is off by a rounding."""
    halve = te.extern("halve", "x: f32[N] -> y: f32[N]", reference=lambda x: x / 2, **declared)

    @te.algorithm("x: f32[N] -> y: f32[N]")
    def program(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        tripled = te.func("tripled")
        tripled[i] = x[i] * 3
        halve(tripled, out=y)

    return program


def test_an_error_that_says_nothing_of_inexact_operands_is_refused() -> None:
    with pytest.raises(UndeclaredErrorError, match="says nothing of an operand x that is off by a rounding"):
        error_bounds(halving(exact=True))(x=np.float32([1.1]))


def test_an_error_function_is_given_the_bounds_of_the_operands() -> None:
    x = np.float32([1.1, 0])
    bounds = error_bounds(halving(error=lambda values, bounds: bounds[0] / 2))(x=x)["y"]
    exact = x.astype(np.float64) * 1.5
    assert float(bounds.ratios(exact + 1e-8 * x).max()) <= 1
    assert float(bounds.ratios(exact + 1e-5 * x).max()) > 1
