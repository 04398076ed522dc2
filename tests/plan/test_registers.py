"""The registers that tiles need at least: what is alive at once, and what is refused before it is compiled."""

from __future__ import annotations

from typing import Any

import pytest

import texpr as te
from texpr.plan.build import plan_variant
from texpr.plan.errors import RegistersNeeded
from texpr.plan.ir import KernelPlan
from texpr.plan.registers import most_tiles, registers_of_thread
from texpr.schedule import kernel, mma, place, stage, variant
from texpr.targets import TARGETS


@te.algorithm("x: f16[M, K], w: f16[K, N], v: f16[K, N] -> y: f16[M, N]")
def gated(x: Any, w: Any, v: Any, y: Any) -> None:
    i, j, k, l = te.axes(i="M", j="N", k="K", l="K")  # noqa: E741
    gate, up = te.funcs("gate up")
    gate[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    up[i, j] = te.sum(x[i, l] * v[l, j], over=l)
    y[i, j] = gate[i, j] * up[i, j]


@te.algorithm("x: f16[M, K], w: f16[K, F], v: f16[F, N] -> y: f16[M, N]")
def chained(x: Any, w: Any, v: Any, y: Any) -> None:
    i, j, k, f = te.axes(i="M", j="N", k="K", f="F")
    hidden, acc = te.funcs("hidden acc")
    hidden[i, f] = te.sum(x[i, k] * w[k, f], over=k)
    acc[i, j] = te.sum(te.relu(hidden[i, f]).to("f16") * v[f, j], over=f)
    y[i, j] = acc[i, j]


def planned(algorithm: Any, warps: int = 4, target: str = "sm_80", **directives: Any) -> KernelPlan:
    record = kernel("both", writes=["y"], warps=warps, **directives)
    one = variant("any", target=target, kernels=[record])
    return plan_variant(algorithm.bind({}), one, TARGETS[target]).kernels[0]


def products(i: int, j: int, warps: int = 4) -> KernelPlan:
    places = {
        "gate": place(at="tile", loop={"k": 32}, mma=mma("mma")),
        "up": place(at="tile", loop={"l": 32}, mma=mma("mma")),
    }
    return planned(gated, warps, grid={"i": i, "j": j}, place=places)


def test_both_accumulators_are_alive_at_once() -> None:
    assert [(tile.what, tile.registers) for tile in most_tiles(products(128, 64))] == [
        ("accumulator of gate", 64),
        ("accumulator of up", 64),
    ]


def test_more_than_a_thread_has_is_refused_with_its_parts() -> None:
    with pytest.raises(RegistersNeeded) as caught:
        products(128, 128)
    assert caught.value.message.endswith("keeps 256 registers of tiles at once; with 4 warps a thread has 255")
    assert "accumulator of gate   128 registers\naccumulator of up     128 registers" in caught.value.excerpt


def test_many_warps_leave_fewer_registers_to_each() -> None:
    assert [registers_of_thread(products(64, 64, warps)) for warps in (8, 16)] == [255, 128]
    with pytest.raises(RegistersNeeded, match="keeps 256 registers of tiles at once; with 16 warps a thread has 128"):
        products(512, 128, 16)


def test_an_inner_product_counts_while_the_outer_one_is_carried_and_its_operand_takes_its_place() -> None:
    places = {
        "hidden": place(at="acc.f", loop={"k": 32}, mma=mma("wgmma", rows="i")),
        "acc": place(at="tile", loop={"f": 64}, mma=mma("wgmma", rows="i")),
    }
    stages = {
        "x": stage(at="hidden.k", in_="shared"),
        "w": stage(at="hidden.k", in_="shared"),
        "v": stage(at="acc.f", in_="shared"),
    }
    plan = planned(chained, 4, "sm_90a", grid={"i": 64, "j": 128}, place=places, stage=stages)
    assert {tile.what: tile.registers for tile in most_tiles(plan)} == {
        "accumulator of acc": 64,
        "accumulator of hidden": 32,
    }
