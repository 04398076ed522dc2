"""Branches, loops, divergence, calls, barriers, and the order in which blocks and warps run."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, PtxError, load_ptx
from texpr.emulator.cfg import order_blocks

REGISTERS = ".reg .b32 %t, %r<9>, %s; .reg .b64 %out, %x<4>; .reg .pred %p, %q;"
START = "mov.u32 %t, %tid.x; ld.param.u64 %out, [out]; mad.wide.u32 %out, %t, 4, %out;"
STORE = "st.global.b32 [%out], %r0;"


def run_body(body: str, threads: int = 32, *, module: str = "", device: Device | None = None, shared: int = 0,
             declarations: str = "") -> np.ndarray:
    declarations += REGISTERS
    text = kernel(START + body, ".param .u64 out", declarations=declarations, threads=threads, module=module)
    device, addresses, _ = run_kernel(text, {"out": 4 * threads}, threads=threads, device=device, shared=shared)
    return np.frombuffer(device.read(addresses["out"], 4 * threads), np.uint32)


def test_lanes_loop_for_different_times() -> None:
    body = "mov.u32 %r0, 0; mov.u32 %r1, %t; LOOP: setp.eq.u32 %p, %r1, 0; @%p bra DONE;" \
           "add.u32 %r0, %r0, %r1; sub.u32 %r1, %r1, 1; bra.uni LOOP; DONE:" + STORE
    lanes = np.arange(32)
    np.testing.assert_array_equal(run_body(body), lanes * (lanes + 1) // 2)


def test_lanes_meet_behind_a_branch_whatever_the_text_order() -> None:
    """The join stands before one of the sides in the text; the shuffle behind it needs the whole warp."""
    body = """
        and.b32 %r1, %t, 1; setp.eq.u32 %p, %r1, 0;
        @%p bra EVEN; bra ODD;
        JOIN: shfl.sync.bfly.b32 %r0, %r2, 1, 31, 0xffffffff; bra DONE;
        EVEN: mov.u32 %r2, 100; bra JOIN;
        ODD: mov.u32 %r2, 200; bra JOIN;
        DONE:
    """ + STORE
    np.testing.assert_array_equal(run_body(body), np.where(np.arange(32) % 2 == 0, 200, 100))


def test_lanes_meet_behind_a_loop_with_two_exits() -> None:
    body = """
        mov.u32 %r0, 0; and.b32 %r3, %t, 7;
        LOOP: setp.eq.u32 %p, %r0, %r3; @%p bra OUT;
        add.u32 %r0, %r0, 1; setp.eq.u32 %q, %r0, 5; @%q bra OTHER; bra LOOP;
        OTHER: add.u32 %r0, %r0, 100;
        OUT: redux.sync.max.u32 %r1, %r0, 0xffffffff; add.u32 %r0, %r0, %r1;
    """ + STORE
    expected = np.where(np.arange(32) % 8 < 5, np.arange(32) % 8, 105)
    np.testing.assert_array_equal(run_body(body), expected + 105)


def test_branch_tables() -> None:
    body = """
        and.b32 %r1, %t, 3;
        TABLE: .branchtargets A, B, C, A;
        brx.idx %r1, TABLE;
        A: mov.u32 %r0, 10; bra DONE; B: mov.u32 %r0, 20; bra DONE; C: mov.u32 %r0, 30; DONE:
    """ + STORE
    np.testing.assert_array_equal(run_body(body), np.tile([10, 20, 30, 10], 8))


def test_lanes_may_exit_early() -> None:
    body = "mov.u32 %r0, 1;" + STORE + "setp.ge.u32 %p, %t, 40; @%p ret; bar.sync 0;" \
           "activemask.b32 %r0; vote.sync.ballot.b32 %r0, !%p, 0xffffffff;" + STORE
    got = run_body(body, 64)
    np.testing.assert_array_equal(got, [0xFFFF_FFFF] * 32 + [0xFF] * 8 + [1] * 24)


def test_inline_assembly_scopes_have_their_own_names() -> None:
    body = """
        mov.u32 %r0, 1;
        { .reg .u32 x; .reg .pred q; mov.u32 x, 5; setp.lt.u32 q, %t, 8; @!q bra skip; add.u32 %r0, %r0, x; skip: }
        { .reg .u32 x; .reg .pred q; mov.u32 x, 70; setp.lt.u32 q, %t, 16; @!q bra skip; add.u32 %r0, %r0, x; skip: }
    """ + STORE
    lanes = np.arange(32)
    np.testing.assert_array_equal(run_body(body), 1 + 5 * (lanes < 8) + 70 * (lanes < 16))


def test_functions_are_called_with_arguments_and_results() -> None:
    module = """
        .func (.param .b32 result) triple(.param .b32 x)
        {
          .reg .b32 %a; .reg .pred %p; .local .align 4 .b8 spill[4];
          ld.param.b32 %a, [x]; st.local.b32 [spill], %a;
          setp.gt.u32 %p, %a, 20; @%p bra BIG;
          mul.lo.u32 %a, %a, 3; st.param.b32 [result], %a; ret;
          BIG: ld.local.b32 %a, [spill]; st.param.b32 [result], %a; ret;
        }
    """
    call = """
        { .param .b32 argument; .param .b32 value; st.param.b32 [argument], %r1;
          call.uni (value), triple, (argument); ld.param.b32 %r1, [value]; }
    """
    got = run_body("mov.u32 %r1, %t;" + call + call + "mov.u32 %r0, %r1;" + STORE, module=module)
    lanes = np.arange(32)
    once = np.where(lanes > 20, lanes, lanes * 3)
    np.testing.assert_array_equal(got, np.where(once > 20, once, once * 3))


def test_a_call_of_an_unknown_function_is_refused_at_load_time() -> None:
    text = kernel("call.uni missing, ();", "")
    with pytest.raises(PtxError, match="missing"):
        load_ptx(text)


EXCHANGE = """
    mov.u32 %s, buffer; mad.lo.u32 %r1, %t, 4, %s; st.shared.b32 [%r1], %t;
    {barrier}
    xor.b32 %r2, %t, 32; mad.lo.u32 %r2, %r2, 4, %s; ld.shared.b32 %r0, [%r2];
""" + STORE
BUFFER = ".shared .align 16 .b8 buffer[512];"


@pytest.mark.parametrize("barrier", [
    "bar.sync 0;", "barrier.sync 3;", "barrier.sync.aligned 1, 128;", "bar.sync 15, 128;",
    "shr.u32 %r3, %t, 6; add.u32 %r3, %r3, 1; bar.sync %r3, 64;",
])
@pytest.mark.parametrize("seed", [None, 1])
def test_barriers_order_shared_memory(barrier: str, seed: int | None) -> None:
    got = run_body(EXCHANGE.replace("{barrier}", barrier), 128, module=BUFFER, device=Device(sm=120, seed=seed))
    np.testing.assert_array_equal(got, np.arange(128) ^ 32)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_producers_arrive_without_waiting(seed: int | None) -> None:
    """Warp 0 produces and arrives; warp 1 waits and consumes."""
    body = """
        mov.u32 %s, buffer; and.b32 %r1, %t, 31; mad.lo.u32 %r1, %r1, 4, %s; mov.u32 %r0, 0;
        setp.ge.u32 %p, %t, 32; @%p bra CONSUME;
        st.shared.b32 [%r1], %t; bar.arrive 1, 64; bra DONE;
        CONSUME: bar.sync 1, 64; ld.shared.b32 %r0, [%r1];
        DONE:
    """ + STORE
    got = run_body(body, 64, module=BUFFER, device=Device(sm=120, seed=seed))
    np.testing.assert_array_equal(got, [0] * 32 + list(range(32)))


def test_programs_see_what_others_published_before_an_atomic() -> None:
    """The last program to arrive adds up what all have stored: a grid-wide reduction with a counter."""
    text = kernel(
        """
        mov.u32 %t, %ctaid.x; ld.param.u64 %x0, [parts]; mad.wide.u32 %x1, %t, 4, %x0; ld.param.u64 %out, [out];
        add.u32 %r1, %t, 1; st.global.b32 [%x1], %r1; fence.acq_rel.gpu;
        ld.param.u64 %x2, [counter]; atom.global.add.u32 %r2, [%x2], 1;
        mov.u32 %r3, %nctaid.x; sub.u32 %r3, %r3, 1; setp.ne.u32 %p, %r2, %r3; @%p ret;
        fence.acq_rel.gpu; mov.u32 %r4, 0; mov.u32 %r0, 0;
        LOOP: mad.wide.u32 %x1, %r4, 4, %x0; ld.global.b32 %r5, [%x1]; add.u32 %r0, %r0, %r5;
        add.u32 %r4, %r4, 1; setp.le.u32 %p, %r4, %r3; @%p bra LOOP;
        st.global.b32 [%out], %r0;
        """,
        ".param .u64 parts, .param .u64 counter, .param .u64 out", declarations=REGISTERS, threads=1)
    device, addresses, _ = run_kernel(
        text, {"parts": 160, "counter": np.zeros(1, np.uint32), "out": 4}, grid=(40,), threads=1, device=Device(sm=120))
    assert np.frombuffer(device.read(addresses["out"], 4), np.uint32)[0] == 820


def test_programs_may_wait_for_each_other_in_a_spin_loop() -> None:
    """Program i waits for the flag of program i + 1, which runs beside it."""
    text = kernel(
        """
        mov.u32 %t, %ctaid.x; ld.param.u64 %x0, [flags]; mad.wide.u32 %x1, %t, 4, %x0;
        setp.eq.u32 %p, %t, 3; @%p bra SET;
        WAIT: ld.acquire.gpu.global.b32 %r1, [%x1+4]; setp.eq.u32 %q, %r1, 0; @%q bra WAIT;
        SET: mov.u32 %r2, 1; st.release.gpu.global.b32 [%x1], %r2;
        """,
        ".param .u64 flags", declarations=REGISTERS)
    device, addresses, _ = run_kernel(text, {"flags": np.zeros(4, np.uint32)}, grid=(4,))
    assert list(np.frombuffer(device.read(addresses["flags"], 16), np.uint32)) == [1, 1, 1, 1]


def test_hints_and_fences_change_nothing() -> None:
    body = """
        mov.u32 %r0, %t; griddepcontrol.wait; griddepcontrol.launch_dependents; nanosleep.u32 20; pmevent 1;
        membar.gl; fence.acq_rel.gpu; fence.sc.sys; fence.proxy.async.shared::cta; fence.proxy.async;
        prefetchu.L1 [%out]; applypriority.global.L2::evict_normal [%out], 128; barrier.arrive 1, 64;
    """ + STORE + "exit;"
    np.testing.assert_array_equal(run_body(body), np.arange(32))


def test_clocks_advance() -> None:
    body = "mov.u32 %r1, %clock; bar.sync 0; bar.sync 0; mov.u32 %r2, %clock; sub.u32 %r0, %r2, %r1;" + STORE
    assert (run_body(body) > 0).all()


@pytest.mark.parametrize("count", [1, 3, 16, 17, 40])
def test_any_number_of_programs_runs_in_batches(count: int) -> None:
    text = kernel(
        "mov.u32 %t, %ctaid.x; ld.param.u64 %out, [out]; mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %t;",
        ".param .u64 out", declarations=REGISTERS, threads=1)
    device, addresses, stats = run_kernel(text, {"out": 4 * count}, grid=(count,), threads=1)
    np.testing.assert_array_equal(np.frombuffer(device.read(addresses["out"], 4 * count), np.uint32), np.arange(count))
    assert stats.programs == count


def order(edges: list[list[int]]) -> list[int]:
    """Text-order block numbers in scheduling order."""
    return [block.start for block in order_blocks([(i, i + 1) for i in range(len(edges))], edges)]


def test_a_join_comes_after_both_sides() -> None:
    placed = order([[1, 3], [2], [], [1]])
    assert placed.index(3) < placed.index(1) < placed.index(2)


def test_a_loop_comes_before_what_is_behind_it() -> None:
    placed = order([[1], [2, 3], [], [1]])
    assert placed == [0, 1, 3, 2]


def test_nested_loops_stay_together() -> None:
    placed = order([[1], [2, 5], [3, 4], [2], [1], []])
    assert placed == [0, 1, 2, 3, 4, 5]


def test_blocks_that_cannot_be_reached_are_dropped() -> None:
    assert order([[2], [2], []]) == [0, 2]
