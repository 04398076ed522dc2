"""mbarrier instructions: phases, parities, counts, bytes, misuse, and who waits for whom."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, Fault, FaultKind
from texpr.emulator.checks import StampFormat

REGISTERS = """
    .reg .b32 %t, %w, %b, %s, %r<8>; .reg .b64 %in, %out, %x<4>; .reg .pred %first, %done, %p<4>;
"""
START = """
    mov.u32 %t, %tid.x; shr.u32 %w, %t, 5; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
    mov.u32 %b, buffer; add.u32 %s, %b, 128; setp.eq.u32 %first, %t, 0;
"""
MODULE = ".shared .align 128 .b8 buffer[1024];"
PUBLISH = "mad.wide.u32 %out, %t, 4, %out; st.global.u32 [%out], %r0;"
INIT_ONE = "@%first mbarrier.init.shared::cta.b64 [%b], 1; fence.proxy.async.shared::cta; bar.sync 0;"
WAIT_0 = "W: mbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0; @!%done bra W;"


def run(body: str, *, threads: int = 64, seed: int | None = None, checks: bool = True) -> np.ndarray:
    text = kernel(START + body, ".param .u64 in, .param .u64 out", declarations=REGISTERS, module=MODULE,
                  threads=threads)
    data = np.arange(64, dtype=np.uint32) + 1
    device = Device(sm=120, seed=seed, checks=checks, step_limit=30_000)
    device, places, _ = run_kernel(text, {"in": data, "out": 4 * threads}, threads=threads, device=device)
    return np.frombuffer(device.read(places["out"], 4 * threads), np.uint32)


def fault_of(body: str, **options: int | None) -> Fault:
    with pytest.raises(Fault) as caught:
        run(body, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_an_arrival_hands_data_to_those_who_wait(seed: int | None) -> None:
    body = INIT_ONE + """
        setp.eq.u32 %p0, %w, 0; @!%p0 bra CONSUME;
        @%first st.shared.b32 [%s], 7;
        @%first mbarrier.arrive.shared::cta.b64 _, [%b];
        bra WAIT; CONSUME: WAIT:
    """ + WAIT_0 + "ld.shared.b32 %r0, [%s];" + PUBLISH
    assert (run(body, seed=seed) == 7).all()


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("body", [
    "@%first mbarrier.init.shared::cta.b64 [%b], 1; @%first mbarrier.arrive.shared::cta.b64 _, [%b]; " + WAIT_0,
    "@%first mbarrier.init.shared::cta.b64 [%b], 2; @%first mbarrier.arrive.shared::cta.b64 _, [%b]; "
    "@%first mbarrier.arrive.shared::cta.b64 _, [%b]; " + WAIT_0,
    "@%first st.shared.b32 [%s], 0; @%first atom.shared.add.u32 %r1, [%s], 1; setp.ge.u32 %p0, %t, 32; "
    "@%p0 atom.shared.add.u32 %r1, [%s], 1;",
], ids=["mbarrier", "used twice", "counter"])  # fmt: skip
def test_who_uses_what_another_warp_initialised_is_behind_a_barrier(body: str, seed: int | None) -> None:
    """Although the one who initialised it has used it since."""
    assert fault_of(body + "mov.u32 %r0, 0;" + PUBLISH, seed=seed).kind is FaultKind.RACE
    first, use = body.split("; ", 1)
    run(f"{first}; bar.sync 0; {use} mov.u32 %r0, 0;" + PUBLISH, seed=seed)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_arrivals_order_when_epochs_are_counted_anew(seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One warp hands a number to another and waits for the answer, again and again."""
    few = StampFormat(0x3FF, 0x800, 0x7FF, 12, last_epoch=12)
    monkeypatch.setattr(StampFormat, "for_threads", lambda threads: few)
    body = """
        @%first mbarrier.init.shared::cta.b64 [%b], 1; @%first mbarrier.init.shared::cta.b64 [%b+8], 1; bar.sync 0;
        setp.eq.u32 %p0, %w, 0; setp.eq.u32 %p1, %t, 32; mov.u32 %r1, 0; mov.u32 %r0, 0;
        LOOP: and.b32 %r2, %r1, 1; @!%p0 bra TAKE;
        @%first st.shared.b32 [%s], 7; @%first mbarrier.arrive.shared::cta.b64 _, [%b];
        BACK: mbarrier.try_wait.parity.shared::cta.b64 %done, [%b+8], %r2; @!%done bra BACK; bra NEXT;
        TAKE: mbarrier.try_wait.parity.shared::cta.b64 %done, [%b], %r2; @!%done bra TAKE;
        ld.shared.b32 %r3, [%s]; add.u32 %r0, %r0, %r3;
        @%p1 mbarrier.arrive.shared::cta.b64 _, [%b+8];
        NEXT: add.u32 %r1, %r1, 1; setp.lt.u32 %p2, %r1, 30; @%p2 bra LOOP;
    """
    assert run(body + PUBLISH, seed=seed).tolist() == [0] * 32 + [210] * 32
    assert fault_of(body + "@%first st.shared.b32 [%s], 8; @%p1 ld.shared.b32 %r0, [%s];" + PUBLISH,
                    seed=seed).kind is FaultKind.RACE


def test_reading_without_waiting_is_a_race() -> None:
    body = INIT_ONE + """
        @%first st.shared.b32 [%s], 7; @%first mbarrier.arrive.shared::cta.b64 _, [%b];
        ld.shared.b32 %r0, [%s];
    """ + PUBLISH
    assert fault_of(body).kind is FaultKind.RACE


def test_a_relaxed_arrival_publishes_nothing() -> None:
    body = INIT_ONE + """
        @%first st.shared.b32 [%s], 7; @%first mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%b];
    """ + WAIT_0 + "ld.shared.b32 %r0, [%s];" + PUBLISH
    assert fault_of(body).kind is FaultKind.RACE
    run(body.replace("arrive.relaxed", "arrive.release"))


def test_all_threads_may_arrive_and_phases_alternate() -> None:
    body = """
        @%first mbarrier.init.shared.b64 [%b], 64; bar.sync 0;
        mov.u32 %r0, 0; mov.u32 %r1, 0;
        L: mbarrier.arrive.shared.b64 %x0, [%b];
        W: mbarrier.try_wait.parity.shared.b64 %done, [%b], %r1; @!%done bra W;
        xor.b32 %r1, %r1, 1; add.u32 %r0, %r0, 1; setp.lt.u32 %p0, %r0, 5; @%p0 bra L;
    """ + PUBLISH
    for seed in (None, 3):
        assert (run(body, seed=seed) == 5).all()


def test_states_name_the_phase() -> None:
    """test_wait on the own state: false before the last arrival, true after."""
    body = """
        @%first mbarrier.init.b64 [%x3], 2; bar.sync 0;
        mov.u32 %r0, 0; @!%first bra DONE;
        mbarrier.arrive.shared.b64 %x0, [%b];
        mbarrier.test_wait.shared.b64 %p0, [%b], %x0; @%p0 or.b32 %r0, %r0, 1;
        mbarrier.arrive.shared.b64 %x1, [%b];
        mbarrier.test_wait.shared.b64 %p1, [%b], %x0; @%p1 or.b32 %r0, %r0, 2;
        mbarrier.test_wait.parity.shared.b64 %p2, [%b], 0; @%p2 or.b32 %r0, %r0, 4;
        mbarrier.test_wait.parity.shared.b64 %p3, [%b], 1; @%p3 or.b32 %r0, %r0, 8;
        DONE:
    """.replace("@%first mbarrier.init.b64 [%x3]", "cvt.u64.u32 %x3, %b; cvta.shared.u64 %x3, %x3; "
                "@%first mbarrier.init.b64 [%x3]") + PUBLISH
    assert run(body)[0] == 2 | 4


def test_a_count_of_arrivals_and_dropping_out() -> None:
    body = """
        @%first mbarrier.init.shared.b64 [%b], 3; bar.sync 0; mov.u32 %r0, 1; @!%first bra DONE;
        mbarrier.arrive.shared.b64 %x0, [%b], 2; mbarrier.arrive_drop.shared.b64 %x0, [%b];
        mbarrier.arrive.shared.b64 %x0, [%b], 2;
        mbarrier.test_wait.parity.shared.b64 %p0, [%b], 1; selp.u32 %r0, 7, 1, %p0; DONE:
    """ + PUBLISH
    assert run(body)[0] == 7


def test_expected_bytes_hold_a_phase_open() -> None:
    body = INIT_ONE + """
        mov.u32 %r0, 0; @!%first bra DONE;
        mbarrier.arrive.expect_tx.shared.b64 %x0, [%b], 64;
        mbarrier.test_wait.shared.b64 %p0, [%b], %x0; @%p0 or.b32 %r0, %r0, 1;
        mbarrier.complete_tx.relaxed.cta.shared.b64 [%b], 48;
        mbarrier.expect_tx.relaxed.cta.shared.b64 [%b], 16;
        mbarrier.test_wait.shared.b64 %p0, [%b], %x0; @%p0 or.b32 %r0, %r0, 2;
        mbarrier.complete_tx.relaxed.cta.shared.b64 [%b], 32;
        mbarrier.test_wait.shared.b64 %p0, [%b], %x0; @%p0 or.b32 %r0, %r0, 4; DONE:
    """ + PUBLISH
    assert run(body)[0] == 4


@pytest.mark.parametrize("noinc", [".noinc", ""])
def test_copies_arrive_by_themselves(noinc: str) -> None:
    count = 32 if noinc else 1
    own = "" if noinc else "@%first mbarrier.arrive.shared.b64 _, [%b];"
    body = f"""
        @%first mbarrier.init.shared.b64 [%b], {count}; bar.sync 0;
        mad.wide.u32 %in, %t, 4, %in; mad.lo.u32 %s, %t, 4, %s;
        cp.async.ca.shared.global [%s], [%in], 4;
        cp.async.mbarrier.arrive{noinc}.shared.b64 [%b]; {own}
    """ + WAIT_0 + "xor.b32 %s, %s, 4; ld.shared.b32 %r0, [%s];" + PUBLISH
    np.testing.assert_array_equal(run(body, threads=32), (np.arange(32) ^ 1) + 1)


MISUSE = {
    "nothing there": ("mbarrier.arrive.shared.b64 _, [%b+512];", "there is no mbarrier"),
    "no object": ("st.shared.b64 [%b+512], 0; mbarrier.arrive.shared.b64 _, [%b+512];", "there is no mbarrier"),
    "too many arrivals": ("mbarrier.arrive.shared.b64 _, [%b], 2;", "2 arrivals at the mbarrier"),
    "initialised twice": ("mbarrier.init.shared.b64 [%b], 1;", "already initialised"),
    "count of zero": ("mbarrier.init.shared.b64 [%b+8], 0;", "an mbarrier for 0 arrivals"),
    "overwritten": ("st.shared.b64 [%b], 0; mbarrier.arrive.shared.b64 _, [%b];", "overwritten"),
    "after its end": ("mbarrier.inval.shared.b64 [%b]; mbarrier.arrive.shared.b64 _, [%b];", "there is no mbarrier"),
    "ended too early": (
        "mbarrier.expect_tx.shared.b64 [%b], 16; mbarrier.inval.shared.b64 [%b];", "while 16 bytes are expected"),
    "misaligned": ("mbarrier.arrive.shared.b64 _, [%b+4];", "not a multiple of 8"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MISUSE))
def test_misuse_is_reported(name: str) -> None:
    body, message = MISUSE[name]
    assert message in fault_of(INIT_ONE + "@!%first bra DONE;" + body + "DONE:" + "mov.u32 %r0, 0;" + PUBLISH).message


def test_a_deadlock_says_who_waits_for_what() -> None:
    fault = fault_of(INIT_ONE + "@%first mbarrier.arrive.expect_tx.shared.b64 _, [%b], 64;" + WAIT_0)
    assert fault.kind is FaultKind.DEADLOCK
    assert any("threads 0 to 31 wait" in note or "threads 0 to 63 wait" in note for note in fault.notes)
    assert any("0 of 1 arrivals and 64 bytes are missing in phase 0" in note for note in fault.notes)


def test_a_wait_that_does_not_ask_again_is_found() -> None:
    """try_wait may return false at any time; under some seed it does."""
    body = INIT_ONE + """
        @%first st.shared.b32 [%s], 7; @%first mbarrier.arrive.shared::cta.b64 _, [%b];
        mbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0; ld.shared.b32 %r0, [%s];
    """ + PUBLISH
    run(body)
    with pytest.raises(Fault) as caught:
        for seed in range(40):
            run(body, seed=seed)
    assert caught.value.kind is FaultKind.RACE
