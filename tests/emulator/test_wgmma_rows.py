"""wgmma on hand-written PTX: descriptors, signs, scales, and what may not be touched before the wait."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, Fault, FaultKind, load_ptx
from texpr.emulator.faults import PtxError

N, K = 16, 16
REGISTERS = """
    .reg .b32 %t, %s, %i, %r<8>, %d<8>, %a<4>, %e<8>; .reg .b64 %in, %out, %x<4>, %da, %db; .reg .pred %p<4>;
    .reg .b16 %h<2>;
"""
MODULE = ".shared .align 1024 .b8 buffer[4096];"
ZERO = " ".join(f"mov.u32 %d{i}, 0;" for i in range(8))
RESULT = "{" + ", ".join(f"%d{i}" for i in range(8)) + "}"
# 128 threads copy 64 x 16 of A to byte 0 and 16 x 16 of B to byte 2048, as 16-byte pieces in the order given.
START = """
    mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %s, buffer;
    mad.wide.u32 %x0, %t, 16, %in; ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%x0];
    mad.lo.u32 %i, %t, 16, %s; st.shared.v4.b32 [%i], {%r0, %r1, %r2, %r3};
    setp.lt.u32 %p0, %t, 32; add.u64 %x0, %x0, 2048;
    @%p0 ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%x0];
    @%p0 st.shared.v4.b32 [%i+2048], {%r0, %r1, %r2, %r3};
    fence.proxy.async.shared::cta; bar.sync 0;
"""
FENCE = "wgmma.fence.sync.aligned;"
COMMIT, WAIT = "wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;"
MULTIPLY = f"wgmma.mma_async.sync.aligned.m64n{N}k{K}.f32.f16.f16 {RESULT}, %da, %db, 1, 1, 1, 0, 0;"
STORE = """
    mad.wide.u32 %out, %t, 32, %out; st.global.v4.b32 [%out], {%d0, %d1, %d2, %d3};
    st.global.v4.b32 [%out+16], {%d4, %d5, %d6, %d7};
"""


def descriptor(register: str, offset: int, leading: int, stride: int) -> str:
    """No swizzle: 8 x 8 cores of 128 bytes."""
    bits = (leading >> 4) << 16 | (stride >> 4) << 32
    start = f"add.u32 %i, %s, {offset}; shr.u32 %i, %i, 4; cvt.u64.u32 {register}, %i;"
    return start + f"or.b64 {register}, {register}, {bits};"


A_AT, B_AT = descriptor("%da", 0, 1024, 128), descriptor("%db", 2048, 256, 128)


def cores(matrix: np.ndarray) -> np.ndarray:
    """[rows, 16] as 8 x 8 cores, those of one half of K after the other."""
    return np.ascontiguousarray(matrix.reshape(-1, 8, 2, 8).transpose(2, 0, 1, 3)).reshape(-1)


def run(body: str, a: np.ndarray, b: np.ndarray, *, seed: int | None = None) -> np.ndarray:
    """D of 64 x 16, from the registers."""
    text = kernel(START + A_AT + B_AT + ZERO + body + STORE, ".param .u64 in, .param .u64 out", declarations=REGISTERS,
                  module=MODULE, target="sm_90a", threads=128)
    data = np.concatenate([cores(a), cores(b)])
    device, places, _ = run_kernel(text, {"in": data, "out": 4096}, threads=128, device=Device(sm=90, seed=seed))
    raw = np.frombuffer(device.read(places["out"], 4096), np.float32).reshape(4, 8, 4, 2, 2, 2)
    # [warp, g, t, block of columns, half of rows, pair]
    return raw.transpose(0, 4, 1, 3, 2, 5).reshape(64, N)


rng = np.random.default_rng(61)
A = rng.integers(-8, 9, (64, K)).astype(np.float16)
B = rng.integers(-8, 9, (N, K)).astype(np.float16)
PRODUCT = A.astype(np.float32) @ B.astype(np.float32).T


@pytest.mark.parametrize("seed", [None, 1])
def test_a_product_without_swizzle(seed: int | None) -> None:
    np.testing.assert_array_equal(run(FENCE + MULTIPLY + COMMIT + WAIT, A, B, seed=seed), PRODUCT)


def test_products_accumulate_in_order() -> None:
    twice = FENCE + MULTIPLY + MULTIPLY + COMMIT + WAIT
    np.testing.assert_array_equal(run(twice, A, B), 2 * PRODUCT)
    fresh = FENCE + MULTIPLY + MULTIPLY.replace("%db, 1,", "%db, 0,") + COMMIT + WAIT
    np.testing.assert_array_equal(run(fresh, A, B), PRODUCT)


@pytest.mark.parametrize(("signs", "factor"), [("-1, 1", -1), ("1, -1", -1), ("-1, -1", 1)])
def test_signs(signs: str, factor: int) -> None:
    body = FENCE + MULTIPLY.replace("%db, 1, 1, 1,", f"%db, 1, {signs},") + COMMIT + WAIT
    np.testing.assert_array_equal(run(body, A, B), factor * PRODUCT)


def test_both_operands_may_be_given_by_columns() -> None:
    """MN-major without a swizzle: a core holds 8 depths of 8 rows, the offsets change their parts."""
    body = FENCE + MULTIPLY.replace("1, 1, 1, 0, 0;", "1, 1, 1, 1, 1;") + COMMIT + WAIT
    turned = [np.ascontiguousarray(m.reshape(-1, 8, 2, 8).transpose(0, 3, 2, 1)) for m in (A, B)]
    # cores() keeps [row block, half of K] cores of 8 x 8; each core is turned.
    a, b = (t.transpose(0, 3, 2, 1).reshape(-1, 8, 2, 8) for t in turned)
    a, b = (m.transpose(0, 3, 2, 1).reshape(-1, K) for m in (a, b))
    np.testing.assert_array_equal(run(body, a, b), PRODUCT)


def fault_of(body: str) -> Fault:
    with pytest.raises(Fault) as caught:
        run(body, A, B)
    return caught.value


SECOND = MULTIPLY.replace(RESULT, "{" + ", ".join(f"%e{i}" for i in range(8)) + "}")
A_OF_RESULT = SECOND.replace("%da,", "{%d0, %d1, %d2, %d3},").replace("1, 1, 1, 0, 0;", "1, 1, 1, 0;")
USES = {
    "read": "add.f32 %r0, %d0, %d1;",
    "stored": "mad.wide.u32 %x0, %t, 32, %out; st.global.b32 [%x0], %d0;",
    "stored as a vector": "mad.wide.u32 %x0, %t, 32, %out; st.global.v4.b32 [%x0], {%r0, %r1, %r2, %d3};",
    "stored to shared memory": "bar.sync 0; mad.lo.u32 %i, %t, 4, %s; st.shared.b32 [%i+3072], %d0;",
    "converted": "cvt.rn.f16x2.f32 %r0, %d0, %d1;",
    "compared": "setp.eq.f32 %p1, %d0, %d1;",
    "shuffled": "shfl.sync.bfly.b32 %r0, %d0, 1, 31, 0xffffffff;",
    "read by some lanes": "setp.lt.u32 %p1, %t, 5; @%p1 add.f32 %r0, %d0, %d1;",
    "written": "add.f32 %d0, %r0, %r1;",
    "loaded": "mad.lo.u32 %i, %t, 16, %s; ld.shared.b32 %d0, [%i];",
    "moved over": "mov.b32 %d0, %r0;",
    "moved over by some lanes": "setp.lt.u32 %p1, %t, 5; @%p1 mov.b32 %d0, %r0;",
    "an address": "and.b32 %r0, %t, 31; mov.b32 %r1, %d0; ld.shared.b32 %r0, [%r1];",
    "a barrier's number": "bar.sync %d0;",
    "moved, then read": "mov.b32 %r0, %d0; add.f32 %r1, %r0, %r0;",
    "moved on and on, then read": "mov.b32 %r0, %d0; mov.b32 %r1, %r0; mov.b32 %r2, %r1; add.f32 %r3, %r2, %r2;",
    "unpacked, then read": "mov.b32 {%h0, %h1}, %d0; add.u16 %h0, %h0, %h1;",
    "packed, then read": "mov.b64 %x1, {%d0, %d1}; add.u64 %x1, %x1, %x1;",
    "A of another product": A_OF_RESULT + COMMIT,
    "a descriptor": "mov.b64 %x1, {%d0, %d1};" + SECOND.replace("%da", "%x1") + COMMIT,
}  # fmt: skip
HARMLESS_BEHIND_THE_WAIT = set(USES) - {"an address", "a barrier's number", "a descriptor", "A of another product"}


@pytest.mark.parametrize("name", list(USES))
def test_accumulators_may_not_be_used_before_the_wait(name: str) -> None:
    fault = fault_of(FENCE + MULTIPLY + COMMIT + USES[name] + WAIT)
    assert fault.kind is FaultKind.ACCUMULATOR
    assert ("wgmma" in fault.ptx_text) == (name in ("A of another product", "a descriptor"))
    if name in HARMLESS_BEHIND_THE_WAIT:
        run(FENCE + MULTIPLY + COMMIT + WAIT + USES[name], A, B)


def test_a_copy_of_an_accumulator_may_be_moved_over_it() -> None:
    """What a loop does with the registers it carries."""
    back = "mov.b32 %r0, %d0; mov.b32 %d0, %r0;"
    np.testing.assert_array_equal(run(FENCE + MULTIPLY + COMMIT + back + WAIT, A, B), PRODUCT)


@pytest.mark.parametrize("write", ["add.u32 %a0, %t, 1;", "mov.b32 %a0, %t;", "mov.b32 %a0, {%h0, %h1};"])
def test_a_registers_may_not_be_written_before_the_wait(write: str) -> None:
    product = MULTIPLY.replace("%da,", "{%a0, %a1, %a2, %a3},").replace("1, 1, 1, 0, 0;", "1, 1, 1, 0;")
    start = " ".join(f"mov.b32 %a{i}, 0;" for i in range(4)) + FENCE + product + COMMIT
    assert fault_of(start + write + WAIT).kind is FaultKind.ACCUMULATOR
    run(start + WAIT + write, A, B)


def test_one_warps_wait_is_not_the_others() -> None:
    """A product of four warps; three of them wait."""
    wait = "setp.lt.u32 %p1, %t, 96; @%p1 " + WAIT
    assert fault_of(FENCE + MULTIPLY + COMMIT + wait + "add.f32 %r0, %d0, %d1;" + WAIT).kind is FaultKind.ACCUMULATOR


def test_a_wait_for_fewer_groups_leaves_the_last_in_flight() -> None:
    second = MULTIPLY.replace(RESULT, "{" + ", ".join(f"%e{i}" for i in range(8)) + "}").replace("%db, 1,", "%db, 0,")
    body = FENCE + MULTIPLY + COMMIT + second + COMMIT + "wgmma.wait_group.sync.aligned 1;"
    run(body + "add.f32 %r0, %d0, %d0;" + WAIT, A, B)
    assert fault_of(body + "add.f32 %r0, %e0, %e0;" + WAIT).kind is FaultKind.ACCUMULATOR


OVERWRITES = {
    "store": "st.shared.b32 [%i], 0;",
    "atomic": "red.shared.add.u32 [%i], 1;",
    "copy": "cp.async.ca.shared.global [%i], [%in], 16; cp.async.wait_all;",
    "matrix store": "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%i], {%r0};",
    "mbarrier": "setp.eq.u32 %p1, %t, 0; @%p1 mbarrier.init.shared.b64 [%s], 1;",
}  # fmt: skip


@pytest.mark.parametrize("name", list(OVERWRITES))
def test_no_way_to_overwrite_operands_in_flight_is_overlooked(name: str) -> None:
    """So a product may be computed at once: its operands cannot have changed by the wait."""
    overwrite = "bar.sync 0; mad.lo.u32 %i, %t, 16, %s;" + OVERWRITES[name]
    assert fault_of(FENCE + MULTIPLY + COMMIT + overwrite + WAIT).kind is FaultKind.ASYNC_NOT_WAITED
    run(FENCE + MULTIPLY + COMMIT + WAIT + overwrite, A, B)


def test_operands_may_not_be_overwritten_before_the_wait() -> None:
    overwrite = "bar.sync 0; mad.lo.u32 %i, %t, 16, %s; st.shared.b32 [%i], 0;"
    assert fault_of(FENCE + MULTIPLY + COMMIT + overwrite + WAIT).kind is FaultKind.ASYNC_NOT_WAITED
    run(FENCE + MULTIPLY + COMMIT + WAIT + overwrite, A, B)
    # Each warp must have waited: one that goes ahead overwrites what the others' products may still read.
    assert fault_of(FENCE + MULTIPLY + COMMIT + WAIT + overwrite.replace("bar.sync 0;", "")).kind is FaultKind.RACE


def test_registers_must_be_fenced_before_a_product() -> None:
    assert fault_of(MULTIPLY + COMMIT + WAIT).kind is FaultKind.MISSING_FENCE
    for use in ("mov.b32 %d0, 0;", "add.f32 %d0, %d0, %d1;", "add.f32 %r0, %d0, %d1;", "mov.b32 %r0, %d0;"):
        again = FENCE + MULTIPLY + COMMIT + WAIT + use
        assert fault_of(again + MULTIPLY + COMMIT + WAIT).kind is FaultKind.MISSING_FENCE
        run(again + FENCE + MULTIPLY + COMMIT + WAIT, A, B)
    run(FENCE + MULTIPLY + COMMIT + WAIT + MULTIPLY + COMMIT + WAIT, A, B)


def test_a_fence_comes_before_the_first_product_of_each_warp() -> None:
    """Even if its registers are fresh."""
    fresh = SECOND.replace("%db, 1,", "%db, 0,") + COMMIT + WAIT
    run(FENCE + fresh, A, B)
    assert "first wgmma" in fault_of(fresh).message
    assert fault_of("setp.lt.u32 %p1, %t, 96; @%p1 " + FENCE + fresh).thread == (96, 0, 0)


@pytest.mark.parametrize(("end", "reason"), [
    (COMMIT, "wait for its group"), ("", "never committed"), (WAIT, "never committed"),
    (COMMIT + WAIT.replace("0;", "1;"), "wait for its group"),
])  # fmt: skip
def test_what_nobody_waits_for_is_reported_at_the_end(end: str, reason: str) -> None:
    text = kernel(START + A_AT + B_AT + ZERO + FENCE + MULTIPLY + end, ".param .u64 in, .param .u64 out",
                  declarations=REGISTERS, module=MODULE, target="sm_90a", threads=128)
    with pytest.raises(Fault) as caught:
        run_kernel(text, {"in": np.concatenate([cores(A), cores(B)]), "out": 4096}, threads=128, device=Device(sm=90))
    assert caught.value.kind is FaultKind.ASYNC_NOT_WAITED and "wgmma.mma_async" in caught.value.ptx_text
    assert reason in caught.value.message


def test_a_descriptor_outside_of_shared_memory() -> None:
    far = "or.b64 %da, %da, 16383;"
    fault = fault_of(far + FENCE + MULTIPLY + COMMIT + WAIT)
    assert fault.kind is FaultKind.OUT_OF_BOUNDS and "descriptor" in fault.message


@pytest.mark.parametrize(("body", "message"), [
    (MULTIPLY.replace("1, 1, 1, 0, 0;", "1, 1, 1, 0;"), "4 constants expected"),
    (MULTIPLY.replace("1, 1, 1, 0, 0;", "1, 2, 1, 0, 0;"), "are not two signs"),
    (MULTIPLY.replace("%d7", "%d7, %e0"), "8 registers expected"),
    ("setmaxnreg.dec.sync.aligned.u32 20;", "multiple of 8"),
])  # fmt: skip
def test_wrong_operands_do_not_bind(body: str, message: str) -> None:
    with pytest.raises(PtxError, match=message):
        run(body, A, B)


def test_shapes_that_do_not_exist_do_not_load() -> None:
    with pytest.raises(PtxError, match="m64n12k16"):
        load_ptx(kernel(MULTIPLY.replace("n16k16", "n12k16"), declarations=REGISTERS))
