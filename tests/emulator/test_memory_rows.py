"""Loads and stores in all spaces, widths and forms; generic addresses; local memory; parameters."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, load_ptx

LANE = "mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];"
REGISTERS = ".reg .b32 %t, %r<8>; .reg .b64 %in, %out, %a, %x<8>; .reg .b16 %h<8>; .reg .pred %p;"
PARAMS = ".param .u64 in, .param .u64 out"


def copy_kernel(body: str, **options: str) -> str:
    return kernel(LANE + body, PARAMS, declarations=REGISTERS, **options)


def run_copy(body: str, data: np.ndarray, size: int, *, shared: int = 0, module: str = "") -> np.ndarray:
    text = copy_kernel(body, module=module)
    device, addresses, _ = run_kernel(text, {"in": data, "out": size}, shared=shared)
    return np.frombuffer(device.read(addresses["out"], size), np.uint8)


@pytest.mark.parametrize(("form", "registers", "size"), [
    ("b8", "%h0", 1), ("b16", "%h0", 2), ("b32", "%r0", 4), ("b64", "%x0", 8),
    ("v2.b16", "{%h0, %h1}", 4), ("v4.b8", "{%h0, %h1, %h2, %h3}", 4), ("v2.b32", "{%r0, %r1}", 8),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", 16), ("v2.b64", "{%x0, %x1}", 16), ("v4.b16", "{%h0, %h1, %h2, %h3}", 8),
    ("v8.b32", "{%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}", 32), ("v4.b64", "{%x0, %x1, %x2, %x3}", 32),
])
@pytest.mark.parametrize("space", ["global", "shared"])
def test_every_width_copies_bytes(form: str, registers: str, size: int, space: str) -> None:
    data = np.random.default_rng(0).integers(0, 256, 32 * size).astype(np.uint8)
    through_shared = f"""
        mov.u64 %a, buffer; mad.wide.u32 %a, %t, {size}, %a;
        st.shared.{form} [%a], {registers}; ld.shared.{form} {registers}, [%a];
    """
    body = f"""
        mad.wide.u32 %in, %t, {size}, %in; mad.wide.u32 %out, %t, {size}, %out;
        ld.global.{form} {registers}, [%in];
        {through_shared if space == "shared" else ""}
        st.global.{form} [%out], {registers};
    """
    module = ".extern .shared .align 32 .b8 buffer[];"
    np.testing.assert_array_equal(run_copy(body, data, len(data), shared=32 * size, module=module), data)


@pytest.mark.parametrize(("load", "expected"), [
    ("ld.global.u8 %r0, [%in]", 0x81), ("ld.global.s8 %r0, [%in]", 0xFFFF_FF81),
    ("ld.global.b8 %r0, [%in+1]", 0x92), ("ld.global.u16 %r0, [%in]", 0x9281),
    ("ld.global.s16 %r0, [%in]", 0xFFFF_9281),
])
def test_narrow_loads_extend_into_wide_registers(load: str, expected: int) -> None:
    body = f"{load}; st.global.b32 [%out], %r0;"
    got = run_copy(body, np.array([0x81, 0x92, 0, 0], np.uint8), 4)
    assert got.view(np.uint32)[0] == expected


@pytest.mark.parametrize("opcode", [
    "ld.global.nc.L1::evict_last.b32", "ld.volatile.global.b32", "ld.relaxed.gpu.global.b32",
    "ld.acquire.sys.global.b32", "ld.global.ca.b32", "ld.global.L1::no_allocate.L2::128B.b32", "ld.weak.global.cg.b32",
])
def test_cache_and_order_modifiers_do_not_change_values(opcode: str) -> None:
    data = np.arange(32, dtype=np.uint32)
    body = f"""
        mad.wide.u32 %in, %t, 4, %in; mad.wide.u32 %out, %t, 4, %out;
        {opcode} %r0, [%in]; st.global.wb.b32 [%out], %r0;
    """
    np.testing.assert_array_equal(run_copy(body, data, 128).view(np.uint32), data)


def test_cache_policies_are_accepted_and_ignored() -> None:
    data = np.arange(32, dtype=np.uint32)
    body = """
        createpolicy.fractional.L2::evict_last.b64 %x0, 1.0;
        mad.wide.u32 %in, %t, 4, %in; mad.wide.u32 %out, %t, 4, %out;
        prefetch.global.L2 [%in];
        ld.global.L1::evict_first.L2::cache_hint.b32 %r0, [%in], %x0;
        st.global.L2::cache_hint.b32 [%out], %r0, %x0;
    """
    np.testing.assert_array_equal(run_copy(body, data, 128).view(np.uint32), data)


def test_guarded_vector_loads_read_only_where_the_guard_holds() -> None:
    data = np.arange(16, dtype=np.uint32)
    body = """
        setp.lt.u32 %p, %t, 4; mov.u32 %r0, 7; mov.u32 %r1, 7; mov.u32 %r2, 7; mov.u32 %r3, 7;
        mad.wide.u32 %in, %t, 16, %in; mad.wide.u32 %out, %t, 16, %out;
        @%p ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%in];
        st.global.v4.b32 [%out], {%r0, %r1, %r2, %r3};
    """
    got = run_copy(body, data, 512).view(np.uint32)
    np.testing.assert_array_equal(got, np.concatenate([data, np.full(112, 7)]))


def test_one_instruction_may_reach_several_buffers() -> None:
    text = kernel(
        """
        mov.u32 %t, %tid.x; ld.param.u64 %x0, [a]; ld.param.u64 %x1, [b]; ld.param.u64 %out, [out];
        and.b32 %r0, %t, 1; setp.ne.u32 %p, %r0, 0; selp.b64 %a, %x1, %x0, %p;
        mad.wide.u32 %a, %t, 4, %a; mad.wide.u32 %out, %t, 4, %out;
        ld.global.b32 %r1, [%a]; st.global.b32 [%out], %r1;
        add.u32 %r1, %r1, 1; st.global.b32 [%a], %r1;
        """,
        ".param .u64 a, .param .u64 b, .param .u64 out",
        declarations=REGISTERS,
    )
    a, b = np.arange(32, dtype=np.uint32), np.arange(100, 132, dtype=np.uint32)
    device, addresses, _ = run_kernel(text, {"a": a, "b": b, "out": 128})
    odd = np.arange(32) % 2 == 1
    got = np.frombuffer(device.read(addresses["out"], 128), np.uint32)
    np.testing.assert_array_equal(got, np.where(odd, b, a))
    np.testing.assert_array_equal(np.frombuffer(device.read(addresses["b"], 128), np.uint32), np.where(odd, b + 1, b))


def test_generic_addresses_lead_to_their_spaces() -> None:
    body = """
        mov.u64 %x0, buffer; mad.wide.u32 %x0, %t, 4, %x0; cvta.shared.u64 %x1, %x0;
        mov.u64 %x2, private; cvta.local.u64 %x3, %x2;
        mad.wide.u32 %in, %t, 4, %in; cvta.global.u64 %x4, %in;
        mad.wide.u32 %out, %t, 4, %out;
        ld.b32 %r0, [%x4];
        st.b32 [%x1], %r0; add.u32 %r1, %r0, 1000; st.b32 [%x3], %r1;
        ld.shared.b32 %r2, [%x0]; ld.b32 %r3, [%x3]; ld.local.b32 %r4, [%x2];
        and.b32 %r5, %t, 1; setp.eq.u32 %p, %r5, 0; selp.b64 %a, %x1, %x3, %p;
        ld.b32 %r6, [%a];
        cvta.to.shared.u64 %x5, %x1; sub.u64 %x5, %x5, %x0; cvt.u32.u64 %r7, %x5;
        add.u32 %r6, %r6, %r7;
        isspacep.shared %p, %x1; selp.u32 %r7, 0, 5000, %p; add.u32 %r6, %r6, %r7;
        isspacep.global %p, %x3; selp.u32 %r7, 5000, 0, %p; add.u32 %r6, %r6, %r7;
        isspacep.global %p, %x4; selp.u32 %r7, 0, 5000, %p; add.u32 %r6, %r6, %r7;
        sub.u32 %r3, %r3, %r4; add.u32 %r6, %r6, %r3; sub.u32 %r2, %r2, %r0; add.u32 %r6, %r6, %r2;
        st.b32 [%out], %r6;
    """
    text = kernel(LANE + body, PARAMS, declarations=REGISTERS + ".local .align 4 .b8 private[16];",
                  module=".extern .shared .align 16 .b8 buffer[];")
    data = np.arange(32, dtype=np.uint32)
    device, addresses, _ = run_kernel(text, {"in": data, "out": 128}, shared=128)
    got = np.frombuffer(device.read(addresses["out"], 128), np.uint32)
    np.testing.assert_array_equal(got, np.where(data % 2 == 0, data, data + 1000))


def test_local_memory_is_private_to_a_thread() -> None:
    body = """
        and.b32 %r0, %t, 3; mul.lo.u32 %r0, %r0, 4; mov.u32 %r1, depot; add.u32 %r1, %r1, %r0;
        st.local.v4.b32 [depot], {0, 0, 0, 0}; st.local.b32 [%r1], %t;
        ld.local.v4.b32 {%r2, %r3, %r4, %r5}, [depot];
        mad.wide.u32 %out, %t, 16, %out; st.global.v4.b32 [%out], {%r2, %r3, %r4, %r5};
    """
    text = kernel(LANE + body, PARAMS, declarations=REGISTERS + ".local .align 16 .b8 depot[16];")
    device, addresses, _ = run_kernel(text, {"in": 16, "out": 512})
    got = np.frombuffer(device.read(addresses["out"], 512), np.uint32).reshape(32, 4)
    expected = np.zeros((32, 4), np.uint32)
    expected[np.arange(32), np.arange(32) % 4] = np.arange(32)
    np.testing.assert_array_equal(got, expected)


def test_module_variables_hold_their_initial_values() -> None:
    module = """
        .global .align 4 .b32 table[4] = {11, 22, 0x21, 44};
        .const .align 8 .b64 wide = 0x1122334455667788;
    """
    body = """
        and.b32 %r0, %t, 3; mov.u64 %a, table; mad.wide.u32 %a, %r0, 4, %a; ld.global.b32 %r1, [%a];
        ld.const.b32 %r2, [wide+4]; add.u32 %r1, %r1, %r2;
        mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %r1;
    """
    got = run_copy(body, np.zeros(1, np.uint8), 128, module=module).view(np.uint32)
    np.testing.assert_array_equal(got, np.array([11, 22, 33, 44] * 8) + 0x11223344)


def test_a_parameter_may_be_chosen_by_its_address() -> None:
    text = kernel(
        """
        mov.u32 %t, %tid.x; ld.param.u64 %out, [out];
        mov.b64 %x0, a; mov.b64 %x1, b; and.b32 %r0, %t, 1; setp.ne.u32 %p, %r0, 0; selp.b64 %a, %x1, %x0, %p;
        ld.param.b32 %r1, [%a]; mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %r1;
        """,
        ".param .u64 out, .param .u32 a, .param .u32 b",
        declarations=REGISTERS,
    )
    device = Device(sm=120)
    out = device.alloc(128, "out")
    params = [value.to_bytes(size, "little") for value, size in ((out, 8), (5, 4), (9, 4))]
    device.launch(load_ptx(text), "test", (1,), (32,), params=params)
    got = np.frombuffer(device.read(out, 128), np.uint32)
    np.testing.assert_array_equal(got, np.where(np.arange(32) % 2 == 1, 9, 5))


def test_parameters_of_every_size_arrive() -> None:
    text = kernel(
        """
        ld.param.u8 %r0, [byte]; ld.param.s16 %r1, [short]; ld.param.v2.b32 {%r2, %r3}, [blob+8];
        ld.param.f32 %f, [real];
        ld.param.u64 %out, [out]; st.global.v4.b32 [%out], {%r0, %r1, %r2, %r3}; st.global.b32 [%out+16], %f;
        """,
        ".param .u8 byte, .param .align 2 .b8 short[2], .param .align 16 .b8 blob[16], .param .f32 real,"
        ".param .u64 out",
        declarations=REGISTERS + ".reg .f32 %f;",
    )
    device = Device(sm=120)
    out = device.alloc(20, "out")
    module = load_ptx(text)
    assert [(p.name, p.size, p.align, p.offset) for p in module.kernels["test"].params] == [
        ("byte", 1, 1, 0), ("short", 2, 2, 2), ("blob", 16, 16, 16), ("real", 4, 4, 32), ("out", 8, 8, 40)]
    device.launch(module, "test", (1,), (32,), params=[
        b"\xf0", (-2).to_bytes(2, "little", signed=True), bytes(range(16)), np.float32(1.5).tobytes(),
        out.to_bytes(8, "little")])
    got = np.frombuffer(device.read(out, 20), np.uint32)
    assert list(got[:4]) == [0xF0, 0xFFFF_FFFE, 0x0B0A0908, 0x0F0E0D0C] and got[4:].view(np.float32)[0] == 1.5
