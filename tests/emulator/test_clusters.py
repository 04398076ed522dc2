"""Clusters: who is who, shared memory of other programs, the cluster's barrier, remote mbarriers, multicast copies."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.emulator.snippets import kernel
from texpr.emulator import Device, Fault, FaultKind, LaunchError, load_ptx
from texpr.emulator.checks import StampFormat

SEEDS = [None, 1, 2]
REGISTERS = """
    .reg .b32 %t, %g, %rank, %peer, %s, %far, %b, %farb, %r<9>; .reg .b64 %in, %out, %x<4>; .reg .b16 %mask;
    .reg .pred %first, %lead, %done, %p<4>;
"""
START = """
    mov.u32 %t, %tid.x; mov.u32 %rank, %cluster_ctarank; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
    xor.b32 %peer, %rank, 1; setp.eq.u32 %first, %t, 0; setp.eq.u32 %lead, %rank, 0; and.pred %p0, %first, %lead;
    mov.u32 %b, buffer; mad.lo.u32 %s, %t, 4, %b; add.u32 %s, %s, 128;
    mapa.shared::cluster.u32 %far, %s, %peer; mapa.shared::cluster.u32 %farb, %b, %peer;
    mov.u32 %g, %ctaid.x; mad.lo.u32 %g, %g, 64, %t; mad.wide.u32 %x0, %g, 4, %out;
"""
PUBLISH = "st.global.u32 [%x0], %r0;"
MODULE = ".shared .align 128 .b8 buffer[2048];"
MEET = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"
RELAXED = "barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;"
INIT = "@%first mbarrier.init.shared::cta.b64 [%b], 1; @%first fence.mbarrier_init.release.cluster;" + RELAXED
WAIT = "W: mbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0; @!%done bra W;"


def run(
    body: str,
    *,
    programs: int = 2,
    cluster: tuple[int, ...] = (2,),
    seed: int | None = None,
    grid: tuple[int, ...] = (),
) -> np.ndarray:
    """What each thread of 64 leaves in its word of `out`; `in` holds 1, 2, 3, ..."""
    text = kernel(START + body, ".param .u64 in, .param .u64 out", declarations=REGISTERS, module=MODULE,
                  target="sm_90", threads=64)
    device = Device(sm=90, seed=seed, step_limit=30_000)
    total = int(np.prod(grid or (programs,)))
    given, out = device.alloc(1024, "in"), device.alloc(256 * total, "out")
    device.write(given, np.arange(256, dtype=np.uint32) + 1)
    params = [address.to_bytes(8, "little") for address in (given, out)]
    device.launch(load_ptx(text, "cluster.ptx"), "test", grid or (programs,), (64,), params=params, cluster=cluster)
    return np.frombuffer(device.read(out, 256 * total), np.uint32).reshape(total, 64)


def fault_of(body: str, *, seed: int | None = None, programs: int = 2) -> Fault:
    with pytest.raises(Fault) as caught:
        run(body, seed=seed, programs=programs)
    return caught.value


def replaced(body: str, old: str, new: str) -> str:
    assert old in body
    return body.replace(old, new, 1)


# Who is who -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("register", "expected"), [
    ("%cluster_ctarank", lambda x, y: x % 2 + 2 * (y % 3)), ("%cluster_nctarank", lambda x, y: 0 * x + 6),
    ("%cluster_ctaid.x", lambda x, y: x % 2), ("%cluster_ctaid.y", lambda x, y: y % 3),
    ("%cluster_nctaid.y", lambda x, y: 0 * x + 3), ("%clusterid.x", lambda x, y: x // 2),
    ("%clusterid.y", lambda x, y: y // 3), ("%nclusterid.x", lambda x, y: 0 * x + 2),
    ("%nclusterid.y", lambda x, y: 0 * x + 2), ("%nctaid.x", lambda x, y: 0 * x + 4),
])  # fmt: skip
@pytest.mark.parametrize("seed", [None, 1])
def test_programs_know_their_place_in_the_cluster(register: str, expected, seed: int | None) -> None:  # type: ignore[no-untyped-def]
    body = f"""mov.u32 %r1, %ctaid.y; mad.lo.u32 %g, %r1, 256, %g; mad.wide.u32 %x0, %g, 4, %out;
        mov.u32 %r0, {register};""" + PUBLISH
    found = run(body, grid=(4, 6), cluster=(2, 3), seed=seed)[:, 0].reshape(6, 4)
    y, x = np.indices((6, 4))
    assert (found == expected(x, y)).all()


def test_the_launch_and_the_kernel_agree_on_the_cluster() -> None:
    text = kernel("", target="sm_90").replace("{", ".explicitcluster\n.reqnctapercluster 2\n{", 1)
    module = load_ptx(text)
    assert module.kernels["test"].cluster == (2, 1, 1)
    Device(sm=90).launch(module, "test", (4,), (32,), cluster=(2,))
    for grid, cluster, message in (((4,), None, "the launch must give the cluster"), ((4,), (4,), "requires"),
                                   ((3,), (2,), "not a multiple")):
        with pytest.raises(LaunchError, match=message):
            Device(sm=90).launch(module, "test", grid, (32,), cluster=cluster)
    with pytest.raises(LaunchError, match="more than 8"):
        Device(sm=90).launch(load_ptx(kernel("", target="sm_90")), "test", (16,), (32,), cluster=(16,))
    implied = load_ptx(text.replace(".explicitcluster", ""))
    Device(sm=90).launch(implied, "test", (4,), (32,))


# Shared memory of other programs ----------------------------------------------------------------------------

PUT = "add.u32 %r1, %g, 5; st.shared.u32 [%s], %r1;"
EXCHANGE = PUT + MEET + "ld.shared::cluster.u32 %r0, [%far];" + MEET + PUBLISH
GENERIC = """cvt.u64.u32 %x1, %s; cvta.shared.u64 %x1, %x1; mapa.u64 %x2, %x1, %peer; getctarank.u64 %r3, %x2;"""


def exchanged(programs: int = 2) -> np.ndarray:
    return (np.arange(64 * programs).reshape(-1, 2, 64)[:, ::-1] + 5).reshape(-1, 64)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", [
    "ld.shared::cluster.u32 %r0, [%far];", GENERIC + "ld.u32 %r0, [%x2];",
    "ld.relaxed.cluster.shared::cluster.u32 %r0, [%far];",
    "mapa.shared::cluster.u32 %r2, buffer, %peer; mad.lo.u32 %r2, %t, 4, %r2; ld.shared::cluster.u32 %r0, [%r2+128];",
    "xor.b32 %r2, %s, 16777216; ld.shared::cluster.u32 %r0, [%r2];",
], ids=["shared::cluster", "generic", "relaxed", "symbol", "bits"])  # fmt: skip
def test_programs_of_a_cluster_read_each_others_memory(load: str, seed: int | None) -> None:
    body = replaced(EXCHANGE, "ld.shared::cluster.u32 %r0, [%far];", load)
    assert (run(body, seed=seed, programs=8) == exchanged(8)).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("behind", [0, 1, 2])
def test_nothing_is_lost_when_epochs_are_counted_anew(
    behind: int, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = StampFormat(0x3FF, 0x800, 0x7FF, 12, last_epoch=20)
    monkeypatch.setattr(StampFormat, "for_threads", lambda threads: few)
    body = f"""
        mov.u32 %r2, 0; mov.u32 %r0, 0;
        LOOP: {PUT} {MEET} ld.shared::cluster.u32 %r3, [%far]; add.u32 %r0, %r0, %r3; {MEET}
        add.u32 %r2, %r2, 1; setp.lt.u32 %p1, %r2, 20; @%p1 bra LOOP; {behind * "bar.sync 0;"} {PUBLISH}
    """
    assert (run(body, seed=seed) == 20 * exchanged()).all()
    without = body.replace("@%p1 bra LOOP;", "@%p1 bra LOOP; ld.shared::cluster.u32 %r3, [%far];")
    assert fault_of(without, seed=seed).kind is FaultKind.ENDED_PROGRAM


@pytest.mark.parametrize("seed", SEEDS)
def test_programs_of_a_cluster_write_to_each_others_memory(seed: int | None) -> None:
    body = "add.u32 %r1, %g, 5; st.shared::cluster.u32 [%far], %r1;" + MEET + "ld.shared.u32 %r0, [%s];" + PUBLISH
    assert (run(MEET + body, seed=seed, programs=4) == exchanged(4)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_atomics_reach_the_other_programs(seed: int | None) -> None:
    body = """mapa.shared::cluster.u32 %r2, %b, 0; @%p0 st.shared.u32 [%b], 0;""" + MEET + """
        red.shared::cluster.add.u32 [%r2], 1; atom.relaxed.cluster.shared::cluster.add.u32 %r3, [%r2], 1;
    """ + MEET + "ld.shared::cluster.u32 %r0, [%r2];" + MEET + PUBLISH
    assert (run(body, seed=seed, programs=4, cluster=(4,)) == 512).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("old", "new", "kind", "message"), [
    (MEET, RELAXED, FaultKind.RACE, "reads what thread .* of program [01] of the cluster wrote"),
    ("[%far];" + MEET, "[%far];" + RELAXED, FaultKind.ENDED_PROGRAM, "nothing orders that behind this use"),
    ("[%far];" + MEET, "[%far];", FaultKind.ENDED_PROGRAM, "has ended|nothing orders that"),
    ("ld.shared::cluster", "ld.shared", FaultKind.OUT_OF_BOUNDS, "needs shared::cluster"),
    ("ld.shared::cluster", "ld.shared::cta", FaultKind.OUT_OF_BOUNDS, "needs shared::cluster"),
    ("[%far]", "[%far+33554432]", FaultKind.OUT_OF_BOUNDS, r"in no program of the cluster \(it has 2\)"),
    ("[%far]", "[%far+4096]", FaultKind.OUT_OF_BOUNDS, "the program has 2048 bytes"),
    ("barrier.cluster.arrive.aligned;", "", FaultKind.BARRIER_MISUSE, "without having arrived"),
])  # fmt: skip
def test_use_of_another_programs_memory_must_be_in_order(
    old: str, new: str, kind: FaultKind, message: str, seed: int | None
) -> None:
    fault = fault_of(replaced(EXCHANGE, old, new), seed=seed)
    assert fault.kind is kind
    assert re.search(message, fault.message)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("old", "new"), [
    (MEET, ""), (MEET, "bar.sync 0;"), ("barrier.cluster.wait.aligned;", ""),
    ("st.shared", "@%lead bra END; st.shared"),
])  # fmt: skip
def test_memory_that_another_program_has_not_yet_written_or_not_any_more_is_not_read(
    old: str, new: str, seed: int | None
) -> None:
    fault = fault_of(replaced(EXCHANGE, old, new) + "END:", seed=seed)
    assert fault.kind in (FaultKind.RACE, FaultKind.UNINITIALISED, FaultKind.ENDED_PROGRAM)


@pytest.mark.parametrize("seed", SEEDS)
def test_global_memory_is_ordered_by_the_clusters_barrier(seed: int | None) -> None:
    body = PUBLISH.replace("%r0", "%g") + MEET + """
        xor.b32 %r1, %g, 64; mad.wide.u32 %x1, %r1, 4, %out; ld.global.u32 %r0, [%x1];
    """ + MEET + PUBLISH
    expected = np.arange(128).reshape(2, 64)[::-1]
    assert (run(body, seed=seed) == expected).all()
    assert fault_of(replaced(body, MEET, ""), seed=seed).kind in (FaultKind.GLOBAL_RACE, FaultKind.UNINITIALISED)
    assert fault_of(replaced(body, MEET, RELAXED), seed=seed).kind is FaultKind.GLOBAL_RACE
    last = body.rindex(MEET)
    assert fault_of(body[:last] + body[last + len(MEET):], seed=seed).kind in (
        FaultKind.GLOBAL_RACE, FaultKind.GLOBAL_CONFLICT)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fence", ["fence.acq_rel.cluster;", "fence.sc.cluster;", "fence.acq_rel.gpu;", "membar.gl;"])
def test_a_fence_releases_what_a_relaxed_arrival_does_not(fence: str, seed: int | None) -> None:
    body = EXCHANGE.replace(MEET, fence + RELAXED)
    assert (run(body, seed=seed) == exchanged()).all()
    narrow = fence.replace("cluster", "cta").replace("gpu", "cta").replace("gl", "cta")
    assert fault_of(replaced(body, fence, narrow), seed=seed).kind is FaultKind.RACE
    late = replaced(EXCHANGE.replace(MEET, RELAXED), PUT, fence + PUT)
    assert fault_of(late, seed=seed).kind is FaultKind.RACE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("use", ["st.shared::cluster.u32 [%far], %t;", "red.shared::cluster.add.u32 [%far], 1;",
                                 "mbarrier.arrive.shared::cluster.b64 _, [%farb];"])  # fmt: skip
def test_a_program_must_have_begun_when_its_memory_is_used(use: str, seed: int | None) -> None:
    fault = fault_of(f"st.shared.u32 [%s], %t; @%lead {use}" + MEET, seed=seed)
    assert fault.kind is FaultKind.RACE and "has begun" in fault.message
    start = "@%first mbarrier.init.shared::cta.b64 [%b], 64; st.shared.u32 [%s], %t;"
    run(f"{start} {MEET} @%lead {use} {MEET} mov.u32 %r0, 0; {PUBLISH}", seed=seed)


def test_a_thread_arrives_and_waits_in_turn() -> None:
    fault = fault_of("barrier.cluster.arrive.aligned;" + MEET)
    assert fault.kind is FaultKind.BARRIER_MISUSE and "arrives again" in fault.message


# The barrier ------------------------------------------------------------------------------------------------


def test_threads_that_have_exited_need_not_arrive() -> None:
    assert (run("@%lead bra END;" + MEET + "mov.u32 %r0, 7;" + PUBLISH + "END:")[1] == 7).all()


def test_a_deadlock_says_which_program_has_not_arrived() -> None:
    fault = fault_of("@%lead bra SPIN; barrier.cluster.arrive; barrier.cluster.wait; ret; SPIN: bar.sync 1, 96;")
    assert fault.kind is FaultKind.DEADLOCK
    assert "misses 64 threads of program 0" in str(fault)


@pytest.mark.parametrize("seed", SEEDS)
def test_work_between_arrival_and_wait_is_not_in_order(seed: int | None) -> None:
    body = EXCHANGE.replace("st.shared.u32 [%s], %r1;" + MEET,
                            "barrier.cluster.arrive; st.shared.u32 [%s], %r1; barrier.cluster.wait;", 1)
    assert fault_of(body, seed=seed).kind is FaultKind.RACE


# Remote mbarriers -------------------------------------------------------------------------------------------

HAND_OVER = INIT + """
    @!%lead bra TAKE;
    @%first st.shared::cluster.u32 [%far], 7; @%first mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%farb];
    mov.u32 %r0, 7; bra DONE;
    TAKE: """ + WAIT.replace("try_wait.parity", "try_wait.parity.acquire.cluster") + """
    ld.shared.u32 %r0, [buffer+128];
    DONE: """ + MEET + PUBLISH


@pytest.mark.parametrize("seed", SEEDS)
def test_an_arrival_at_another_programs_mbarrier_hands_over_data(seed: int | None) -> None:
    assert (run(HAND_OVER, seed=seed) == 7).all()
    whole_barrier = replaced(HAND_OVER.replace(RELAXED, MEET), "@%first fence.mbarrier_init.release.cluster;", "")
    assert (run(whole_barrier, seed=seed) == 7).all()
    # The one that gives has waited for nothing since: the one that takes knows of all it did.
    assert (run(replaced(HAND_OVER, "DONE: " + MEET, "DONE: "), seed=seed) == 7).all()
    default_scope = HAND_OVER.replace(".release.cluster.shared", ".shared").replace(".acquire.cluster", "")
    assert (run(default_scope, seed=seed) == 7).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("old", "new", "kind"), [
    ("@%first fence.mbarrier_init.release.cluster;", "", FaultKind.RACE),
    (RELAXED, "", FaultKind.RACE), (RELAXED, "bar.sync 0;", FaultKind.RACE),
    ("arrive.release.cluster.shared::cluster", "arrive.relaxed.cluster.shared::cluster", FaultKind.RACE),
    ("@%first mbarrier.arrive.release", "@%done mbarrier.arrive.release", FaultKind.DEADLOCK),
    ("[%farb]", "[%b]", FaultKind.DEADLOCK), ("[%farb]", "[%farb+8]", FaultKind.BARRIER_MISUSE),
    ("shared::cluster.b64 _, [%farb]", "shared::cta.b64 _, [%farb]", FaultKind.OUT_OF_BOUNDS),
])  # fmt: skip
def test_what_is_missing_between_remote_mbarriers_is_found(
    old: str, new: str, kind: FaultKind, seed: int | None
) -> None:
    fault = fault_of(replaced(HAND_OVER, old, new), seed=seed)
    assert fault.kind is kind


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_are_expected_and_completed_remotely(seed: int | None) -> None:
    body = INIT + """
        @%p0 mbarrier.arrive.expect_tx.release.cluster.shared::cluster.b64 _, [%farb], 12;
        @%p0 mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [%farb], 4;
        @%p0 mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%farb], 16;
        @%lead bra DONE;""" + WAIT + "DONE: mov.u32 %r0, 3;" + MEET + PUBLISH
    assert (run(body, seed=seed) == 3).all()
    assert fault_of(body.replace("], 16;", "], 12;"), seed=seed).kind is FaultKind.DEADLOCK


# Multicast --------------------------------------------------------------------------------------------------

COPY = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
MULTICAST = INIT + f"""
    @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 256;
    add.u32 %r1, %b, 128; mov.b16 %mask, 3;
    @%p0 {COPY} [%r1], [%in], 256, [%b], %mask;
""" + WAIT + "ld.shared.u32 %r0, [%s];" + MEET + PUBLISH


@pytest.mark.parametrize("seed", SEEDS)
def test_a_multicast_copy_arrives_in_every_program(seed: int | None) -> None:
    assert (run(MULTICAST, seed=seed, programs=4) == np.arange(64) + 1).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("old", "new", "kind", "message"), [
    ("mov.b16 %mask, 3", "mov.b16 %mask, 1", FaultKind.DEADLOCK, "256 bytes are missing"),
    ("mov.b16 %mask, 3", "mov.b16 %mask, 5", FaultKind.OUT_OF_BOUNDS, "mask 0x5 of a cluster of 2"),
    ("mov.b16 %mask, 3", "mov.b16 %mask, 0", FaultKind.OUT_OF_BOUNDS, "mask 0x0 of a cluster of 2"),
    ("@%first mbarrier.arrive.expect", "@%p0 mbarrier.arrive.expect", FaultKind.DEADLOCK, "more than it was told"),
])  # fmt: skip
def test_a_multicast_copy_that_goes_wrong_is_found(
    old: str, new: str, kind: FaultKind, message: str, seed: int | None
) -> None:
    fault = fault_of(replaced(MULTICAST, old, new), seed=seed)
    assert fault.kind is kind
    assert message in str(fault)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_multicast_copy_is_used_in_order(seed: int | None) -> None:
    early = replaced(replaced(MULTICAST, WAIT, ""), MEET + PUBLISH, MEET + WAIT + PUBLISH)
    assert fault_of(early, seed=seed).kind in (FaultKind.ASYNC_NOT_WAITED, FaultKind.UNINITIALISED)
    unfenced = replaced(MULTICAST, "@%first fence.mbarrier_init.release.cluster;", "")
    assert fault_of(unfenced, seed=seed).kind in (FaultKind.RACE, FaultKind.MISSING_FENCE)


REUSE = INIT + """
    add.u32 %r1, %b, 16; @%p0 mbarrier.init.shared::cta.b64 [%r1], 2; @%p0 fence.mbarrier_init.release.cluster;
""" + RELAXED + f"""
    @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 256;
    mapa.shared::cluster.u32 %r4, %r1, 0; add.u32 %r2, %b, 128; mov.b16 %mask, 3;
    @%p0 {COPY} [%r2], [%in], 256, [%b], %mask;
""" + WAIT + f"""
    ld.shared.u32 %r0, [%s]; bar.sync 0;
    @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 256;
    @%first mbarrier.arrive.shared::cluster.b64 _, [%r4];
    @!%p0 bra NEXT;
    E: mbarrier.try_wait.parity.shared::cta.b64 %done, [%r1], 0; @!%done bra E;
    add.u64 %in, %in, 256;
    {COPY} [%r2], [%in], 256, [%b], %mask;
    NEXT: """ + WAIT.replace("W", "V").replace("[%b], 0", "[%b], 1") + """
    ld.shared.u32 %r5, [%s]; add.u32 %r0, %r0, %r5;
""" + MEET + PUBLISH


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slot_is_filled_again_when_all_programs_have_released_it(seed: int | None) -> None:
    assert (run(REUSE, seed=seed) == 2 * np.arange(64) + 66).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("old", "new"), [
    ("[%r1], 2; @%p0 fence", "[%r1], 1; @%p0 fence"),
    ("E: mbarrier.try_wait.parity.shared::cta.b64 %done, [%r1], 0; @!%done bra E;", ""),
    ("ld.shared.u32 %r0, [%s]; bar.sync 0;", "bar.sync 0;"),
], ids=["one arrival is enough", "nobody waits", "reads late"])  # fmt: skip
def test_a_slot_that_is_filled_again_too_early_is_a_race(old: str, new: str, seed: int | None) -> None:
    body = replaced(REUSE, old, new)
    if new == "bar.sync 0;":  # the read comes after the release
        body = replaced(body, "_, [%r4];", "_, [%r4]; ld.shared.u32 %r0, [%s];")
    # Arrivals that come twice may also end a phase too many.
    twice = {FaultKind.DEADLOCK, FaultKind.BARRIER_MISUSE} if "1; @%p0" in new else set()
    assert fault_of(body, seed=seed).kind in {FaultKind.RACE, FaultKind.ASYNC_NOT_WAITED} | twice


# Asynchronous stores ----------------------------------------------------------------------------------------

PUSH = INIT + """
    @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 256; add.u32 %r1, %g, 5;
    st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%far], %r1, [%farb];
""" + WAIT + "ld.shared.u32 %r0, [%s];" + MEET + PUBLISH


@pytest.mark.parametrize("seed", SEEDS)
def test_asynchronous_stores_arrive_with_their_mbarrier(seed: int | None) -> None:
    assert (run(PUSH, seed=seed, programs=4) == exchanged(4)).all()
    wide = """mad.lo.u32 %s, %t, 8, %b; add.u32 %s, %s, 128; mapa.shared::cluster.u32 %far, %s, %peer;"""
    pairs = replaced(PUSH, "bytes.b32 [%far], %r1", "bytes.v2.b32 [%far], {%r1, %r1}").replace("256;", "512;")
    assert (run(wide + pairs, seed=seed) == exchanged()).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("old", "new", "kinds"), [
    (WAIT, "", {FaultKind.ASYNC_NOT_WAITED, FaultKind.UNINITIALISED}), ("256;", "260;", {FaultKind.DEADLOCK}),
    ("[%farb];\n", "[%b];\n", {FaultKind.BARRIER_MISUSE}), ("[%farb];\n", "[%farb+8];\n", {FaultKind.BARRIER_MISUSE}),
    ("fence.mbarrier_init.release.cluster", "fence.acq_rel.cta", {FaultKind.RACE}),
    ("add.u32 %r1, %g, 5;", "st.shared.u32 [%s], %t; add.u32 %r1, %g, 5;",
     {FaultKind.RACE, FaultKind.ASYNC_NOT_WAITED}),
    ("[%far], %r1", "[%s], %r1", {FaultKind.BARRIER_MISUSE}),
])  # fmt: skip
def test_asynchronous_stores_that_go_wrong_are_found(
    old: str, new: str, kinds: set[FaultKind], seed: int | None
) -> None:
    assert fault_of(replaced(PUSH, old, new), seed=seed).kind in kinds
