"""Which products lag in a group, when its stages are read, and what a thread keeps for that."""

from __future__ import annotations

import pytest

from tests.tile.overlapped import ATTENTION, schedule
from texpr.compile import load_algorithm
from texpr.plan.build import plan_variant
from texpr.plan.checks import nodes_of
from texpr.plan.errors import RegistersNeeded
from texpr.plan.ir import Group, KernelPlan, Reading, Stage
from texpr.plan.registers import most_tiles
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


def planned(text: str) -> KernelPlan:
    record = load_schedule(text, "overlapped.yaml").variants[0]
    (kernel,) = plan_variant(load_algorithm(ATTENTION).bind({"T": "f16"}), record, TARGETS["sm_90a"]).kernels
    return kernel


def stages(kernel: KernelPlan) -> dict[str, Stage]:
    return {node.name: node for node in nodes_of(kernel.nodes) if isinstance(node, Stage)}


def test_keys_are_read_by_what_leads_and_values_by_what_lags() -> None:
    kernel = planned(schedule("fetched by a role"))
    (group,) = [node for node in nodes_of(kernel.nodes) if isinstance(node, Group)]
    assert [func.name for func in group.leading] == ["s"]
    assert [func.name for func in group.lagging] == ["u"]
    found = {name: stage.reading for name, stage in stages(kernel).items()}
    assert found == {"q": Reading.STEP, "k": Reading.LEAD, "v": Reading.LAG}


def test_copies_of_what_lags_run_a_step_less_ahead() -> None:
    found = {name: (stage.depth, stage.ahead) for name, stage in stages(planned(schedule("both"))).items()}
    assert (found["k"], found["v"]) == ((2, 1), (3, 1))


def test_without_overlap_nothing_lags() -> None:
    kernel = planned(schedule("fetched by a role", overlap=False))
    assert {stage.reading for stage in stages(kernel).values()} == {Reading.STEP}


def test_a_thread_keeps_the_operand_of_the_step_before() -> None:
    with_it, without = (planned(schedule("fetched by a role", overlap=overlap)) for overlap in (True, False))
    more = {tile.what: tile.registers for tile in most_tiles(with_it)}
    assert more.pop("operand A of u, of the step before") == 64 * 64 // 2 // 128
    assert more == {tile.what: tile.registers for tile in most_tiles(without)}


def test_an_operand_too_many_is_refused() -> None:
    plain, overlapped = (
        schedule("fetched by a role", overlap=overlap, keys=256).replace("registers: 232", "registers: 208")
        for overlap in (False, True)
    )
    planned(plain)
    with pytest.raises(RegistersNeeded) as caught:
        planned(overlapped)
    assert "operand A of u, of the step before    64 registers" in caught.value.excerpt


def test_boxes_are_zeroed_only_for_the_product_that_their_guard_is_of() -> None:
    """Scores of keys that are not in use are not looked at; values are multiplied by zeros, and must be finite."""
    found = stages(planned(schedule("fetched by a role")))
    assert [len(found[name].where) for name in "kv"] == [0, 1]
    assert [len(stage.where) for name, stage in stages(planned(schedule("cp.async"))).items() if name in "kv"] == [1, 1]
