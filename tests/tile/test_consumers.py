"""Several roles that read one tile: no statement of what they say to each other can be left out or doubled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.integration.test_boxes import product, stages
from tests.integration.test_roles import attend
from tests.tile.test_trace import PROTOCOL, changed, statements
from texpr.lang.algorithm import AlgorithmDef
from texpr.math.expr import const
from texpr.plan.build import plan_variant
from texpr.plan.resolve import variant_facts
from texpr.schedule import load_schedule
from texpr.targets import TARGETS
from texpr.tile.declarations import Barriers
from texpr.tile.ir import For, Statement, StoreShared, TileProgram, walk
from texpr.tile.program import lower_kernel
from texpr.tile.protocol import Arrive, CopyTensor, DotWait, Expect, WaitBarrier
from texpr.tile.sync import ProtocolError
from texpr.tile.trace import check_synchronisation


def lowered(definition: AlgorithmDef, writes: str, fetched: str, kernel: str, more: str = "") -> TileProgram:
    """The tile program of a kernel as its schedule says."""
    text = (
        f"texpr: 1\nalgorithm: {definition.name}\nvariants:\n- name: one\n  target: sm_90a\n"
        f"  when: aligned({fetched}, 16)\n{more}"
        f"  kernels:\n  - {{name: k, writes: [{writes}], {kernel}}}\n"
    )
    (variant,) = load_schedule(text, "one.yaml").variants
    algorithm, target = definition.bind({}), TARGETS["sm_90a"]
    (plan,) = plan_variant(algorithm, variant, target).kernels
    return lower_kernel(plan, "one", variant_facts(algorithm, variant, target), variant.when, ())


def divided() -> TileProgram:
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    place = "place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j, a: shared}}}"
    roles = "roles: {compute: {warps: 4, times: 2, split: i, runs: [y]}, load: {warps: 1, runs: [stage.x, stage.w]}}"
    return lowered(
        product, "y", "x, w", f"grid: {{i: 128, j: 32}}, persistent: true, {place}, stage: {{{entry}}}, {roles}",
    )  # fmt: skip


def zeroed() -> TileProgram:
    """One role zeroes what a guard leaves out of a tile that two multiply."""
    grid = "grid: {b: 1, i: 128}, whole: {d: 32, e: 32}, persistent: true"
    wgmma = "mma: {op: wgmma, rows: i, cols:"
    place = f"place: {{s: {{at: u.j, {wgmma} j}}}}, p: {{at: u.j}}, u: {{{wgmma} e, a: registers}}}}}}"
    online = "online: {funcs: [m, total, u], at: tile, loop: {j: 32}, trim: {j: split}}"
    entry = ", ".join([stages("tile", q="copy: tma"), stages("u.j", k="copy: tma, depth: 2", v="copy: tma, depth: 2")])
    runs = "[online, s, p, o]"
    roles = (
        f"roles: {{compute: {{warps: 4, times: 2, split: i, runs: {runs}}}, "
        "load: {warps: 1, runs: [stage.q, stage.k, stage.v]}}"
    )
    more = "  relax: [{rounding: p}]\n  assume: [finite(v)]\n"
    return lowered(attend, "o", "q, k, v", f"{grid}, {online}, {place}, stage: {{{entry}}}, {roles}", more)


def in_turn() -> TileProgram:
    entry = stages("y.k", x="copy: tma, depth: 3", w="copy: tma, depth: 3")
    place = "place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j, a: shared}}}"
    roles = "roles: {compute: {warps: 4, times: 2, runs: [y]}, load: {warps: 1, runs: [stage.x, stage.w]}}"
    return lowered(
        product, "y", "x, w", f"grid: {{i: 64, j: 32}}, persistent: true, {place}, stage: {{{entry}}}, {roles}",
    )  # fmt: skip


PROGRAMS: dict[str, Callable[[], TileProgram]] = {"divided": divided, "zeroed": zeroed, "in turn": in_turn}
parametrised = pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS.keys())


def broken(program: TileProgram) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        check_synchronisation(program)
    return caught.value


@parametrised
def test_what_is_emitted_is_right(make: Callable[[], TileProgram]) -> None:
    check_synchronisation(make())


@parametrised
def test_no_statement_can_be_left_out(make: Callable[[], TileProgram]) -> None:
    program = make()
    implied = told_by_another(program)
    for item in statements(program, PROTOCOL):
        if not any(item is one for one in implied):
            broken(changed(program, item))
    for item in implied:
        check_synchronisation(changed(program, item))


def told_by_another(program: TileProgram) -> list[Statement]:
    """Waits for boxes by a role that then waits for another one, which has waited for them and zeroed some."""
    found: list[Statement] = []

    def visit(item: Statement) -> None:
        if isinstance(item, For):
            waits = [one for one in item.body if isinstance(one, WaitBarrier)]
            zeroes = any(isinstance(one, StoreShared) for one in item.body)
            if any(one.barrier == "met" for one in waits) and not zeroes:
                found.extend(one for one in waits if one.barrier != "met")

    walk(program.body, visit)
    return found


@parametrised
def test_products_are_waited_for(make: Callable[[], TileProgram]) -> None:
    program = make()
    for item in statements(program, DotWait):
        assert isinstance(item, DotWait)
        broken(changed(program, item, dataclasses.replace(item, pending=item.pending + 1)))


@parametrised
def test_nothing_can_be_done_twice(make: Callable[[], TileProgram]) -> None:
    program = make()
    for item in statements(program, (Expect, Arrive, CopyTensor)):
        broken(changed(program, item, item, item))


@parametrised
def test_no_wait_is_for_the_other_parity_and_no_slot_stands_still(make: Callable[[], TileProgram]) -> None:
    program = make()
    for item in statements(program, WaitBarrier):
        assert isinstance(item, WaitBarrier)
        broken(changed(program, item, dataclasses.replace(item, phase=(item.phase + 1) % 2)))
    for item in statements(program, (WaitBarrier, Arrive, Expect)):
        assert isinstance(item, WaitBarrier | Arrive | Expect)
        if item.slot != const(0):
            broken(changed(program, item, dataclasses.replace(item, slot=const(0))))


@parametrised
def test_every_reader_counts(make: Callable[[], TileProgram]) -> None:
    """A slot is free when all have read it: neither one reader less is enough, nor can there be one more."""
    program = make()
    for n, barriers in enumerate(program.barriers):
        for arrivals in {barriers.arrivals - 1, barriers.arrivals + 1} - {0}:
            other: Barriers = dataclasses.replace(barriers, arrivals=arrivals)
            broken(dataclasses.replace(program, barriers=(*program.barriers[:n], other, *program.barriers[n + 1 :])))
