"""Programs that communicate through global memory: right kernels are clean, every weakened version is a fault."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.communicating_ptx import KERNELS, THREADS, run
from texpr.emulator import Fault, FaultKind

SEEDS = [None, 1, 2, 3]
ORDER = {FaultKind.GLOBAL_RACE, FaultKind.GLOBAL_CONFLICT, FaultKind.RACE, FaultKind.UNINITIALISED}
WEAKENED = [
    (name, weakness) for name, case in KERNELS.items() for weakness in case.weakened if weakness not in case.by_luck
]
BY_LUCK = [(name, weakness) for name, case in KERNELS.items() for weakness in case.by_luck]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", list(KERNELS))
def test_right_kernels_are_clean(name: str, seed: int | None) -> None:
    case = KERNELS[name]
    _, stats = run(case.body, case.programs, seed)
    assert stats.warnings == {}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "weakness"), WEAKENED)
def test_weakened_kernels_are_faults_under_every_schedule(name: str, weakness: str, seed: int | None) -> None:
    case = KERNELS[name]
    old, new = case.weakened[weakness]
    assert old in case.body
    with pytest.raises(Fault) as caught:
        run(case.body.replace(old, new), case.programs, seed)
    assert caught.value.kind in ORDER, str(caught.value)


@pytest.mark.parametrize(("name", "weakness"), BY_LUCK)
def test_some_weakened_kernels_need_several_schedules(name: str, weakness: str) -> None:
    case = KERNELS[name]
    body = case.body.replace(*case.weakened[weakness])
    kinds = set()
    for seed in range(1, 7):
        try:
            run(body, case.programs, seed)
        except Fault as fault:
            kinds.add(fault.kind)
    assert kinds and kinds <= ORDER


def fault_of(name: str, weakness: str, seed: int | None = None) -> Fault:
    case = KERNELS[name]
    with pytest.raises(Fault) as caught:
        run(case.body.replace(*case.weakened[weakness]), case.programs, seed)
    return caught.value


def test_a_race_between_programs_names_both_and_the_place() -> None:
    fault = fault_of("turnstile", "relaxed load")
    assert fault.kind is FaultKind.GLOBAL_RACE and fault.buffer == "out" and fault.program == (1, 0, 0)
    assert "byte 0 of buffer 'out': this reads what program (0, 0, 0) wrote" in fault.message
    assert "ld.global.b32 %r1, [%b]" in fault.ptx_text
    assert any("st.global.b32 [%b], %r1" in note for note in fault.notes), fault.notes


@pytest.mark.parametrize(("name", "weakness", "missing"), [
    ("turnstile", "relaxed load", "has released its access, but this one has not acquired it"),
    ("turnstile", "relaxed store", "has not released its access"),
    ("turnstile", "narrow store", "the other access has a scope (.cta or .cluster)"),
    ("flag", "narrow fence by the producer", "has released its access at a scope (.cta)"),
    ("turnstile", "no barrier before the store", "has not released its access"),
    ("flag", "no fence by the consumer", "has released its access, but this one has not acquired it"),
    ("flag", "no fence by the producer", "has not released its access"),
    ("histogram", "narrow scope", "has a scope (.cta or .cluster)"),
])
def test_a_race_says_what_order_is_missing(name: str, weakness: str, missing: str) -> None:
    assert missing in fault_of(name, weakness).notes[0]


def test_results_of_right_kernels_are_right() -> None:
    programs = KERNELS["look-back"].programs
    out, _ = run(KERNELS["look-back"].body, programs, 3)
    assert out.reshape(-1)[:programs].tolist() == np.cumsum(np.arange(1, programs + 1)).tolist()
    rows = np.arange(8 * THREADS).reshape(8, THREADS)
    assert (run(KERNELS["turnstile"].body, 8, 1)[0][0] == rows.sum(axis=0)).all()
    assert (run(KERNELS["last block with fences"].body, 8, 2)[0][0] == rows.sum(axis=0)).all()


def test_neighbours_may_not_read_what_a_program_overwrites() -> None:
    """A stencil in place: which value a program reads depends on whether its neighbour was faster."""
    body = """
        mad.lo.u32 %r0, %p, 1, 1; rem.u32 %r0, %r0, %n; mad.wide.u32 %a, %r0, 4, %in; ld.global.b32 %r1, [%a];
        mad.wide.u32 %a, %p, 4, %in; @%first st.global.b32 [%a], %r1;
    """
    for programs, seed in ((8, None), (40, None), (40, 1)):
        with pytest.raises(Fault, match=r"buffer 'in'.*nothing orders the two") as caught:
            run(body, programs, seed)
        assert caught.value.kind is FaultKind.GLOBAL_RACE


def test_what_many_programs_read_may_not_be_written() -> None:
    body = "ld.global.b32 %r1, [%in]; setp.eq.u32 %q, %p, 39; add.u32 %r1, %r1, 1; @%q st.global.b32 [%in], %r1;"
    with pytest.raises(Fault, match="buffer 'in'"):
        run(body, 40)


@pytest.mark.parametrize("seed", [None, 1])
def test_a_program_may_update_its_own_part_in_place(seed: int | None) -> None:
    body = """
        st.global.b32 [%mine], %g; mov.u32 %r0, 0;
        LOOP: xor.b32 %r1, %g, 32; mad.wide.u32 %a, %r1, 4, %data; ld.global.b32 %r2, [%a]; bar.sync 0;
        st.global.b32 [%mine], %r2; bar.sync 1; add.u32 %r0, %r0, 1; setp.lt.u32 %q, %r0, 3; @%q bra LOOP;
    """
    body = body.replace("mov.u32 %r0, 0;", "bar.sync 1; mov.u32 %r0, 0;", 1)
    assert run(body, 20, seed)[1].warnings == {}


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_all_warps_may_read_before_one_of_them_writes(seed: int | None) -> None:
    """Replicated reads, a barrier, and reads by one warp in between."""
    body = """
        mad.wide.u32 %a, %p, 256, %data; @%first st.global.b32 [%a], %p; bar.sync 0;
        ld.global.b32 %r0, [%a]; bar.sync 1;
        setp.lt.u32 %q, %t, 32; @!%q ret;
        ld.global.b32 %r1, [%a]; @%first st.global.b32 [%a], %r1; add.u32 %r1, %r1, 1;
        bar.warp.sync 0xffffffff; @%first st.global.b32 [%a], %r1;
    """
    assert run(body, 20, seed)[1].warnings == {}


@pytest.mark.parametrize("seed", [None, 1])
def test_different_values_stored_at_the_same_moment_conflict(seed: int | None) -> None:
    """In lockstep all programs execute the store as one instruction."""
    with pytest.raises(Fault, match="buffer 'out'") as caught:
        run("@%first st.global.b32 [%out], %p;", 2, seed)
    assert caught.value.kind is FaultKind.GLOBAL_CONFLICT
    _, stats = run("mov.u32 %r0, 7; @%first st.global.b32 [%out], %r0;", 2, seed)
    assert list(stats.warnings) == ["several programs store equal values to one global address"]


def test_stores_and_atomics_of_different_programs_race() -> None:
    with pytest.raises(Fault) as caught:
        run("@%first st.global.b32 [%flags], %p; @%first red.relaxed.gpu.global.add.u32 [%flags], 1;", 2)
    assert caught.value.kind in ORDER


def test_accesses_of_different_widths_are_compared_byte_by_byte() -> None:
    """Halves of a word belong to different programs: no race; a load of the whole word: one."""
    halves = """
        mad.wide.u32 %a, %p, 2, %flags; cvt.u16.u32 %h, %p; @%first st.global.b16 [%a], %h;
    """
    declared = ".reg .b16 %h;" + halves
    assert run(declared, 2)[1].warnings == {}
    with pytest.raises(Fault, match="buffer 'flags'"):
        run("ld.global.b32 %r0, [%flags];" + declared, 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ticket", [
    "fence.acq_rel.gpu; atom.relaxed.gpu.global.inc.u32 %r0, [%flags], 1000;",
    "atom.acq_rel.gpu.global.inc.u32 %r0, [%flags], 1000;",
    "atom.relaxed.gpu.global.inc.u32 %r0, [%flags], 1000;",
])
def test_who_has_taken_the_last_ticket_may_reset_the_counter(ticket: str, seed: int | None) -> None:
    """Whoever has seen a strong write is ordered behind that write, whatever else is not ordered."""
    body = f"""
        @!%first ret; {ticket} sub.u32 %r1, %n, 1; setp.ne.u32 %q, %r0, %r1; @%q ret;
        mov.u32 %r2, 0; st.global.b32 [%flags], %r2;
    """
    run(body, 20, seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", ["acquire", "relaxed"])
def test_who_has_seen_a_flag_may_clear_it(load: str, seed: int | None) -> None:
    body = f"""
        mov.u32 %r1, 1; setp.eq.u32 %q, %p, 0; @%q bra WAIT;
        @%first st.release.gpu.global.b32 [%flags], %r1; ret;
        WAIT: @!%first bra SEEN;
        POLL: ld.{load}.gpu.global.b32 %r0, [%flags]; setp.eq.u32 %q, %r0, 0; @%q bra POLL;
        SEEN: bar.sync 0; ld.global.b32 %r3, [%flags]; bar.sync 1;
        setp.eq.u32 %q, %t, 63; mov.u32 %r2, 0; @%q st.global.b32 [%flags], %r2;
    """
    run(body, 2, seed)


def test_who_has_not_seen_a_flag_may_not_clear_it() -> None:
    body = """
        mov.u32 %r1, 1; @!%first ret; setp.eq.u32 %q, %p, 0; @%q bra CLEAR;
        st.release.gpu.global.b32 [%flags], %r1; ret;
        CLEAR: mov.u32 %r2, 0; st.global.b32 [%flags], %r2;
    """
    with pytest.raises(Fault, match="buffer 'flags'"):
        run(body, 2)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_fence_covers_nothing_that_is_written_behind_it(seed: int) -> None:
    case = KERNELS["flag"]
    fence = "@%first fence.release.gpu;"
    late = case.body.replace(fence, fence + "@%first st.global.b32 [%out], %r1;")
    late = late.replace("ld.global.b32 %r2, [%a];", "ld.global.b32 %r2, [%out];")
    with pytest.raises(Fault) as caught:
        run(late, 2, seed)
    assert caught.value.buffer == "out"
