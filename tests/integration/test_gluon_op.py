"""``te.gluon_op``: functions of the user's over tiles, between what the compiler writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from texpr.compile import load_algorithm
from texpr.lang.errorbound import error_bounds
from texpr.lang.errors import GluonOpError, ReferenceResultError, UndeclaredErrorError
from texpr.plan.build import plan_variant
from texpr.plan.default import default_schedule
from texpr.plan.errors import LinesNotWhole
from texpr.plan.show import show_variant
from texpr.schedule import dump_schedule, load_schedule
from texpr.targets import TARGETS

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(11)


def kernels(text: str, name: str, target: str) -> str:
    return f"texpr: 1\nalgorithm: {name}\nvariants:\n- name: only\n  target: [{target}]\n  kernels:\n{text}"


# ---- scans, with one operand for each kind of dims ------------------------------------------------------------------

below = te.gluon_op(
    "tile_functions.py:below_the_top",
    "x: T[i, j], s: T[i], w: T[j] -> y: T[i, j]",
    reference=lambda x, s, w: np.maximum.accumulate(x, 1) * s[:, None] - w[None, :],
    exact=True,
    fill={"x": 0, "w": 0},
    T=("i32", "i64"),
)


@te.algorithm("x: T[B, N, M], s: T[M], w: T[N] -> y: T[B, N, M], z: T[B, M]", T=("i32", "i64"), require=["N <= 64"])
def scanned(x: Any, s: Any, w: Any, y: Any, z: Any) -> None:
    """Along the middle dim of what is stored; the result is read by an expression and by a reduction."""
    b, i, j = te.axes(b="B", i="M", j="N")
    v = te.func("v")
    v[b, i, j] = below(x[b, j, i] * 3, s[i] + 1, w[j], along=j)
    y[b, j, i] = v[b, i, j] ^ x[b, j, i]
    z[b, i] = te.sum(v[b, i, j], over=j)


STAGED = """  - name: k
    writes: [y, z]
    warps: 2
    grid: {b: 2, i: 8}
    whole: {j: 64}
    place: {v: {at: tile}}
    stage: {x: {at: tile, in: shared}}
"""


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("dtype", ["i32", "i64"])
def test_operands_are_staged_and_results_fused(tmp_path: Path, dtype: str, target: str) -> None:
    schedule = kernels(STAGED, "scanned", target)
    if dtype == "i64":
        schedule = dump_schedule(default_schedule(scanned, [target]))
    built = bundle(scanned, schedule, tmp_path, {"T": dtype}, target)
    for batch, columns, rows in [(0, 3, 4), (1, 1, 1), (2, 63, 9), (3, 64, 8), (1, 5, 17)]:
        x = RNG.integers(-1000, 1000, (batch, columns, rows)).astype(dtype.replace("i", "int"))
        s, w = x[0, 0] if batch else np.ones(rows, x.dtype), np.arange(columns, dtype=x.dtype)
        wanted = te.reference(scanned)(x=x, s=s, w=w)
        y, z = built(x, s, w)
        np.testing.assert_array_equal(y, wanted["y"])
        np.testing.assert_array_equal(z, wanted["z"])


def test_the_nest_and_the_kernel_name_the_function(tmp_path: Path) -> None:
    (variant,) = load_schedule(kernels(STAGED, "scanned", "sm_80")).variants
    algorithm = scanned.bind({"T": "i32"})
    text = show_variant(plan_variant(algorithm, variant, TARGETS["sm_80"]), algorithm)
    assert "v = below_the_top(x[b, j, i] * 3, s[i] + 1, w[j]) of tile_functions.py, lines along j" in text
    assert "v: operands -> layout any of below_the_top, and back" in text
    bundle(scanned, STAGED, tmp_path, {"T": "i32"})
    source = (tmp_path / "scanned" / "kernel.py").read_text()
    assert "# below_the_top, a function over tiles of tile_functions.py\n@gluon.jit\ndef below_the_top" in source
    assert source.count("def _greater") == 1
    assert "butterfly" not in source


# ---- warp primitives ------------------------------------------------------------------------------------------------

butterfly = te.gluon_op(
    "tile_functions.py:butterfly",
    "x: i32[j] -> y: i32[j]",
    static=["sign"],
    reference=lambda x, *, sign: x + sign * x.reshape(-1, 2)[:, ::-1].reshape(-1),
    exact=True,
    layout="line_in_warp",
)


@te.algorithm("x: i32[M, (N, 8)] -> y: i32[M, (N, 8)]")
def butterflies(x: Any, y: Any) -> None:
    """Lines of 8 in a warp of 32 lanes, one at a time; two calls with another static each."""
    i, n, k = te.axes(i="M", n="N", k=8)
    y[i, (n, k)] = butterfly(x[i, (n, k)], along=k, sign=-1) + butterfly(x[i, (n, k)] + 7, along=k, sign=2)


def test_lines_in_a_warp_are_shuffled(tmp_path: Path) -> None:
    schedule = "  - {name: k, writes: [y], warps: 2, grid: {i: 1, n: 1}, whole: {k: 8}}\n"
    built = bundle(butterflies, schedule, tmp_path)
    for rows, groups in [(1, 1), (3, 5), (0, 2)]:
        x = RNG.integers(-(2**31), 2**31, (rows, groups * 8), dtype=np.int32)
        np.testing.assert_array_equal(built(x), te.reference(butterflies)(x=x)["y"])


# ---- compaction: several results ------------------------------------------------------------------------------------


def compact(x: Any, keep: Any) -> tuple[Any, Any]:
    out = np.zeros_like(x)
    for row, line, flags in zip(out, x, keep, strict=True):
        row[: flags.sum()] = line[flags]
    return out, np.cumsum(keep, 1, dtype=np.int32) - keep


compacted = te.gluon_op(
    "tile_functions.py:compacted",
    "x: u32[i, j], keep: bool[i, j] -> y: u32[i, j], before: i32[i, j]",
    reference=compact,
    exact=True,
    fill={"x": 0, "keep": False},
)


@te.algorithm("x: u32[M, N] -> y: u32[M, N], n: i32[M, N]", require=["N <= 128"])
def odd_ones(x: Any, y: Any, n: Any) -> None:
    """The odd numbers of each row side by side."""
    i, j = te.axes(i="M", j="N")
    y[i, j], n[i, j] = compacted(x[i, j], (x[i, j] & 1) != 0, along=j)


@pytest.mark.parametrize("cover", ["grid: {i: 8}, whole: {j: 128}", "grid: {i: 8, j: 128}, persistent: true", ""])
def test_several_results_of_one_call(tmp_path: Path, cover: str) -> None:
    """Lines are whole in ``whole``, and in a grid with tiles that are long enough; without either, by default."""
    text = kernels(f"  - {{name: k, writes: [y, n], warps: 4, {cover}}}\n", "odd_ones", "sm_80")
    if not cover:
        text = dump_schedule(default_schedule(odd_ones, ["sm_80"]))
    built = bundle(odd_ones, text, tmp_path)
    for rows, columns in [(1, 1), (5, 127), (8, 128), (9, 2), (3, 97)]:
        x = RNG.integers(0, 2**32, (rows, columns), dtype=np.uint32)
        wanted = te.reference(odd_ones)(x=x)
        y, n = built(x)
        np.testing.assert_array_equal(y, wanted["y"])
        np.testing.assert_array_equal(n, wanted["n"])


# ---- sorting --------------------------------------------------------------------------------------------------------

sort_line = te.gluon_op(
    "tile_functions.py:sorted_line",
    "x: f32[j] -> y: f32[j]",
    reference=np.sort,
    error=lambda values, bounds: bounds[0].max(),
    fill={"x": float("inf")},
)


@te.algorithm("x: f32[M, N] -> y: f32[M, N]", require=["N <= 64"])
def ranked(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = sort_line(x[i, j] * 0.1, along=j) * 10.0


def test_a_line_is_sorted_between_two_products(tmp_path: Path) -> None:
    built = bundle(ranked, "  - {name: k, writes: [y], warps: 1, grid: {i: 1}, whole: {j: 64}}\n", tmp_path)
    for rows, columns in [(1, 1), (3, 63), (2, 64), (4, 7)]:
        x = RNG.standard_normal((rows, columns)).astype(np.float32)
        assert worst(built, ranked, {"x": x}) <= 1
        np.testing.assert_allclose(built(x), np.sort(x, 1), rtol=1e-6)


# ---- one number per line ---------------------------------------------------------------------------------------------


def quantise(x: Any) -> tuple[Any, Any, Any]:
    top = np.abs(x).max(1)
    step = np.where(top > 0, top / 127, 1.0)
    return np.rint(x / step[:, None]).clip(-128, 127).astype(np.int8), step, top > 100


quantised = te.gluon_op(
    "tile_functions.py:quantised",
    "x: f32[i, j] -> q: i8[i, j], s: f32[i], large: bool[i]",
    reference=quantise,
    error=lambda values, bounds: (0, np.abs(values[0]).max(1) / 127 * 2.0**-20, 0),
    fill={"x": 0},
)
extent = te.gluon_op(
    "tile_functions.py:extent_of",
    "x: i32[j] -> y: i32[]",
    reference=lambda x: x.max() - x.min(),
    exact=True,
    layout="line_in_thread",
)


@te.algorithm("x: f16[M, N] -> q: i8[M, N], s: f32[M], large: bool[M]", require=["N <= 64"])
def steps_of(x: Any, q: Any, s: Any, large: Any) -> None:
    i, j = te.axes(i="M", j="N")
    q[i, j], s[i], large[i] = quantised(x[i, j].to("f32"), along=j)


@pytest.mark.parametrize("kernel", ["grid: {i: 8}, whole: {j: 64}", "grid: {i: 1}, whole: {j: 64}", ""])
def test_a_result_may_be_one_number_per_line(tmp_path: Path, kernel: str) -> None:
    text = kernels(f"  - {{name: k, writes: [q, s, large], warps: 4, {kernel}}}\n", "steps_of", "sm_80")
    if not kernel:
        text = dump_schedule(default_schedule(steps_of, ["sm_80"]))
    built = bundle(steps_of, text, tmp_path)
    source = (tmp_path / "steps_of" / "kernel.py").read_text()
    assert source.count("quantised(") == (2 if kernel else 3)  # its definition, and a call in each kernel that stores
    assert "gl.reduce(" not in source or not kernel
    for rows, columns in [(0, 3), (3, 0), (1, 1), (9, 64), (8, 37)]:
        x = (RNG.standard_normal((rows, columns)) * 60).astype(np.float16)
        wanted = te.reference(steps_of)(x=x)
        q, s, large = built(x)
        assert np.abs(q.astype(int) - wanted["q"]).max(initial=0) <= 1  # ties
        np.testing.assert_allclose(s, wanted["s"], rtol=1e-6)
        np.testing.assert_array_equal(large, wanted["large"])


def test_a_function_of_one_line_may_give_one_number(tmp_path: Path) -> None:
    @te.algorithm("x: i32[M, (N, 8)] -> y: i32[M, N]")
    def program(x: Any, y: Any) -> None:
        i, n, k = te.axes(i="M", n="N", k=8)
        y[i, n] = extent(x[i, (n, k)] * 2, along=k) + 1

    built = bundle(program, "  - {name: k, writes: [y], warps: 1, grid: {i: 1, n: 1}, whole: {k: 8}}\n", tmp_path)
    x = RNG.integers(-99, 99, (3, 8 * 5), dtype=np.int32)
    lines = x.reshape(3, 5, 8) * 2
    np.testing.assert_array_equal(built(x), lines.max(2) - lines.min(2) + 1)


# ---- the example kernel ---------------------------------------------------------------------------------------------


def test_a_rotation_is_undone_by_itself(tmp_path: Path) -> None:
    """H is symmetric and H H = G: turning what was quantised back gives the input, up to half a step each."""
    definition = load_algorithm(f"{ROOT}/kernels/quantise.py:hadamard_quantise")
    built = bundle(definition, ROOT / "schedules" / "hadamard_quantise.yaml", tmp_path, {"T": "f16"})
    x = RNG.standard_normal((5, 3 * 128)).astype(np.float16)
    q, scale = built(x)
    signs = np.array([[(-1) ** bin(h & k).count("1") for k in range(128)] for h in range(128)])
    back = (q.reshape(5, 3, 128) * scale[:, :, None]) @ signs / np.sqrt(128)
    off = np.abs(back.reshape(5, -1) - x).reshape(5, 3, 128)
    assert (off < 6 * scale[:, :, None]).all()
    text = next((tmp_path / "hadamard_quantise").rglob("*.ptx")).read_text()
    assert text.count("shfl.sync.bfly") == 32 * 5 + 8 * 5  # five bits of every element, and the maxima


# ---- references and bounds ------------------------------------------------------------------------------------------


def halved(reference: Any, **declared: Any) -> Any:
    half = te.gluon_op("tile_functions.py:sorted_line", "x: f32[j] -> y: f32[j]", reference=reference, **declared)

    @te.algorithm("x: f32[N] -> y: f32[N]")
    def program(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = half(x[i] * 3, along=i)

    return program


def test_a_reference_returns_what_the_signature_says() -> None:
    with pytest.raises(ReferenceResultError, match=r"y of shape \[2\], not y of shape \[3\]"):
        te.reference(halved(lambda x: x[1:], exact=True))(x=np.float32([1, 2, 3]))


def test_an_error_that_says_nothing_of_inexact_operands_is_refused() -> None:
    with pytest.raises(UndeclaredErrorError, match="says nothing of an operand x that is off by a rounding"):
        error_bounds(halved(np.sort, exact=True))(x=np.float32([1.1]))


def test_an_operand_that_could_be_another_value_makes_its_line_doubtful() -> None:
    @te.algorithm("x: f32[M, N] -> y: u32[M, N]", require=["N <= 128"])
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        big = te.where(x[i, j] * 3 > 3.3000002, te.u32(1), te.u32(0))
        y[i, j], _ = compacted(big, big != 0, along=j)

    bounds = error_bounds(program)(x=np.float32([[1.1, 2, 0], [1, 2, 0]]))["y"]
    assert bounds.ambiguous.tolist() == [[True] * 3, [False] * 3]


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("grid: {i: 1, j: 32}", "it is divided among programs", "whole: {j: 64}"),
        ("grid: {i: 1}, scan: {v: {across: loop, by: {j: 32}}}", "it cannot go on from tile to tile", "whole: {j: N}"),
        ("grid: {i: 1}", "no tile of the kernel holds it", "whole: {j: 64}"),
    ],
)
def test_lines_that_are_not_whole_are_refused(text: str, message: str, hint: str) -> None:
    @te.algorithm("x: f32[M, N] -> y: f32[M, N]", require=["N <= 64"])
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        v = te.func("v")
        v[i, j] = sort_line(x[i, j], along=j)
        y[i, j] = v[i, j] + 1

    (variant,) = load_schedule(kernels(f"  - {{name: k, writes: [y], {text}}}\n", "program", "sm_80")).variants
    with pytest.raises(LinesNotWhole, match=message) as caught:
        plan_variant(program.bind(), variant, TARGETS["sm_80"])
    assert hint in caught.value.hint


def test_a_function_of_one_line_refuses_several() -> None:
    schedule = load_schedule(kernels("  - {name: k, writes: [y], grid: {i: 4}, whole: {j: 64}}\n", "ranked", "sm_80"))
    with pytest.raises(LinesNotWhole, match="takes one line at a time, and the tile has 4") as caught:
        plan_variant(ranked.bind(), schedule.variants[0], TARGETS["sm_80"])
    assert caught.value.hint == "grid: {i: 1}"


def test_a_tile_longer_than_the_line_needs_a_fill() -> None:
    @te.algorithm("x: i32[M, 6] -> y: i32[M, 6]")
    def program(x: Any, y: Any) -> None:
        i, k = te.axes(i="M", k=6)
        y[i, k] = butterfly(x[i, k], along=k, sign=1)

    schedule = load_schedule(kernels("  - {name: k, writes: [y], grid: {i: 1}, whole: {k: 8}}\n", "program", "sm_80"))
    with pytest.raises(LinesNotWhole, match="butterfly has no fill= that says what is there"):
        plan_variant(program.bind(), schedule.variants[0], TARGETS["sm_80"])


def test_a_default_schedule_needs_a_bound() -> None:
    @te.algorithm("x: f32[M, N] -> y: f32[M, N]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i, j] = sort_line(x[i, j], along=j)

    with pytest.raises(LinesNotWhole, match="nothing bounds N"):
        default_schedule(program, ["sm_80"])


def test_operands_vary_along_what_they_are_declared_to() -> None:
    @te.algorithm("x: i32[M, N], s: i32[M] -> y: i32[M, N]")
    def program(x: Any, s: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i, j] = below(x[i, j], x[i, j], x[i, j], along=j)

    with pytest.raises(GluonOpError, match="has one s per line, and is given a value that varies along j"):
        program.bind()


def test_a_function_is_given_as_itself_too(tmp_path: Path) -> None:
    from tests.integration import tile_functions

    by_object = te.gluon_op(
        tile_functions.sorted_line, "x: f32[j] -> y: f32[j]", reference=np.sort, exact=True, fill={"x": np.inf}
    )

    @te.algorithm("x: f32[M, N] -> y: f32[M, N]", require=["N <= 32"])
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i, j] = by_object(x[i, j], along=j)

    built = bundle(program, "  - {name: k, writes: [y], warps: 1, grid: {i: 1}, whole: {j: 32}}\n", tmp_path)
    x = RNG.standard_normal((3, 17)).astype(np.float32)
    np.testing.assert_array_equal(built(x), np.sort(x, 1))


def test_a_function_runs_in_every_step_of_a_loop(tmp_path: Path) -> None:
    """Sums over rows of what is done to lines of 8, which lie in the loop over rows."""

    @te.algorithm("x: i32[M, (N, 8)] -> y: i32[M, 8]")
    def program(x: Any, y: Any) -> None:
        i, n, k = te.axes(i="M", n="N", k=8)
        v = te.func("v")
        v[i, n, k] = butterfly(x[i, (n, k)], along=k, sign=1)
        y[i, k] = te.sum(v[i, n, k] * v[i, n, k], over=n)

    place = "place: {y: {at: tile, loop: {n: STEP}}, v: {at: y.n}}"
    schedule = f"  - {{name: k, writes: [y], warps: 1, grid: {{i: 1}}, whole: {{k: 8}}, {place}}}\n"
    built = bundle(program, schedule.replace("STEP", "1"), tmp_path)
    x = RNG.integers(-99, 99, (3, 8 * 5), dtype=np.int32)
    np.testing.assert_array_equal(built(x), te.reference(program)(x=x)["y"])
    (variant,) = load_schedule(kernels(schedule.replace("STEP", "4"), "program", "sm_80")).variants
    with pytest.raises(LinesNotWhole, match="takes one line at a time, and the tile has 4") as caught:
        plan_variant(program.bind(), variant, TARGETS["sm_80"])
    assert caught.value.hint == "tiles of one point along n"
