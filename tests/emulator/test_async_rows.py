"""cp.async: sizes, zero fill, commit groups, and data that lands only when it is waited for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, Fault, FaultKind

REGISTERS = ".reg .b32 %t, %s, %n, %r<8>; .reg .b64 %in, %out, %x<4>; .reg .pred %p;"
START = """
    mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
    mad.wide.u32 %in, %t, 16, %in; mad.wide.u32 %out, %t, 16, %out; mov.u32 %s, buffer; mad.lo.u32 %s, %t, 16, %s;
"""
STORE = "ld.shared.v4.b32 {%r0, %r1, %r2, %r3}, [%s]; st.global.v4.b32 [%out], {%r0, %r1, %r2, %r3};"
FILL = "st.shared.v4.b32 [%s], {7, 7, 7, 7};"


def copy_kernel(body: str) -> str:
    return kernel(START + body, ".param .u64 in, .param .u64 out", declarations=REGISTERS,
                  module=".extern .shared .align 16 .b8 buffer[];")


def run_copy(body: str, device: Device | None = None) -> np.ndarray:
    data = np.arange(128, dtype=np.uint32) + 1
    device, addresses, _ = run_kernel(copy_kernel(body), {"in": data, "out": 512}, shared=1024, device=device)
    return np.frombuffer(device.read(addresses["out"], 512), np.uint32).reshape(32, 4)


DATA = (np.arange(128, dtype=np.uint32) + 1).reshape(32, 4)


@pytest.mark.parametrize(("opcode", "size"), [("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)])
def test_copies_of_each_size(opcode: str, size: int) -> None:
    got = run_copy(FILL + f"cp.async.{opcode}.shared.global [%s], [%in], {size}; cp.async.wait_all;" + STORE)
    expected = np.where(np.arange(4) < size // 4, DATA, 7)
    np.testing.assert_array_equal(got, expected)


def test_bytes_beyond_the_source_size_are_zero() -> None:
    body = FILL + """
        and.b32 %n, %t, 31; min.u32 %n, %n, 16;
        cp.async.cg.shared.global [%s], [%in], 16, %n;
        cp.async.commit_group; cp.async.wait_group 0;
    """ + STORE
    got = run_copy(body).view(np.uint8).reshape(32, 16)
    kept = np.arange(16) < np.minimum(np.arange(32), 16)[:, None]
    np.testing.assert_array_equal(got, np.where(kept, DATA.view(np.uint8).reshape(32, 16), 0))


def test_a_source_of_size_zero_is_not_touched() -> None:
    body = "mov.u64 %x0, 0; cp.async.ca.shared.global [%s], [%x0], 16, 0; cp.async.wait_all;" + STORE
    assert (run_copy(body) == 0).all()


def test_hints_are_accepted() -> None:
    body = """
        createpolicy.fractional.L2::evict_first.b64 %x0, 1.0;
        cp.async.cg.shared.global.L2::cache_hint.L2::128B [%s], [%in], 16, 16, %x0; cp.async.wait_all;
    """ + STORE
    np.testing.assert_array_equal(run_copy(body), DATA)


def test_waiting_for_a_group_leaves_later_groups_in_flight() -> None:
    """Without checks the late copy must not be visible: the old content is."""
    body = FILL + """
        cp.async.ca.shared.global [%s], [%in], 4; cp.async.commit_group;
        cp.async.ca.shared.global [%s+4], [%in+4], 4; cp.async.commit_group;
        cp.async.wait_group 1;
    """ + STORE
    got = run_copy(body, Device(sm=120, checks=False))
    np.testing.assert_array_equal(got, np.where(np.arange(4) == 0, DATA, 7))
    with pytest.raises(Fault) as fault:
        run_copy(body)
    assert fault.value.kind is FaultKind.ASYNC_NOT_WAITED
    assert "cp.async" not in fault.value.ptx_text and "ld.shared" in fault.value.ptx_text


def test_copies_that_nobody_waits_for_are_faults_at_the_end() -> None:
    data = {"in": np.zeros(128, np.uint32), "out": 4}
    for end in ("", "cp.async.commit_group;", "cp.async.commit_group; cp.async.wait_group 1;"):
        with pytest.raises(Fault) as fault:
            run_kernel(copy_kernel("cp.async.cg.shared.global [%s], [%in], 16;" + end), data, shared=1024)
        assert fault.value.kind is FaultKind.ASYNC_NOT_WAITED and "cp.async.cg" in fault.value.ptx_text


def test_groups_that_move_nothing_may_be_left_over() -> None:
    """A pipeline issues such copies behind the end of its input."""
    body = "cp.async.cg.shared.global [%s], [%in], 16, 0; setp.gt.u32 %p, %t, 99; @%p " \
           "cp.async.cg.shared.global [%s], [%in], 16; cp.async.commit_group;"
    run_kernel(copy_kernel(body), {"in": np.zeros(128, np.uint32), "out": 4}, shared=1024)


def test_only_lanes_that_wait_see_their_copies() -> None:
    body = FILL + """
        cp.async.cg.shared.global [%s], [%in], 16; cp.async.commit_group;
        setp.lt.u32 %p, %t, 16;
        @%p bra WAIT; bra DONE; WAIT: cp.async.wait_group 0; DONE:
    """ + STORE
    got = run_copy(body, Device(sm=120, checks=False))
    np.testing.assert_array_equal(got, np.where(np.arange(32)[:, None] < 16, DATA, 7))
