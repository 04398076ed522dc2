"""What the plan decides around a warpgroup's matrix instruction: where operands are read, and what is in flight."""

from __future__ import annotations

from typing import Any

import pytest

import texpr as te
from texpr.math.bounds import Facts
from texpr.math.expr import TRUE
from texpr.plan.build import plan_variant
from texpr.plan.errors import NoInstruction
from texpr.plan.ir import Dot, KernelPlan, Reduction, Stage, Unit
from texpr.plan.show import show_kernel
from texpr.schedule import kernel, mma, place, stage, variant
from texpr.schedule.words import Memory
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


def planned(
    algorithm: Any, stages: dict[str, Any], warps: int = 4, grid: Any = None, by: Any = None, **how: Any
) -> KernelPlan:
    how = {"op": "wgmma", "rows": "i", "cols": "j"} | how
    record = kernel(
        "product",
        writes=["y"],
        grid=grid or {"i": 64, "j": 64},
        warps=warps,
        place={"acc": place(at="tile", loop={"k": 32}, mma=mma(**how)), "y": place(at="tile", by=by or {})},
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


@pytest.mark.parametrize(("depth", "wanted", "ahead"), [(4, 2, 1), (5, 2, 2), (5, 3, 1), (3, 1, 1), (3, 0, 2)])
def test_as_many_steps_are_in_flight_as_asked(depth: int, wanted: int, ahead: int) -> None:
    copied = {name: {"copy": "async", "depth": depth} for name in BOTH}
    dot, stages = found(planned(product, copied, in_flight=wanted))
    assert dot.in_flight == wanted
    assert {one.ahead for one in stages.values()} == {ahead}


@pytest.mark.parametrize(
    ("options", "how", "why"),
    [
        ({"depth": 3}, {}, "need 4 tiles of x, which has depth 3"),
        ({"depth": 4, "ahead": 2}, {}, "need 4 tiles of x, which has depth 4 and runs 2 ahead"),
        ({"depth": 4}, {"a": "registers"}, "the registers of operand A are written again"),
    ],
)
def test_steps_in_flight_without_room_are_refused(options: dict[str, Any], how: dict[str, Any], why: str) -> None:
    with pytest.raises(NoInstruction, match=why):
        planned(product, {name: {"copy": "async"} | options for name in BOTH}, in_flight=2, **how)


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


STAGED = {name: {"copy": "async", "depth": 3} for name in BOTH}
OPEN = {"op": "auto", "rows": (), "cols": ()}


def test_auto_is_a_warpgroup_where_operands_are_staged_for_it() -> None:
    dot, stages = found(planned(product, STAGED, **OPEN))
    assert (dot.unit, dot.a_in, dot.in_flight) == (Unit.WGMMA, Memory.SHARED, 1)
    assert all([axis.name for axis in one.multiplied] == ["k"] for one in stages.values())


def test_auto_turns_the_product_round_where_only_columns_fill_a_warpgroup() -> None:
    dot, _ = found(planned(product, STAGED, grid={"i": 16, "j": 128}, **OPEN))
    assert (dot.unit, [axis.name for axis in dot.rows]) == (Unit.WGMMA, ["j"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"stages": {"x": {}}}, "operand B, w[k, j], is not staged"),
        ({"stages": {"w": {"copy": "async", "depth": 3}}}, "x[i, k] is not staged"),
        ({"warps": 2}, "groups of 4 warps; the program has 2"),
        ({"grid": {"i": 16, "j": 128}, "rows": "i"}, "the rows tile is 16"),
        ({"grid": {"i": 16, "j": 128}, "by": {"j": 64}}, "the rows tile is 16"),  # columns are cut, rows are not
    ],
)
def test_auto_says_why_it_is_no_warpgroup(options: dict[str, Any], why: str) -> None:
    plan = planned(product, **({"stages": STAGED} | OPEN | options))
    dot, _ = found(plan)
    assert dot.unit is Unit.MMA and why in dot.instead
    assert f"instead of wgmma: {dot.instead}" in show_kernel(plan, TRUE, Facts())


def test_an_accumulator_is_cut_where_it_is_if_warps_lie_along_rows() -> None:
    dot, _ = found(planned(product, STAGED, by={"j": 16}))
    assert dot.piece == 0
    dot, _ = found(planned(product, STAGED, warps=8, by={"j": 16}))  # two groups, 32 columns each
    assert dot.piece == 16
