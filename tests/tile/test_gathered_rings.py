"""Rings that threads of another role fill, as they are lowered: every statement of their protocol is needed, and counts
are those of the threads."""

from __future__ import annotations

import dataclasses

import pytest

from tests.integration.test_boxes import stages, variants
from tests.integration.test_gathering import PLAIN, picked, roles
from tests.tile.test_trace import PROTOCOL, broken, changed, statements
from texpr.compile import compile_binding
from texpr.schedule import load_schedule
from texpr.tile.ir import CopyAsync, StoreShared, TileProgram
from texpr.tile.protocol import Arrive, ArriveCopies, FenceAsync, WaitBarrier
from texpr.tile.sync import ProtocolError, Rule
from texpr.tile.trace import check_synchronisation

NEEDED = (*PROTOCOL, ArriveCopies)


def lowered(x: str, warps: int = 4, unit: str = "wgmma") -> TileProgram:
    """The program that multiplies gathered rows of x, copied as ``x`` says, by boxes of w, three slots each."""
    place = f"y: {{loop: {{k: 32}}, mma: {{op: {unit}, rows: i, cols: j}}}}"
    entry = stages("y.k", x=f"{x}, depth: 3", w="copy: tma, depth: 3")
    kernel = f"grid: {{i: 64, j: 32}}, place: {{{place}}}, stage: {{{entry}}}, {roles(warps, 'stage.x, stage.w')}"
    text = variants("picked", "sm_90a", f"{kernel}, persistent: {{programs: 2}}", PLAIN, "x, w")
    text = text.replace("  kernels:", "  assume: [finite(w)]\n  kernels:")
    binding = compile_binding(picked.bind({}), load_schedule(text, "picked.yaml"), ["sm_90a"], "picked")
    (program,) = binding.variants[0][1][0].programs
    return program


@pytest.fixture(scope="module", params=["copy: async", "copy: sync"])
def program(request: pytest.FixtureRequest) -> TileProgram:
    return lowered(request.param)


def test_no_statement_can_be_left_out(program: TileProgram) -> None:
    check_synchronisation(program)
    for item in statements(program, NEEDED):
        with pytest.raises(ProtocolError):
            check_synchronisation(changed(program, item))
            raise AssertionError(f"not missed: {item}")


def test_no_arrival_can_be_made_twice(program: TileProgram) -> None:
    for item in statements(program, (Arrive, ArriveCopies)):
        broken(changed(program, item, item, item))


def test_barriers_count_the_threads_that_copy(program: TileProgram) -> None:
    for n, barriers in enumerate(program.barriers):
        for arrivals in (barriers.arrivals + 1, barriers.arrivals - 1):
            other = dataclasses.replace(barriers, arrivals=arrivals)
            others = (*program.barriers[:n], other, *program.barriers[n + 1 :])
            assert broken(dataclasses.replace(program, barriers=others)) in (Rule.DEADLOCK, Rule.MISCOUNTED)


@pytest.mark.parametrize("warps", [1, 2, 8])
def test_every_thread_of_the_role_arrives_and_one_for_the_boxes(warps: int) -> None:
    full, empty = lowered("copy: async", warps).barriers
    assert (full.arrivals, empty.arrivals) == (32 * warps + 1, 1)


def test_the_role_that_multiplies_fences_after_it_has_waited(program: TileProgram) -> None:
    (fence,) = statements(program, FenceAsync)
    (wait,) = (item for item in statements(program, WaitBarrier) if "of this step" in getattr(item, "note", ""))
    assert broken(changed(changed(program, fence), wait, fence, wait)) is Rule.UNFENCED


def test_threads_that_arrive_before_they_copy(program: TileProgram) -> None:
    (copy,) = statements(program, (CopyAsync, StoreShared))
    gathered = [item for item in statements(program, ArriveCopies)] or statements(program, Arrive)[-1:]
    early = changed(changed(program, gathered[0]), copy, gathered[0], copy)
    assert broken(early) in (Rule.UNORDERED, Rule.IN_FLIGHT, Rule.UNFINISHED)


def test_an_arrival_that_does_not_wait_for_the_copies() -> None:
    program = lowered("copy: async", 1)
    (arrival,) = statements(program, ArriveCopies)
    assert isinstance(arrival, ArriveCopies)
    at_once = Arrive(arrival.barrier, arrival.slot)
    assert broken(changed(program, arrival, *([at_once] * 32))) is Rule.IN_FLIGHT


def test_tiles_that_registers_are_loaded_from_need_no_fence() -> None:
    by_warps = lowered("copy: async", unit="mma")
    assert not statements(by_warps, FenceAsync)
