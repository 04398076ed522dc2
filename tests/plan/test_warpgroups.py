"""What the plan decides around a warpgroup's matrix instruction: where operands are read, and what is in flight."""

from __future__ import annotations

from typing import Any

import pytest

import texpr as te
from texpr.plan.build import plan_variant
from texpr.plan.errors import NoInstruction
from texpr.plan.ir import Dot, KernelPlan, Reduction, Stage
from texpr.schedule import kernel, mma, place, stage, variant
from texpr.schedule.records import Memory
from texpr.targets import TARGETS


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f16[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j]


@te.algorithm("x: f16[M, K], w: f16[K, N], n: i32[1] -> y: f16[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def cut(x: Any, w: Any, n: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k, where=k < n[0])
    y[i, j] = acc[i, j]


def planned(algorithm: Any, stages: dict[str, Any], warps: int = 4, **how: Any) -> KernelPlan:
    record = kernel(
        "product",
        writes=["y"],
        grid={"i": 64, "j": 64},
        warps=warps,
        place={"acc": place(at="tile", loop={"k": 32}, mma=mma("wgmma", rows="i", cols="j", **how))},
        stage={name: stage(at="acc.k", in_="shared", **options) for name, options in stages.items()},
    )
    one = variant("any", target="sm_90a", when="aligned(x, w, 16)", kernels=[record])
    return plan_variant(algorithm.bind({}), one, TARGETS["sm_90a"]).kernels[0]


def found(plan: KernelPlan) -> tuple[Dot, dict[str, Stage]]:
    (node,) = (one for one in plan.body if isinstance(one, Reduction))
    assert node.dot is not None
    return node.dot, {one.name: one for one in node.body if isinstance(one, Stage)}


BOTH = ("x", "w")


@pytest.mark.parametrize(
    ("options", "in_flight", "ahead"),
    [
        ({"copy": "async", "depth": 4}, 1, 2),  # one step less ahead than the depth allows
        ({"copy": "async", "depth": 3}, 1, 1),
        ({"copy": "async", "depth": 2}, 0, 1),  # the tile that is being multiplied is the next to be copied
        ({"copy": "async", "depth": 4, "ahead": 3}, 0, 3),  # as the schedule says
        ({"copy": "async", "depth": 2, "ahead": 0}, 0, 0),
        ({"copy": "sync", "depth": 3}, 1, 1),
        ({}, 0, 0),
    ],
)
def test_a_step_is_in_flight_where_no_copy_overwrites_its_tiles(
    options: dict[str, Any], in_flight: int, ahead: int
) -> None:
    dot, stages = found(planned(product, dict.fromkeys(BOTH, options)))
    assert (dot.a_in, dot.in_flight) == (Memory.SHARED, in_flight)
    assert {one.ahead for one in stages.values()} == {ahead}


def test_registers_of_an_operand_allow_no_step_in_flight() -> None:
    dot, stages = found(planned(product, {name: {"copy": "async", "depth": 4} for name in BOTH}, a="registers"))
    assert (dot.a_in, dot.in_flight) == (Memory.REGISTERS, 0)
    assert not stages["x"].multiplied, "x is loaded, and may lie as it likes"
    assert [axis.name for axis in stages["w"].multiplied] == ["k"]


def test_a_guard_of_an_operand_becomes_its_copys() -> None:
    dot, stages = found(planned(cut, {"x": {}, "w": {}}))
    assert dot.a_in is Memory.SHARED
    assert all(len(one.where) == 1 for one in stages.values())


def test_an_asynchronous_copy_leaves_out_no_single_elements() -> None:
    """Along k one copy moves eight elements of x, and the guard may hold at some of them; of w it moves a row's."""
    dot, stages = found(planned(cut, {"x": {"copy": "async", "depth": 3}, "w": {"copy": "async", "depth": 3}}))
    assert dot.a_in is Memory.REGISTERS
    assert len(stages["w"].where) == 1
    with pytest.raises(NoInstruction, match="its copy cannot see to that"):
        planned(cut, {"x": {"copy": "async", "depth": 3}, "w": {"copy": "async", "depth": 3}}, a="shared")
