"""Asynchronous work takes effect as late as the rules allow, so that programs that do not wait get wrong results even
where nothing is checked; what is never waited for is a fault.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel
from tests.emulator.test_bulk_rows import LOAD, MODULE, REGISTERS, START, STORE, WAIT, run_bulk
from texpr.emulator import Device, Fault, FaultKind, load_ptx
from texpr.emulator.tensor_maps import encode_tiled

DATA = np.arange(256, dtype=np.uint8)
ISSUE = LOAD.replace(WAIT, "")
FILL = "mad.lo.u32 %r0, %t, 4, %s; st.shared.b32 [%r0], 0x07070707; fence.proxy.async.shared::cta; bar.sync 0;"
COPY_OUT = """
    mad.lo.u32 %r0, %t, 4, %s; ld.shared.b32 %r1, [%r0]; mad.wide.u32 %x0, %t, 4, %out; st.global.b32 [%x0], %r1;
"""


def unchecked(body: str, seed: int | None = None) -> np.ndarray:
    text = kernel(START + "ld.param.u64 %in, [in]; ld.param.u64 %out, [out];" + body, ".param .u64 in, .param .u64 out",
                  declarations=REGISTERS, module=MODULE, target="sm_90a", threads=64)
    device, places, _ = run_kernel(text, {"in": DATA, "out": 256}, threads=64,
                                   device=Device(sm=90, seed=seed, checks=False))
    return np.frombuffer(device.read(places["out"], 256), np.uint8)


def fault_of(body: str) -> Fault:
    with pytest.raises(Fault) as caught:
        run_bulk(body, DATA, 256)
    return caught.value


def test_a_bulk_load_arrives_when_it_is_waited_for() -> None:
    assert (unchecked(FILL + ISSUE + COPY_OUT + WAIT) == 7).all()
    assert (unchecked(FILL + ISSUE + WAIT + COPY_OUT) == DATA).all()


def test_with_a_seed_a_bulk_load_may_arrive_at_any_time() -> None:
    """Some seeds deliver it before threads look that do not wait."""
    loop = "mov.u32 %r3, 0; L: add.u32 %r3, %r3, 1; setp.lt.u32 %p0, %r3, 20; @%p0 bra L;"
    seen = {int(unchecked(FILL + ISSUE + loop + COPY_OUT + WAIT, seed)[1]) for seed in range(12)}
    assert seen == {1, 7}


def test_a_load_arrives_although_its_mbarrier_is_only_polled() -> None:
    poll = "P: mbarrier.test_wait.parity.shared::cta.b64 %done, [%b], 0; @!%done bra P;"
    for seed in (None, 3):
        assert (run_bulk(ISSUE + poll + STORE, DATA, 256, seed=seed) == DATA).all()


def test_a_bulk_store_reads_its_source_when_that_is_waited_for() -> None:
    issue = LOAD + STORE.replace("cp.async.bulk.wait_group 0;", "")
    spoil = "bar.sync 0; mad.lo.u32 %r0, %t, 4, %s; st.shared.b32 [%r0], 0x07070707;"
    assert (unchecked(issue + spoil + "cp.async.bulk.wait_group 0;") == 7).all()
    assert (unchecked(issue + "cp.async.bulk.wait_group.read 0;" + spoil) == DATA).all()
    assert fault_of(issue + spoil + "cp.async.bulk.wait_group 0;").kind is FaultKind.ASYNC_NOT_WAITED


def test_a_bulk_store_writes_when_that_is_waited_for() -> None:
    """Waiting for the reading alone leaves the old content in place."""
    start = "mad.wide.u32 %x0, %t, 4, %out; st.global.b32 [%x0], 0x05050505; fence.proxy.async; bar.sync 0;" + LOAD
    look = "bar.sync 0; mad.wide.u32 %x0, %t, 4, %out; ld.global.b32 %r1, [%x0]; st.global.b32 [%x0+256], %r1;"
    for wait, expected in ((".read", np.full(256, 5, np.uint8)), ("", DATA)):
        body = start + STORE.replace("wait_group 0", f"wait_group{wait} 0") + look
        text = kernel(START + "ld.param.u64 %in, [in]; ld.param.u64 %out, [out];" + body,
                      ".param .u64 in, .param .u64 out", declarations=REGISTERS, module=MODULE, target="sm_90a",
                      threads=64)
        device, places, _ = run_kernel(text, {"in": DATA, "out": 512}, threads=64, device=Device(sm=90, checks=False))
        np.testing.assert_array_equal(np.frombuffer(device.read(places["out"] + 256, 256), np.uint8), expected)
        assert (np.frombuffer(device.read(places["out"], 256), np.uint8) == DATA).all()


# What is left at the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "text"), [
    (ISSUE, "cp.async.bulk.shared"),
    (LOAD + "@%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 64;", "expect_tx"),
    (LOAD + "@%first mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%b], 64;", "expect_tx"),
    (LOAD + STORE.replace("cp.async.bulk.commit_group;", ""), "cp.async.bulk.global"),
    (LOAD + STORE.replace("cp.async.bulk.wait_group 0;", ""), "cp.async.bulk.global"),
    (LOAD + STORE.replace("cp.async.bulk.wait_group 0;", "cp.async.bulk.wait_group 1;"), "cp.async.bulk.global"),
])  # fmt: skip
def test_what_nobody_waits_for_is_a_fault_at_the_end(body: str, text: str) -> None:
    for seed in (None, 1):
        with pytest.raises(Fault) as caught:
            run_bulk(body, DATA, 256, seed=seed)
        assert caught.value.kind is FaultKind.ASYNC_NOT_WAITED and text in caught.value.ptx_text


def test_a_reduction_ends_some_time_although_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may see it by polling."""
    monkeypatch.setattr("texpr.emulator.bulk_copies._LATEST", 50)
    poll = "P: ld.relaxed.gpu.global.b32 %r1, [%out]; setp.ne.u32 %p0, %r1, 0x03020100; @%p0 bra P;"
    reduce = "@%first cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%out], [%s], 256;"
    end = "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
    assert (run_bulk(LOAD + reduce + poll + end, DATA, np.zeros(256, np.uint8)) == DATA).all()


def test_a_store_that_has_read_its_source_may_finish_behind_the_program() -> None:
    assert (run_bulk(LOAD + STORE.replace("wait_group 0", "wait_group.read 0"), DATA, 256) == DATA).all()


# cp.async that reports to an mbarrier -----------------------------------------------------------------------

COPIES = """
    add.u32 %c1, %s, 2048; @%first mbarrier.init.shared::cta.b64 [%c1], COUNT; bar.sync 0;
    mad.lo.u32 %r0, %t, 4, %s; mad.wide.u32 %x0, %t, 4, %in; st.shared.b32 [%r0], 0x07070707;
    cp.async.ca.shared.global [%r0], [%x0], 4; cp.async.mbarrier.arrive.HOW.shared::cta.b64 [%c1]; OWN
"""
AWAIT = "V: mbarrier.try_wait.parity.shared::cta.b64 %done, [%c1], 0; @!%done bra V;"
NEIGHBOUR = """
    xor.b32 %r0, %t, 63; mad.lo.u32 %r0, %r0, 4, %s; ld.shared.b32 %r1, [%r0]; mad.wide.u32 %x0, %t, 4, %out;
    st.global.b32 [%x0], %r1;
"""


def copies(noinc: bool) -> str:
    """64 threads copy; without .noinc the mbarrier counts one arrival of its own."""
    own = "" if noinc else "@%first mbarrier.arrive.shared::cta.b64 _, [%c1];"
    text = COPIES.replace("COUNT", "64" if noinc else "1").replace("OWN", own)
    return text.replace(".HOW", ".noinc" if noinc else "")


@pytest.mark.parametrize("noinc", [True, False])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_copies_arrive_with_their_data(noinc: bool, seed: int | None) -> None:
    expected = DATA.view(np.uint32)[::-1]
    got = run_bulk(copies(noinc) + AWAIT + NEIGHBOUR, DATA, 256, seed=seed)
    np.testing.assert_array_equal(got.view(np.uint32), expected)


@pytest.mark.parametrize("noinc", [True, False])
def test_an_arrival_is_no_wait(noinc: bool) -> None:
    """Not even for the thread whose copy it is."""
    assert (unchecked(copies(noinc) + COPY_OUT + AWAIT) == 7).all()
    assert (unchecked(copies(noinc) + AWAIT + COPY_OUT) == DATA).all()
    assert fault_of(copies(noinc) + COPY_OUT + AWAIT).kind is FaultKind.ASYNC_NOT_WAITED
    assert fault_of(copies(noinc)).kind is FaultKind.ASYNC_NOT_WAITED


@pytest.mark.parametrize("arrival", [
    "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%c1];", "mbarrier.arrive.shared::cta.b64 _, [%c1];",
])  # fmt: skip
@pytest.mark.parametrize("where", ["before", "behind"])
def test_an_arrival_publishes_what_was_written_before_it(arrival: str, where: str) -> None:
    write = "mad.lo.u32 %r0, %t, 4, %s; st.shared.b32 [%r0], %t;"
    arrive = write + arrival if where == "before" else arrival + write
    body = "add.u32 %c1, %s, 2048; @%first mbarrier.init.shared::cta.b64 [%c1], 64; bar.sync 0;" + arrive + AWAIT
    if where == "before":
        run_bulk(body + NEIGHBOUR, DATA, 256)
    else:
        assert fault_of(body + NEIGHBOUR).kind is FaultKind.RACE


@pytest.mark.parametrize("seed", [None, *range(6)])
def test_copies_of_two_mbarriers_arrive_in_any_order(seed: int | None) -> None:
    """The second one arrives first: what the first one counts is still written when that was said."""
    second = """
        @%first mbarrier.init.shared::cta.b64 [%c1+8], 64; bar.sync 0;
        cp.async.ca.shared.global [%r0+512], [%x0], 4; cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%c1+8];
    """
    await_second = AWAIT.replace("[%c1]", "[%c1+8]").replace("V", "U")
    use = "xor.b32 %r0, %t, 63; mad.lo.u32 %r0, %r0, 4, %s; ld.shared.b32 %r1, [%r0];"
    end = await_second + "ld.shared.b32 %r2, [%r0+512];" + NEIGHBOUR
    for group in ("", "cp.async.wait_all;"):
        got = run_bulk(copies(True) + second + group + AWAIT + use + end, DATA, 256, seed=seed)
        np.testing.assert_array_equal(got.view(np.uint32), DATA.view(np.uint32)[::-1])


def test_an_mbarrier_outlives_the_copies_that_report_to_it() -> None:
    end = "cp.async.wait_all; bar.sync 0; @%first mbarrier.inval.shared::cta.b64 [%c1];"
    run_bulk(copies(True) + AWAIT + end, DATA, 256)
    assert fault_of(copies(True) + end).kind is FaultKind.BARRIER_MISUSE


def test_a_wait_for_the_group_lands_copies_that_also_report() -> None:
    got = run_bulk(copies(True) + "cp.async.wait_all;" + COPY_OUT + AWAIT, DATA, 256)
    np.testing.assert_array_equal(got, DATA)


# Initialisation ---------------------------------------------------------------------------------------------


def test_a_copy_reports_to_an_mbarrier_whose_initialisation_is_fenced() -> None:
    bare = START.replace("fence.proxy.async.shared::cta;", "{}")
    rest = "ld.param.u64 %in, [in]; ld.param.u64 %out, [out];" + LOAD + STORE

    def go(fence: str) -> None:
        text = kernel(bare.format(fence) + rest, ".param .u64 in, .param .u64 out", declarations=REGISTERS,
                      module=MODULE, target="sm_90a", threads=64)
        run_kernel(text, {"in": DATA, "out": 256}, threads=64, device=Device(sm=90))

    go("fence.proxy.async.shared::cta;")
    go("fence.mbarrier_init.release.cluster;")
    go("@%first fence.mbarrier_init.release.cluster;")
    # Without a fence, with one of another memory, or with one by a warp that cannot know of the initialisation:
    other = "setp.ge.u32 %p0, %t, 32; @%p0 fence.{}"
    for fence in ("", "fence.proxy.async.global;", other.format("mbarrier_init.release.cluster;"),
                  other.format("proxy.async;")):
        with pytest.raises(Fault, match="initialisation") as caught:
            go(fence)
        assert caught.value.kind is FaultKind.MISSING_FENCE


def test_memory_of_an_invalidated_mbarrier_holds_nothing() -> None:
    end = LOAD + "bar.sync 0; @%first mbarrier.inval.shared::cta.b64 [%b]; bar.sync 0;"
    run_bulk(end + "@%first st.shared.b64 [%b], 0; @%first ld.shared.b64 %x0, [%b];", DATA, 256)
    assert fault_of(end + "@%first ld.shared.b64 %x0, [%b];").kind is FaultKind.UNINITIALISED


# Tensor maps that a kernel makes ----------------------------------------------------------------------------

MAKE_MAP = """
    setp.lt.u32 %p0, %t, 32; mov.u64 %m, given; mul.wide.u32 %x1, %t, 4; add.u64 %m, %m, %x1;
    @%p0 ld.param.b32 %r0, [%m]; mad.lo.u32 %r1, %t, 4, %s; @%p0 st.shared.b32 [%r1+1024], %r0;
    bar.warp.sync -1; add.u32 %r1, %s, 1024; cvt.u64.u32 %x1, %r1; add.u64 %x0, %out, 0;
    @%p0 tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%x0], [%x1], 128;
"""
ACQUIRE = "fence.proxy.tensormap::generic.acquire.gpu [%x0], 128;"
USE_MAP = """
    @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 256;
    @%first cp.async.bulk.tensor.1d.shared::cta.global.mbarrier::complete_tx::bytes [%s], [%x0, {0}], [%b];
""" + WAIT


@pytest.mark.parametrize(("fence", "clean"), [
    ("@%p0 " + ACQUIRE + "bar.sync 0;", True),
    ("bar.sync 0;" + ACQUIRE, True),
    ("bar.sync 0;", False),
    ("@%p0 " + ACQUIRE.replace("acquire", "release").replace("[%x0], 128", "") + "bar.sync 0;", False),
    ("bar.sync 0; @!%p0 " + ACQUIRE, False),
    ("@%p0 " + ACQUIRE.replace("%x0", "%x0+128") + "bar.sync 0;", False),
])  # fmt: skip
def test_a_map_is_acquired_before_it_is_used(fence: str, clean: bool) -> None:
    device = Device(sm=90)
    source, place = device.alloc(256, "in"), device.alloc(256, "map")
    device.write(source, DATA)
    body = START + "ld.param.u64 %out, [out];" + MAKE_MAP + fence + USE_MAP
    text = kernel(body, ".param .align 64 .b8 given[128], .param .u64 out", declarations=REGISTERS, module=MODULE,
                  target="sm_90a", threads=64)
    params = [encode_tiled(0, source, (256,), (), (256,)), place.to_bytes(8, "little")]
    if clean:
        device.launch(load_ptx(text), "test", (1,), (64,), params=params)
        return
    with pytest.raises(Fault, match=r"not acquired by a fence\.proxy\.tensormap") as caught:
        device.launch(load_ptx(text), "test", (1,), (64,), params=params)
    assert caught.value.kind is FaultKind.MISSING_FENCE
