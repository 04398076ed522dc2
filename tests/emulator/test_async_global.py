"""Global memory that threads and bulk copies of one program share: fences, waits, and the order among threads."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.test_bulk_rows import COMMIT_AND_WAIT, LOAD, STORE, WAIT, run_bulk
from texpr.emulator import Fault, FaultKind

DATA = np.arange(256, dtype=np.uint8)
ZEROS = np.zeros(256, np.uint8)
PUT = "mad.wide.u32 %x0, %t, 4, %out; st.global.b32 [%x0], %t;"
GET = "xor.b32 %r0, %t, 63; mad.wide.u32 %x0, %r0, 4, %out; ld.global.b32 %r1, [%x0];"
SYNC = "bar.sync 0;"
LOAD_OUT = LOAD.replace("[%in]", "[%out]")
FENCE = "fence.proxy.async;"
WARP_0 = "setp.lt.u32 %p0, %t, 32; @%p0 "
REDUCE = "@%first cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%out], [%s], 256;"


def kind_of(body: str, out: np.ndarray | int = 256) -> FaultKind | None:
    try:
        run_bulk(body, DATA, out)
    except Fault as fault:
        assert fault.buffer in ("out", "in")
        return fault.kind
    return None


@pytest.mark.parametrize(("between", "kind"), [
    (FENCE + SYNC, None),
    ("fence.proxy.async.global;" + SYNC, None),
    (SYNC + WARP_0 + FENCE, None),
    (SYNC, FaultKind.MISSING_FENCE),
    (FENCE, FaultKind.MISSING_FENCE),
    ("fence.proxy.async.shared::cta;" + SYNC, FaultKind.MISSING_FENCE),
    (WARP_0 + FENCE + SYNC, FaultKind.MISSING_FENCE),
])  # fmt: skip
def test_a_copy_reads_what_threads_wrote_behind_a_fence(between: str, kind: FaultKind | None) -> None:
    assert kind_of(PUT + between + LOAD_OUT) is kind


def test_the_fault_names_the_writer() -> None:
    with pytest.raises(Fault, match=r"a write by thread 32 with no fence\.proxy\.async for global memory") as caught:
        run_bulk(PUT + WARP_0 + FENCE + SYNC + LOAD_OUT, DATA, 256)
    assert "cp.async.bulk.shared" in caught.value.ptx_text


@pytest.mark.parametrize(("between", "kind"), [
    (FENCE + SYNC, None), (SYNC, FaultKind.MISSING_FENCE), (FENCE, FaultKind.MISSING_FENCE),
])  # fmt: skip
@pytest.mark.parametrize("change", [STORE, REDUCE + COMMIT_AND_WAIT])
def test_a_copy_changes_what_threads_wrote_behind_a_fence(between: str, kind: FaultKind | None, change: str) -> None:
    assert kind_of(LOAD + PUT + between + change) is kind


@pytest.mark.parametrize(("wait", "kind"), [
    (COMMIT_AND_WAIT + SYNC, None),
    (COMMIT_AND_WAIT, FaultKind.ASYNC_NOT_WAITED),
    (COMMIT_AND_WAIT.replace("wait_group", "wait_group.read") + SYNC, FaultKind.ASYNC_NOT_WAITED),
    ("cp.async.bulk.commit_group; cp.async.bulk.wait_group 1;" + SYNC, FaultKind.ASYNC_NOT_WAITED),
])  # fmt: skip
@pytest.mark.parametrize("use", [GET, PUT, "@!%first red.global.add.u32 [%out], 1;"])
def test_threads_use_what_a_copy_wrote_behind_the_wait(wait: str, kind: FaultKind | None, use: str) -> None:
    assert kind_of(LOAD + STORE.replace(COMMIT_AND_WAIT, "") + wait + use + COMMIT_AND_WAIT, ZEROS) is kind


def test_the_issuer_needs_no_barrier() -> None:
    assert kind_of(LOAD + STORE + "@%first ld.global.b32 %r1, [%out];") is None


def test_what_a_copy_reads_is_not_overwritten_before_it_arrives() -> None:
    spoil = "mad.wide.u32 %x0, %t, 4, %in; st.global.b32 [%x0], 0;"
    assert kind_of(LOAD.replace(WAIT, "") + spoil + WAIT) is FaultKind.ASYNC_NOT_WAITED
    assert kind_of(LOAD + spoil) is None


def test_a_copy_reads_what_another_wrote_behind_the_wait() -> None:
    again = LOAD_OUT.replace("W:", "V:").replace("bra W", "bra V").replace("[%b], 0;", "[%b], 1;")
    store = STORE.replace(COMMIT_AND_WAIT, "cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;")
    assert kind_of(LOAD + STORE + again) is None
    assert kind_of(LOAD + store + again) is FaultKind.ASYNC_NOT_WAITED


def test_reductions_may_overlap_and_stores_may_not() -> None:
    both = REDUCE + REDUCE + COMMIT_AND_WAIT
    np.testing.assert_array_equal(run_bulk(LOAD + both, DATA, ZEROS).view(np.uint32), 2 * DATA.view(np.uint32))
    store = STORE.replace(COMMIT_AND_WAIT, "")
    assert kind_of(LOAD + store + store + COMMIT_AND_WAIT) is FaultKind.ASYNC_NOT_WAITED
    assert kind_of(LOAD + REDUCE + store + COMMIT_AND_WAIT, ZEROS) is FaultKind.ASYNC_NOT_WAITED
    assert kind_of(LOAD + REDUCE + "red.global.add.u32 [%out], 1;" + COMMIT_AND_WAIT, ZEROS) is None


def test_neighbours_of_a_copy_are_not_concerned() -> None:
    beside = PUT.replace("[%x0]", "[%x0+256]") + GET.replace("ld.global.b32 %r1, [%x0]", "ld.global.b8 %r1, [%in]")
    assert kind_of(LOAD + STORE.replace(COMMIT_AND_WAIT, "") + beside + COMMIT_AND_WAIT, 512) is None


def test_a_copy_that_reaches_outside_is_found_when_it_is_issued() -> None:
    with pytest.raises(Fault) as caught:
        run_bulk(LOAD.replace("[%in]", "[%in+16]").replace(WAIT, ""), DATA, 256)
    assert (caught.value.kind, caught.value.buffer) == (FaultKind.OUT_OF_BOUNDS, "in")
