"""Schedules that look like mistakes and are none, next to ones that are: the rules refuse no more than they must."""

from __future__ import annotations

from typing import Any

import pytest

import texpr as te
from texpr.lang.ir import Op, OpName, Reduce
from texpr.plan.build import plan_variant
from texpr.plan.errors import AliasNotElementwise, PlaceAfterUse, ReducedInGrid
from texpr.plan.split import split_reductions
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


@te.algorithm("x: f32[M, N] -> y: f32[M, N] alias(x)")
def softmax_in_place(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    m, total = te.funcs("m total")
    m[i] = te.max(x[i, j], over=j)
    total[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    y[i, j] = te.exp(x[i, j] - m[i]) / total[i]


@te.algorithm("x: f32[M, N] -> y: f32[M, N] alias(x), z: f32[M]")
def doubled_and_summed(x: Any, y: Any, z: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 2
    z[i] = te.sum(x[i, j], over=j)


@te.algorithm("x: f32[M, N] -> best: f32[N], at: i32[N]")
def argmax_columns(x: Any, best: Any, at: Any) -> None:
    i, j = te.axes(i="M", j="N")
    best[j], at[j] = te.argmax(x[i, j], over=i)


def variant_of(definition, kernels, when=""):
    guard = f"  when: {when}\n" if when else ""
    head = f"texpr: 1\nalgorithm: {definition.name}\nvariants:\n- name: any\n  target: sm_80\n{guard}  kernels:\n"
    (variant,) = load_schedule(head + kernels, "rules.yaml").variants
    return variant


def plan(definition, kernels, when=""):
    return plan_variant(definition.bind(), variant_of(definition, kernels, when), TARGETS["sm_80"])


LOOPS = "place: {m: {loop: {j: 64}}, total: {loop: {j: 64}}, y: {loop: {j: 64}}}"


def test_a_row_may_be_overwritten_by_the_program_that_alone_reads_it():
    plan(softmax_in_place, f"  - {{name: rows, writes: [y], grid: {{i: 4}}, {LOOPS}}}\n")


def test_a_later_kernel_may_not_read_what_is_overwritten():
    first = "  - {name: y, writes: [y], grid: {i: 4, j: 64}}\n"
    last = "  - {name: z, writes: [z], grid: {i: 4}, place: {z: {loop: {j: 64}}}}\n"
    plan(doubled_and_summed, last + first)
    with pytest.raises(AliasNotElementwise):
        plan(doubled_and_summed, first + last)


def test_a_grid_of_one_tile_may_be_reduced_over():
    """One tile of the grid that is proved to cover the axis is as good as ``whole``."""
    kernel = "  - {name: rows, writes: [y], grid: {i: 4, j: 1024}}\n"
    plan(softmax_in_place, kernel, when="N <= 1024")
    with pytest.raises(ReducedInGrid):
        plan(softmax_in_place, kernel)


def test_a_reduction_may_be_computed_in_the_loop_of_its_only_reader():
    inside = "place: {m: {loop: {j: 64}}, total: {at: y.j, loop: {j: 64}}, y: {loop: {j: 64}}}"
    plan(softmax_in_place, f"  - {{name: rows, writes: [y], grid: {{i: 4}}, {inside}}}\n")


def test_but_not_if_something_outside_reads_it_too():
    inside = "place: {m: {at: y.j, loop: {j: 64}}, total: {loop: {j: 64}}, y: {loop: {j: 64}}}"
    with pytest.raises(PlaceAfterUse):
        plan(softmax_in_place, f"  - {{name: rows, writes: [y], grid: {{i: 4}}, {inside}}}\n")


def test_a_piece_without_points_is_no_candidate_for_a_position():
    """The position of no points is -1, which must not win a tie against a real one."""
    pieces = (
        "  - name: pieces\n    writes: [best.part, at.part]\n    grid: {j: 64, i.part: 1}\n"
        "    split_reduction: {of: [best], over: i, parts: 8}\n    place: {best.part: {loop: {i: 32}}}\n"
        "  - {name: last, writes: [best, at], grid: {j: 32}, whole: {i.part: 8}}\n"
    )
    split = split_reductions(argmax_columns.bind(), variant_of(argmax_columns, pieces))
    combined = split.definition(next(f for d in split.defs for f in d.funcs if f.name == "best")).top
    assert isinstance(combined, Reduce) and isinstance(combined.where, Op) and combined.where.name is OpName.GE
