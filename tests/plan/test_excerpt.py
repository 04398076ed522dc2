"""What an error of the plan shows besides its message."""

from __future__ import annotations

import pytest

from tests.errors.plan.algorithms import ALGORITHMS
from texpr.plan.build import plan_variant
from texpr.plan.errors import PlanError
from texpr.schedule import kernel, load_schedule, place, schedule, stage, variant
from texpr.targets import TARGETS


def refused(algorithm, record, target="sm_80"):
    definition = ALGORITHMS[algorithm]
    (only,) = record.variants
    with pytest.raises(PlanError) as caught:
        plan_variant(definition.bind(definition.bindings()[0]), only, TARGETS[target])
    return caught.value


NESTED = """texpr: 1
algorithm: softmax
variants:
- name: rows
  target: sm_80
  kernels:
  - name: softmax
    writes: [y]
    grid: {i: 4}
    place:
      m: {at: tile, loop: {j: 64}}
      total: {at: tile, loop: {j: 64}}
      y: {at: tile, loop: {j: 64}}
    stage:
      x: {at: y.q, in: shared, copy: async, depth: 2}
"""


def test_the_loop_nest_is_drawn_with_the_node_marked(tmp_path):
    path = tmp_path / "softmax.yaml"
    path.write_text(NESTED)
    error = refused("softmax", load_schedule(path))
    assert error.kernel == "softmax"
    assert str(error.at) == f"{path}:15  (variant rows, sm_80)"
    assert error.excerpt.splitlines() == [
        "15 |       x: {at: y.q, in: shared, copy: async, depth: 2}",
        "kernel softmax   writes y",
        "tile i:4",
        "| | stage x at y.q in shared   async, depth 2   <---",
        "| m  at tile  for j by 64",
        "| total  at tile  for j by 64",
        "| y  at tile  for j by 64",
    ]


def test_a_file_that_is_gone_leaves_only_the_nest():
    error = refused("softmax", load_schedule(NESTED, "gone.yaml"))
    assert error.excerpt.splitlines()[0] == "kernel softmax   writes y"


def test_a_schedule_in_python_shows_the_line_of_the_call():
    record = schedule(
        "softmax",
        variant("rows", target="sm_80", kernels=[
            kernel("softmax", writes=["y"], grid={"i": 4, "j": 64}, place={
                "m": place(at="tile", loop={"q": 64}),
            }),
        ]),
    )  # fmt: skip
    error = refused("softmax", record)
    assert 'kernel("softmax", writes=["y"]' in error.excerpt.splitlines()[0]
    assert "| m  at tile  for q by 64   <---" in error.excerpt.splitlines()


def test_an_error_outside_of_any_kernel_shows_its_line_alone(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(
        "texpr: 1\nalgorithm: two_outputs\nvariants:\n- name: any\n  target: sm_80\n  kernels:\n"
        "  - {name: y, writes: [y], grid: {i: 4, j: 64}}\n"
    )
    error = refused("two_outputs", load_schedule(path))
    assert error.kernel == ""
    assert error.excerpt == "4 | - name: any"


def test_the_buffers_of_a_kernel_that_is_too_large_are_listed_before_its_nest():
    record = schedule(
        "linear",
        variant("wide", target="sm_86", when="aligned(x, w, 16)", kernels=[
            kernel(
                "linear", writes=["y"], grid={"i": 128, "j": 256}, warps=8,
                place={"acc": place(at="tile", loop={"k": 64})},
                stage={name: stage(at="acc.k", in_="shared", copy="async", depth=4) for name in "xw"},
            ),
        ]),
    )  # fmt: skip
    lines = refused("linear", record, "sm_86").excerpt.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["w", "131072"], ["x", "65536"]]
    assert lines[3] == "kernel linear   writes y   <---"
