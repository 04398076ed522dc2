"""shfl, vote, match, redux and their kin against the formulas of the PTX manual."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel, run_lanes

rng = np.random.default_rng(23)
LANES = np.arange(64)


def shuffled(mode: str, a: np.ndarray, b: int, c: int) -> tuple[np.ndarray, np.ndarray]:
    values, inside = np.empty_like(a), np.empty(len(a), bool)
    for thread in range(len(a)):
        lane, base = thread % 32, thread // 32 * 32
        clamp, segment = c & 31, (c >> 8) & 31
        last, first = (lane & segment) | (clamp & ~segment & 31), lane & segment
        source = {"up": lane - (b & 31), "down": lane + (b & 31), "bfly": lane ^ (b & 31),
                  "idx": first | (b & ~segment & 31)}[mode]
        inside[thread] = source >= last if mode == "up" else source <= last
        values[thread] = a[base + (source if inside[thread] else lane)]
    return values, inside


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(mode: str, width: int) -> None:
    a = rng.integers(0, 2**32, 64, dtype=np.uint32)
    segment = (32 - width) << 8
    c = segment if mode == "up" else segment | 31
    for b in (0, 1, 3, 9, 31):
        got = run_lanes(f"shfl.sync.{mode}.b32 %d|%p, %a, {b}, {c}, 0xffffffff; selp.b32 %e, 1, 0, %p;",
                        {"a": ("b32", a)}, {"d": "b32", "e": "b32"}, registers=".reg .pred %p;")
        values, inside = shuffled(mode, a, b, c)
        np.testing.assert_array_equal(got["d"], values)
        np.testing.assert_array_equal(got["e"], inside)


def test_a_shuffle_takes_its_lane_from_a_register() -> None:
    a = np.arange(64, dtype=np.uint32) * 10
    b = (np.arange(64, dtype=np.uint32) * 7) % 32
    got = run_lanes("shfl.sync.idx.b32 %d, %a, %b, 31, -1;", {"a": ("b32", a), "b": ("b32", b)}, {"d": "b32"})["d"]
    np.testing.assert_array_equal(got, a[LANES // 32 * 32 + b])


def test_votes() -> None:
    a = rng.integers(0, 2, 64).astype(np.uint32)
    a[32:] = 1
    body = """
        setp.ne.u32 %p, %a, 0;
        vote.sync.ballot.b32 %ballot, %p, 0xffffffff;
        vote.sync.any.pred %q, !%p, 0xffffffff; selp.b32 %any, 1, 0, %q;
        vote.sync.all.pred %q, %p, 0xffffffff; selp.b32 %all, 1, 0, %q;
        vote.sync.uni.pred %q, %p, 0xffffffff; selp.b32 %uni, 1, 0, %q;
        activemask.b32 %here;
    """
    outputs = {name: "b32" for name in ("ballot", "any", "all", "uni", "here")}
    got = run_lanes(body, {"a": ("b32", a)}, outputs, registers=".reg .pred %p, %q;")
    for warp in range(2):
        lanes = slice(32 * warp, 32 * warp + 32)
        flags = a[lanes].astype(bool)
        assert set(got["ballot"][lanes]) == {int((flags * (1 << np.arange(32))).sum())}
        assert set(got["any"][lanes]) == {int((~flags).any())}
        assert set(got["all"][lanes]) == {int(flags.all())}
        assert set(got["uni"][lanes]) == {int(flags.all() or not flags.any())}
    assert set(got["here"]) == {0xFFFF_FFFF}


@pytest.mark.parametrize("bits", [32, 64])
def test_matches(bits: int) -> None:
    a = rng.integers(0, 4, 64).astype(f"u{bits // 8}") << (bits - 8)
    a[32:] = 5
    body = f"""
        match.any.sync.b{bits} %any, %a, 0xffffffff;
        match.all.sync.b{bits} %all|%p, %a, 0xffffffff; selp.b32 %flag, 1, 0, %p;
    """
    got = run_lanes(body, {"a": (f"b{bits}", a)}, {"any": "b32", "all": "b32", "flag": "b32"},
                    registers=".reg .pred %p;")
    for thread in range(64):
        warp = a[thread // 32 * 32 : thread // 32 * 32 + 32]
        assert got["any"][thread] == int(((warp == a[thread]) * (1 << np.arange(32))).sum())
    assert set(got["all"][:32]) == {0} and set(got["all"][32:]) == {0xFFFF_FFFF}
    assert list(got["flag"]) == [0] * 32 + [1] * 32


@pytest.mark.parametrize(("operation", "function"), [
    ("add.u32", lambda x: x.sum(dtype=np.uint32)), ("add.s32", lambda x: x.sum(dtype=np.uint32)),
    ("min.u32", np.min), ("max.u32", np.max), ("max.s32", lambda x: x.view(np.int32).max().astype(np.uint32)),
    ("min.s32", lambda x: x.view(np.int32).min().astype(np.uint32)),
    ("and.b32", np.bitwise_and.reduce), ("or.b32", np.bitwise_or.reduce), ("xor.b32", np.bitwise_xor.reduce),
])
def test_reductions(operation: str, function) -> None:  # type: ignore[no-untyped-def]
    a = rng.integers(0, 2**32, 64, dtype=np.uint32)
    got = run_lanes(f"redux.sync.{operation} %d, %a, 0xffffffff;", {"a": ("b32", a)}, {"d": "b32"})["d"]
    np.testing.assert_array_equal(got, np.repeat([function(a[:32]), function(a[32:])], 32))


def test_members_of_half_a_warp() -> None:
    """Each half runs its own branch, with a member mask that names just that half."""
    text = kernel(
        """
        mov.u32 %t, %tid.x; ld.param.u64 %out, [out]; mad.wide.u32 %out, %t, 4, %out;
        setp.lt.u32 %p, %t, 16;
        @%p bra LOW;
        redux.sync.add.u32 %r, %t, 0xffff0000; elect.sync _|%q, 0xffff0000; bra DONE;
        LOW: redux.sync.add.u32 %r, %t, 0x0000ffff; elect.sync _|%q, 0x0000ffff;
        DONE: selp.b32 %e, 1000, 0, %q; add.u32 %r, %r, %e; st.global.b32 [%out], %r;
        """,
        ".param .u64 out",
        declarations=".reg .b32 %t, %r, %e; .reg .b64 %out; .reg .pred %p, %q;",
    )
    device, addresses, _ = run_kernel(text, {"out": 128})
    got = np.frombuffer(device.read(addresses["out"], 128), np.uint32)
    expected = np.repeat([sum(range(16)), sum(range(16, 32))], 16)
    expected[[0, 16]] += 1000
    np.testing.assert_array_equal(got, expected)


def test_special_registers() -> None:
    names = ["%tid.x", "%tid.y", "%ntid.x", "%ctaid.x", "%ctaid.y", "%nctaid.y", "%laneid", "%warpid",
             "%lanemask_lt", "%lanemask_le", "%lanemask_eq", "%lanemask_ge", "%lanemask_gt"]
    stores = "".join(f"mov.u32 %r, {name}; st.global.b32 [%out+{4 * i}], %r;" for i, name in enumerate(names))
    text = kernel(
        f"""
        mov.u32 %t, %tid.x; mov.u32 %r, %tid.y; mad.lo.u32 %t, %r, 8, %t;
        mov.u32 %r, %ctaid.x; mad.lo.u32 %t, %r, 64, %t; mov.u32 %r, %ctaid.y; mad.lo.u32 %t, %r, 128, %t;
        ld.param.u64 %out, [out]; mad.wide.u32 %out, %t, {4 * len(names)}, %out; {stores}
        """,
        ".param .u64 out",
        declarations=".reg .b32 %t, %r; .reg .b64 %out;",
    ).replace(".reqntid 32", ".reqntid 8, 8, 1")
    from texpr.emulator import Device, load_ptx

    device = Device(sm=120)
    size = 4 * len(names) * 64 * 6
    out = device.alloc(size)
    device.launch(load_ptx(text), "test", (2, 3), (8, 8), params=[out.to_bytes(8, "little")])
    rows = np.frombuffer(device.read(out, size), np.uint32).reshape(3, 2, 8, 8, len(names))
    for y in range(3):
        for x in range(2):
            for ty in range(8):
                for tx in range(8):
                    lane, warp = (8 * ty + tx) % 32, (8 * ty + tx) // 32
                    assert list(rows[y, x, ty, tx]) == [
                        tx, ty, 8, x, y, 3, lane, warp, (1 << lane) - 1, (2 << lane) - 1, 1 << lane,
                        0xFFFF_FFFF & ~((1 << lane) - 1), 0xFFFF_FFFF & ~((2 << lane) - 1)]
