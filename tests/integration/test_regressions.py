"""Programs that once came out wrong, crashed the compiler or were refused by Triton: each is right now, or refused in
words. Found by ``random_programs``; one test per cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.check import Effort, Selection, check_bundle
from texpr.compile import chosen_targets, package_of
from texpr.errors import TExprError
from texpr.lang.algorithm import AlgorithmDef
from texpr.plan.build import plan_variant
from texpr.plan.default import default_schedule
from texpr.plan.show import show_variant
from texpr.schedule import load_schedule
from texpr.schedule.records import Schedule
from texpr.targets import TARGETS

_TARGET = "sm_80"


def schedule(kernels: str, when: str = "", rest: str = "", algorithm: str = "program") -> Schedule:
    """One variant with these kernels (YAML, a list item each) under a guard, and one with ``rest`` for other calls."""
    text = f"texpr: 1\nalgorithm: {algorithm}\nvariants:\n"
    for name, guard, part in (("only", when, kernels), ("rest", "", rest)):
        if part:
            lines = "".join(f"  {line}\n" for line in part.strip("\n").splitlines())
            text += f"- name: {name}\n  target: {_TARGET}\n" + (f"  when: {guard}\n" if guard else "")
            text += f"  kernels:\n{lines}"
    return load_schedule(text, "program.yaml")


def check(program: AlgorithmDef, record: Schedule, folder: Path, calls: int = 4) -> None:
    """Build and run the program at sizes around its tiles; fail on anything but right results."""
    target = record.variants[0].target[0]
    package = package_of(program, record, chosen_targets(record, [target]), {}, {})
    write_bundle(package, folder / "bundle", BuildOptions())
    report = check_bundle(folder / "bundle", program, Selection((target,)), Effort(calls=calls, work=40_000))
    failures = [failure for row in report.rows for failure in row.failures]
    assert not failures, "\n".join(f"{failure.call}: {failure.text}" for failure in failures)


def test_a_window_starts_at_the_tile_whatever_covers_the_axis(tmp_path: Path) -> None:
    @te.algorithm("x: f32[M, 16] -> y: f32[M, 16]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j=16)
        y[i, j] = x.clamped()[i, j + 1] + x.clamped()[i, j]

    kernels = "- {name: k, writes: [y], grid: {i: 4}, whole: {j: 16}, stage: {x: {at: tile, in: shared}}}"
    check(program, schedule(kernels), tmp_path)


def test_a_stage_of_one_point_has_a_buffer(tmp_path: Path) -> None:
    @te.algorithm("x: f32[M] -> y: f32[M]")
    def program(x: Any, y: Any) -> None:
        (i,) = te.axes(i="M")
        y[i] = x[i] * 2.0

    kernels = "- {name: k, writes: [y], grid: {i: 1}, stage: {x: {at: tile, in: shared}}}"
    check(program, schedule(kernels), tmp_path)


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f32[M, N]")
def product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k] * w[k, j], over=k)


def _product(place: str, grid: str = "i: 8, j: 8") -> Schedule:
    return schedule(f"- {{name: k, writes: [y], grid: {{{grid}}}, place: {{y: {{{place}}}}}}}", algorithm="product")


def test_a_contraction_with_a_short_step_is_summed_element_by_element(tmp_path: Path) -> None:
    check(product, _product("loop: {k: 2}"), tmp_path)


def test_fma_over_a_short_step_is_refused() -> None:
    with pytest.raises(TExprError, match="f32 fma needs"):
        package_of(product, _product("loop: {k: 2}, mma: fma"), [_TARGET], {}, {})


def test_a_step_that_no_register_file_holds_is_refused() -> None:
    with pytest.raises(TExprError, match="a step of y"):
        package_of(product, _product("loop: {k: 16384}"), [_TARGET], {}, {})


def test_boundaries_hold_for_the_axis_that_was_split(tmp_path: Path) -> None:
    @te.algorithm("x: f32[M] -> y: f32[M]")
    def program(x: Any, y: Any) -> None:
        (i,) = te.axes(i="M")
        f = te.func("f")
        f[i] = x[i] * x[i]
        y[i] = f.clamped()[i + 3] - f.padded(1.0)[i - 2]

    kernels = "- {name: k, writes: [y], split: {i: {into: [io, ii], by: 8}}, grid: {io: 2, ii: 16}}"
    check(program, schedule(kernels), tmp_path)


def test_dead_lanes_of_a_loop_read_inside_the_window(tmp_path: Path) -> None:
    @te.algorithm("x: f32[5, N] -> y: f32[5, N]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i=5, j="N")
        f = te.func("f")
        f[i, j] = x[i, j] + 1.0
        y[i, j] = f[i, j]

    kernels = "- {name: k, writes: [y], grid: {j: 16}, place: {y: {loop: {i: 8}}, f: {at: tile, in: shared}}}"
    check(program, schedule(kernels), tmp_path)


def test_the_contiguous_axis_of_an_operand_stays_contiguous_in_its_stage(tmp_path: Path) -> None:
    @te.algorithm("x: f16[2, K, M], w: f16[K, N] -> y: f32[M, 2, N]")
    def program(x: Any, w: Any, y: Any) -> None:
        i, b, j, k = te.axes(i="M", b=2, j="N", k="K")
        y[i, b, j] = te.sum(x[b, k, i] * w[k, j], over=k)

    kernels = """
- name: k
  writes: [y]
  grid: {i: 16, b: 2, j: 16}
  place: {y: {loop: {k: 16}}}
  stage: {x: {at: y.k, in: shared, copy: async}}
"""
    rest = "- {name: k, writes: [y], grid: {i: 16, b: 2, j: 16}, place: {y: {loop: {k: 16}}}}"
    check(program, schedule(kernels, "M % 8 == 0 and aligned(x, 16)", rest), tmp_path)


def test_a_row_reduced_to_one_number_goes_with_any_tile(tmp_path: Path) -> None:
    @te.algorithm("x: f32[M, K], z: f32[M, N] -> y: f32[M, N]")
    def program(x: Any, z: Any, y: Any) -> None:
        i, j, k = te.axes(i="M", j="N", k="K")
        y[i, j] = te.min(x[i, k], over=k) + z[i, j]

    kernels = "- {name: k, writes: [y], grid: {i: 1, j: 16}, place: {y.r1: {loop: {k: 16}}}}"
    check(program, schedule(kernels), tmp_path)


def test_pieces_that_a_stage_cannot_be_cut_into_are_refused() -> None:
    @te.algorithm("x: f32[M, N] -> y: f32[M, N]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i, j] = x[i, j] * 2.0

    kernels = """
- name: k
  writes: [y]
  grid: {i: 4, j: 8}
  place: {y: {by: {j: 1}}}
  stage: {x: {at: tile, in: shared}}
"""
    with pytest.raises(TExprError, match="cannot be cut"):
        package_of(program, schedule(kernels), [_TARGET], {}, {})


def test_columns_of_a_contraction_may_be_stored_one_by_one(tmp_path: Path) -> None:
    check(product, _product("loop: {k: 16}, by: {j: 1}", "i: 16, j: 2"), tmp_path)


def test_a_small_argmin_is_written_out_in_linear_time() -> None:
    @te.algorithm("x: f32[M, 64] -> v: f32[M], y: i32[M]")
    def program(x: Any, v: Any, y: Any) -> None:
        i, j = te.axes(i="M", j=64)
        v[i], y[i] = te.argmin(x[i, j], over=j)

    record = schedule("- {name: k, writes: [v, y], grid: {i: 32}}")
    algorithm = program.bind()
    text = show_variant(plan_variant(algorithm, record.variants[0], TARGETS[_TARGET]), algorithm)
    assert "64 reads" in text
    package = package_of(program, record, [_TARGET], {}, {})
    assert len(package.kernels[0].text) < 100_000


def test_a_plan_over_split_or_fused_axes_can_be_shown() -> None:
    @te.algorithm("x: f32[M, N] -> y: f32[(M, N)]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[(i, j)] = x[i, j]

    for cut in ("fuse: {ij: [i, j]}, grid: {ij: 32}", "split: {i: {into: [a, b], by: 4}}, grid: {a: 2, b: 4, j: 8}"):
        record = schedule(f"- {{name: k, writes: [y], {cut}}}")
        algorithm = program.bind()
        assert "store y" in show_variant(plan_variant(algorithm, record.variants[0], TARGETS[_TARGET]), algorithm)


@pytest.mark.parametrize("view", ["clamped", "padded", "mirrored", "wrapped"])
def test_a_func_kept_in_a_window_has_the_boundary_of_its_reads(view: str, tmp_path: Path) -> None:
    @te.algorithm("x: f32[M, N] -> y: f32[M, N]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        f = te.func("f")
        f[i, j] = x[i, j] * 2.0
        read = f.padded(1.0) if view == "padded" else getattr(f, view)()
        y[i, j] = read[i + 1, j] + read[i - 2, j] * 3.0

    kernels = "- {name: k, writes: [y], grid: {i: 8, j: 4}, place: {f: {at: tile, in: shared}}}"
    check(program, schedule(kernels), tmp_path)


def test_what_a_window_reads_follows_its_points_to_the_edge(tmp_path: Path) -> None:
    @te.algorithm("x: f32[M] -> y: f32[M]")
    def program(x: Any, y: Any) -> None:
        (i,) = te.axes(i="M")
        f, g = te.funcs("f g")
        f[i] = x.padded(0.5)[i + 1] - x.padded(0.5)[i]
        g[i] = f.clamped()[i + 3] * 2.0
        y[i] = g.clamped()[i + 7] + g.clamped()[i + 8]

    place = "{f: {at: tile, in: shared}, g: {at: tile, in: shared}}"
    kernels = f"- {{name: k, writes: [y], grid: {{i: 4}}, place: {place}, stage: {{x: {{at: tile, in: shared}}}}}}"
    check(program, schedule(kernels), tmp_path)


def test_a_window_may_be_computed_in_a_loop(tmp_path: Path) -> None:
    @te.algorithm("x: f32[M, N] -> y: f32[M, N]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        f = te.func("f")
        f[i, j] = x[i, j] * 2.0
        y[i, j] = f.padded(1.0)[i + 1, j] + f.padded(1.0)[i - 1, j]

    kernels = "- {name: k, writes: [y], grid: {j: 8}, place: {y: {loop: {i: 4}}, f: {at: y.i, in: shared}}}"
    check(program, schedule(kernels), tmp_path)


def test_a_window_of_an_absent_tensor_holds_its_default(tmp_path: Path) -> None:
    @te.algorithm("x: f32[M], b: f32[M]? -> y: f32[M]")
    def program(x: Any, b: Any, y: Any) -> None:
        (i,) = te.axes(i="M")
        y[i] = x[i] + b.padded(1.0).get(i - 1, 3.0) - b.padded(1.0).get(i + 1, 3.0) * 2.0

    kernels = "- {name: k, writes: [y], grid: {i: 16}, stage: {b: {at: tile, in: shared}}}"
    check(program, schedule(kernels), tmp_path, calls=8)


@pytest.mark.parametrize("view", ["clamped", "mirrored", "wrapped"])
@pytest.mark.parametrize("held", [False, True], ids=["inlined", "window"])
def test_programs_of_an_empty_axis_read_nothing_of_it(view: str, held: bool, tmp_path: Path) -> None:
    """One tile covers the axis whatever its extent, so its programs run where it has no points."""

    @te.algorithm("x: f32[N, M] -> y: f32[M]", require=["N <= 8"])
    def program(x: Any, y: Any) -> None:
        i, k = te.axes(i="N", k="M")
        f = te.func("f")
        f[i, k] = x[i, k] * 2.0
        y[k] = te.sum(getattr(f, view)()[i - 2, k] + getattr(x, view)()[i + 1, k], over=i)

    place = ", place: {f: {at: tile, in: shared}}" if held else ""
    built = bundle(program, f"  - {{name: k, writes: [y], grid: {{k: 4}}, whole: {{i: 8}}{place}}}\n", tmp_path)
    np.testing.assert_array_equal(built(np.zeros((0, 6), np.float32)), np.zeros(6, np.float32))
    assert worst(built, program, {"x": np.arange(18, dtype=np.float32).reshape(3, 6)}) <= 1


@pytest.mark.parametrize("view", ["clamped", "mirrored", "wrapped"])
@pytest.mark.parametrize("held", [False, True], ids=["inlined", "window"])
def test_a_guard_may_keep_reads_from_an_empty_source(view: str, held: bool, tmp_path: Path) -> None:
    @te.algorithm("x: f32[N], z: f32[M] -> y: f32[M]")
    def program(x: Any, z: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        f = te.func("f")
        f[j] = x[j] * 2.0
        near = getattr(f, view)()[i - 2] + getattr(x, view)()[i + 1]
        y[i] = te.where(te.dim("N") > 0, near, 7.0) + z[i]

    place = ", place: {f: {at: tile, in: shared}}" if held else ""
    built = bundle(program, f"  - {{name: k, writes: [y], grid: {{i: 4}}{place}}}\n", tmp_path)
    z = np.ones(5, np.float32)
    np.testing.assert_array_equal(built(np.zeros(0, np.float32), z), np.full(5, 8.0, np.float32))
    assert worst(built, program, {"x": np.arange(3, dtype=np.float32), "z": z}) <= 1


def test_a_stencil_over_its_own_axes_needs_no_test_for_an_empty_source() -> None:
    @te.algorithm("x: f32[M, N] -> y: f32[M, N]")
    def program(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i, j] = x.clamped()[i + 1, j] + x.clamped()[i, j - 1]

    for kernel in ("grid: {i: 4, j: 8}", "grid: {j: 8}, place: {y: {loop: {i: 4}}}"):
        package = package_of(program, schedule(f"- {{name: k, writes: [y], {kernel}}}"), [_TARGET], {}, {})
        assert "M > 0" not in package.kernels[0].text and "N > 0" not in package.kernels[0].text


def test_rows_reduced_from_a_contraction_may_go_through_shared_memory(tmp_path: Path) -> None:
    @te.algorithm("x: f16[M, K], w: f16[K, 32] -> y: f32[M]")
    def program(x: Any, w: Any, y: Any) -> None:
        i, j, k = te.axes(i="M", j=32, k="K")
        f = te.func("f")
        f[i, j] = te.sum(x[i, k] * w[k, j], over=k)
        y[i] = te.max(f[i, j], over=j) * 2.0

    place = "{f: {loop: {k: 16}}, y: {via: shared}}"
    check(program, schedule(f"- {{name: k, writes: [y], grid: {{i: 32}}, whole: {{j: 32}}, place: {place}}}"), tmp_path)


@te.algorithm("x: f32[M, N], z: f32[M] -> y: f32[N, M]")
def transposed(x: Any, z: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[j, i] = x[i, j] * 2.0 + z[i]


@te.algorithm("x: f32[M, N], z: f32[M] -> y: f32[N, M]")
def repeated(x: Any, z: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[j, i] = z[i]


@pytest.mark.parametrize("program", [transposed, repeated], ids=["tile", "column"])
@pytest.mark.parametrize("by", ["", ", by: {i: 8}"], ids=["whole", "pieces"])
def test_a_mapped_tile_may_go_through_shared_memory(program: AlgorithmDef, by: str, tmp_path: Path) -> None:
    kernel = "grid: {i: 32, j: 32}, map: {i: {warps: 4}, j: {lanes: 32}}"
    record = f"- {{name: k, writes: [y], {kernel}, place: {{y: {{via: shared{by}}}}}}}"
    wanted = schedule(record, algorithm=program.name)
    assert "y_shared.store" in package_of(program, wanted, [_TARGET], {}, {}).kernels[0].text
    check(program, wanted, tmp_path)


@pytest.mark.parametrize("loop", ["a: 2, b: 4", "a: 2, b: 8"])
def test_a_stage_smaller_than_a_row_of_banks_cannot_conflict(loop: str, tmp_path: Path) -> None:
    """Triton aborts when it counts the conflicts of such a tile among several."""

    @te.algorithm("x: f32[M, A, B], u: f32[A, B] -> y: f32[M]")
    def program(x: Any, u: Any, y: Any) -> None:
        i, a, b = te.axes(i="M", a="A", b="B")
        y[i] = te.sum(x[i, a, b] * u[a, b], over=(a, b))

    plain = f"- {{name: k, writes: [y], grid: {{i: 4}}, place: {{y: {{loop: {{{loop}}}}}}}}}"
    staged = plain[:-1] + ", stage: {u: {at: y.b, in: shared, depth: 2}}}"
    check(program, schedule(staged, "B % 4 == 0 and aligned(x, u, 16)", plain), tmp_path)


@pytest.mark.parametrize("copy", ["sync", "async"])
@pytest.mark.parametrize("moved", ["i, j + 1", "i + 1, j + 1"], ids=["row", "point"])
def test_a_staged_tile_repeats_what_all_points_along_an_axis_read(moved: str, copy: str, tmp_path: Path) -> None:
    """Of a tensor with one element along an axis, a clamped read has the same index everywhere."""
    shape = "1, 1" if moved == "i + 1, j + 1" else "M, 1"

    @te.algorithm(f"x: f32[{shape}], z: f32[M] -> y: f32[M, 1]")
    def program(x: Any, z: Any, y: Any) -> None:
        i, j = te.axes(i="M", j=1)
        y[i, j] = (x.clamped()[i, j + 1] if shape == "M, 1" else x.clamped()[i + 1, j + 1]) * z[i]

    kernel = "whole: {j: 2}, place: {y: {loop: {i: 32}}}"
    staged = f"- {{name: k, writes: [y], {kernel}, stage: {{x: {{at: y.i, in: shared, copy: {copy}, depth: 3}}}}}}"
    check(program, schedule(staged), tmp_path)


def test_the_default_schedule_stores_that_part_of_a_tuple_which_is_read(tmp_path: Path) -> None:
    """It stored the first part again and again."""

    @te.algorithm("a: f16[M, K], b: f16[M, N] -> y: f32[K, N]")
    def program(a: Any, b: Any, y: Any) -> None:
        i, j, m = te.axes(i="K", j="N", m="M")
        f, g = te.funcs("f g")
        both = te.monoid(lambda p, q: (p[0] * q[0], p[1] + q[1]), identity=(1.0, 0.0), commutative=True)
        f[i, j] = te.sum(a[m, i] * b[m, j], over=m)
        g[i] = te.reduce(both, (te.tanh(f[i, j]), te.sigmoid(f[i, j])), over=j)[1]
        y[i, j] = g[i] * 2.0

    check(program, default_schedule(program, [_TARGET]), tmp_path)


def test_a_window_over_part_of_a_fused_axis_is_refused_in_words() -> None:
    @te.algorithm("x: f32[M, 16] -> y: f32[M, 16, 2]")
    def program(x: Any, y: Any) -> None:
        i, j, l = te.axes(i="M", j=16, l=2)  # noqa: E741
        f = te.func("f")
        f[i, j] = x[i, j] * 2.0
        y[i, j, l] = f[i, j] + 1.0

    kernels = "- {name: k, writes: [y], fuse: {il: [i, l]}, grid: {il: 8}, place: {y: {loop: {j: 4}}, "
    kernels += "f: {at: tile, in: shared}}}"
    with pytest.raises(TExprError, match="an index along il of values that are kept without il"):
        package_of(program, schedule(kernels), [_TARGET], {}, {})
