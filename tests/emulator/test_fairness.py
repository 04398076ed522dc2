"""Threads that wait by polling get what they wait for; those that wait in vain are found out soon."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.emulator.communicating_ptx import KERNELS, run
from texpr.emulator import Fault, FaultKind

SEEDS = [None, 1, 2, 3]

# A lock that the threads of a warp take one after the other, held while an unprotected word is increased.
SPIN_LOCK = """
    and.b32 %r2, %t, 31; setp.ge.u32 %q, %r2, 5; @%q ret;
    LOCK: atom.acquire.gpu.global.cas.b32 %r0, [%flags], 0, 1; setp.ne.u32 %q, %r0, 0; @%q bra LOCK;
    ld.global.b32 %r1, [%in]; add.u32 %r1, %r1, 1; st.global.b32 [%in], %r1;
    atom.release.gpu.global.exch.b32 %r0, [%flags], 0;
"""
SHARED_FLAG = """
    @%first st.volatile.shared.b32 [ticket], 0; bar.sync 0;
    setp.lt.u32 %q, %t, 32; @%q bra PRODUCE;
    POLL: ld.volatile.shared.b32 %r0, [ticket]; setp.eq.u32 %q, %r0, 0; @%q bra POLL; ret;
    PRODUCE: mov.u32 %r1, 0;
    WORK: add.u32 %r1, %r1, 1; setp.lt.u32 %q, %r1, 300; @%q bra WORK;
    @%first st.volatile.shared.b32 [ticket], 1;
"""
LATER = """
    @!%first ret; add.u32 %r1, %p, 1; mad.wide.u32 %a, %r1, 8, %flags; mov.u32 %r2, 1;
    setp.eq.u32 %q, %r1, %n; @%q bra TELL;
    POLL: ld.acquire.gpu.global.b32 %r0, [%a]; setp.eq.u32 %q, %r0, 0; @%q bra POLL;
    TELL: add.s64 %a, %a, -8; st.release.gpu.global.b32 [%a], %r2;
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_threads_of_one_warp_can_wait_for_each_other(seed: int | None) -> None:
    run(SPIN_LOCK, 2, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_warps_can_wait_for_a_flag_in_shared_memory(seed: int | None) -> None:
    run(SHARED_FLAG, 3, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_programs_can_wait_for_later_ones_that_are_resident(seed: int | None) -> None:
    run(LATER, 16, seed)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("name", ["turnstile", "grid barrier"])
def test_waiting_for_a_program_that_is_not_resident_is_reported(name: str, seed: int | None) -> None:
    kernel = LATER if name == "turnstile" else KERNELS[name].body
    start = time.perf_counter()
    with pytest.raises(Fault, match="repeat themselves for ever") as caught:
        run(kernel, 20, seed, batch=4)
    assert time.perf_counter() - start < 5
    fault = caught.value
    assert fault.kind is FaultKind.DEADLOCK and fault.buffer is None and "ld.acquire.gpu" in fault.ptx_text
    notes = "\n".join(fault.notes)
    assert "of buffer 'flags' at line" in notes and "ld.acquire.gpu" in notes
    assert "4 of the launch's 20 programs are resident" in notes


@pytest.mark.parametrize("seed", [None, 1])
def test_polling_with_atomics_in_vain_is_reported(seed: int | None) -> None:
    poll = "POLL: atom.relaxed.gpu.global.add.u32 %r0, [%flags], 0; setp.eq.u32 %q, %r0, 0; @%q bra POLL;"
    with pytest.raises(Fault, match="repeat themselves") as caught:
        run(poll, 2, seed)
    assert "all 2 programs of the launch are resident" in caught.value.notes


@pytest.mark.parametrize("seed", [None, 1])
def test_polling_by_turns_with_barriers_is_reported(seed: int | None) -> None:
    """One thread reads and tells the others through shared memory: each round stores what was there already."""
    poll = """
        POLL: bar.sync 0; @%first ld.relaxed.gpu.global.b32 %r0, [%flags]; @%first st.shared.b32 [ticket], %r0;
        bar.sync 0; ld.shared.b32 %r0, [ticket]; setp.eq.u32 %q, %r0, 0; @%q bra POLL;
    """
    with pytest.raises(Fault, match="repeat themselves") as caught:
        run(poll, 2, seed)
    assert any("more programs poll byte 0 of buffer 'flags' at line" in note for note in caught.value.notes)


def test_a_loop_that_counts_while_it_polls_ends_at_the_step_limit() -> None:
    poll = "POLL: add.u32 %r1, %r1, 1; ld.volatile.global.b32 %r0, [%flags]; setp.eq.u32 %q, %r0, 0; @%q bra POLL;"
    with pytest.raises(Fault) as caught:
        run(poll, 2)
    assert caught.value.kind is FaultKind.STEP_LIMIT and "'flags'" in "\n".join(caught.value.notes)


@pytest.mark.parametrize("seed", [None, 1])
def test_long_loops_without_memory_are_no_endless_loops(seed: int | None) -> None:
    """Two nested loops, and a warp that waits all the time."""
    body = """
        @%first st.volatile.shared.b32 [ticket], 0; bar.sync 0;
        setp.lt.u32 %q, %t, 32; @%q bra WORK;
        POLL: ld.volatile.shared.b32 %r0, [ticket]; setp.eq.u32 %q, %r0, 0; @%q bra POLL; ret;
        WORK: mov.u32 %r1, 0;
        OUTER: mov.u32 %r2, 0;
        INNER: add.u32 %r2, %r2, 1; setp.lt.u32 %q, %r2, 40; @%q bra INNER;
        add.u32 %r1, %r1, 1; setp.lt.u32 %q, %r1, 400; @%q bra OUTER;
        @%first st.volatile.shared.b32 [ticket], 1;
    """
    run(body, 1, seed)


def test_seeds_vary_the_order_in_which_programs_start() -> None:
    """Each program takes a ticket and writes its number: in lockstep that is ascending, and seeds differ."""
    body = "@!%first ret; atom.relaxed.gpu.global.add.u32 %r0, [%flags], 1; mad.wide.u32 %b, %r0, 4, %out;" \
        "st.global.b32 [%b], %p;"
    orders = [run(body, 40, seed, batch=4)[0].reshape(-1)[:40] for seed in (None, 1, 2, 1)]
    assert orders[0].tolist() == list(range(40))
    assert sorted(orders[1].tolist()) == list(range(40))
    # Batches of four: program 0 is among the first four in ascending order only.
    assert not np.array_equal(np.sort(orders[1][:4]), np.arange(4))
    assert not np.array_equal(orders[1], orders[2]) and np.array_equal(orders[1], orders[3])
