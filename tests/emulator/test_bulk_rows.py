"""Bulk and tensor copies: bytes, boxes of 1 to 5 dimensions, swizzles, reductions, and when data arrives."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, Fault, FaultKind, load_ptx
from texpr.emulator.tensor_maps import TensorMapError, decode, encode_tiled

REGISTERS = ".reg .b32 %t, %b, %s, %c<5>, %r<8>; .reg .b64 %in, %out, %m, %x<4>; .reg .pred %first, %done, %p<4>;"
MODULE = ".shared .align 1024 .b8 buffer[16384];"
START = """
    mov.u32 %t, %tid.x; mov.u32 %s, buffer; add.u32 %b, %s, 16320; setp.eq.u32 %first, %t, 0;
    @%first mbarrier.init.shared::cta.b64 [%b], 1; fence.proxy.async.shared::cta; bar.sync 0;
"""
WAIT = "W: mbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0; @!%done bra W;"
COMMIT_AND_WAIT = "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
rng = np.random.default_rng(59)


def run_bulk(body: str, data: np.ndarray, out: np.ndarray | int, *, seed: int | None = None) -> np.ndarray:
    text = kernel(START + "ld.param.u64 %in, [in]; ld.param.u64 %out, [out];" + body, ".param .u64 in, .param .u64 out",
                  declarations=REGISTERS, module=MODULE, target="sm_90a", threads=64)
    device, places, _ = run_kernel(text, {"in": data, "out": out}, threads=64, device=Device(sm=90, seed=seed))
    size = out if isinstance(out, int) else out.nbytes
    return np.frombuffer(device.read(places["out"], size), np.uint8)


LOAD = """
    @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 256;
    @%first cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%s], [%in], 256, [%b];
""" + WAIT
STORE = "@%first cp.async.bulk.global.shared::cta.bulk_group [%out], [%s], 256;" + COMMIT_AND_WAIT


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_bytes_go_in_and_out(seed: int | None) -> None:
    data = rng.integers(0, 256, 256).astype(np.uint8)
    np.testing.assert_array_equal(run_bulk(LOAD + STORE, data, 256, seed=seed), data)


@pytest.mark.parametrize(("operation", "kind", "dtype", "function"), [
    ("add", "u32", np.uint32, np.add), ("min", "s32", np.int32, np.minimum), ("max", "s64", np.int64, np.maximum),
    ("and", "b32", np.uint32, np.bitwise_and), ("xor", "b64", np.uint64, np.bitwise_xor),
    ("add.noftz", "f16", np.float16, np.add), ("add", "f32", np.float32, np.add),
    ("max", "f16", np.float16, np.maximum),
    ("inc", "u32", np.uint32, lambda a, b: np.where(a >= b, 0, a + 1)),
    ("dec", "u32", np.uint32, lambda a, b: np.where((a == 0) | (a > b), b, a - 1)),
])  # fmt: skip
def test_reductions(operation: str, kind: str, dtype: type, function: object) -> None:
    count = 256 // np.dtype(dtype).itemsize
    a, b = (rng.integers(0, 100, count).astype(dtype) for _ in range(2))
    body = LOAD + f"@%first cp.reduce.async.bulk.global.shared::cta.bulk_group.{operation}.{kind} [%out], [%s], 256;"
    got = run_bulk(body + COMMIT_AND_WAIT, b, a).view(dtype)
    np.testing.assert_array_equal(got, function(a, b))  # type: ignore[operator]


def test_sizes_must_be_multiples_of_16() -> None:
    with pytest.raises(Fault) as caught:
        run_bulk(LOAD.replace("256, [%b]", "40, [%b]"), np.zeros(256, np.uint8), 256)
    assert caught.value.kind is FaultKind.MISALIGNED


@pytest.mark.parametrize(("body", "kind"), [
    ("st.shared.b32 [%s], 1; bar.sync 0;" + STORE, FaultKind.UNINITIALISED),
    (LOAD + "bar.sync 0; mad.lo.u32 %r0, %t, 4, %s; st.shared.b32 [%r0], %t; bar.sync 0;" + STORE,
     FaultKind.MISSING_FENCE),
    (LOAD + STORE.replace(COMMIT_AND_WAIT, ""), FaultKind.ASYNC_NOT_WAITED),
    (LOAD.replace(WAIT, "") + "ld.shared.b32 %r0, [%s];", FaultKind.ASYNC_NOT_WAITED),
    (LOAD.replace(WAIT, ""), FaultKind.ASYNC_NOT_WAITED),
    (LOAD + STORE.replace("cp.async.bulk.wait_group 0;", "") + "@%first st.shared.b32 [%s], 1;",
     FaultKind.ASYNC_NOT_WAITED),
])  # fmt: skip
def test_missing_synchronisation_is_reported(body: str, kind: FaultKind) -> None:
    for seed in (None, 1):
        with pytest.raises(Fault) as caught:
            run_bulk(body, np.zeros(256, np.uint8), 256, seed=seed)
        # Under a seed another thread may read before the copy has even been issued.
        assert caught.value.kind in ({kind} if seed is None else {kind, FaultKind.UNINITIALISED})


def test_a_fence_of_one_warp_does_not_serve_the_others() -> None:
    """Warp 1 writes and does not fence; warp 0 fences before it can know of that write."""
    write = LOAD + "bar.sync 0; mad.lo.u32 %r0, %t, 4, %s; {} st.shared.b32 [%r0], %t; {} bar.sync 0; {}" + STORE
    fence = "fence.proxy.async.shared::cta;"
    data = np.zeros(256, np.uint8)
    with pytest.raises(Fault) as caught:
        run_bulk(write.format("", "setp.lt.u32 %p0, %t, 32; @%p0 " + fence, ""), data, 256)
    assert caught.value.kind is FaultKind.MISSING_FENCE
    run_bulk(write.format("", fence, ""), data, 256)
    run_bulk(write.format("", "", "setp.lt.u32 %p0, %t, 32; @%p0 " + fence), data, 256)


# Tensor copies ----------------------------------------------------------------------------------------------


def run_tensor(
    source: np.ndarray, box: tuple[int, ...], corner: tuple[int, ...], *, kind: int, swizzle: int = 0,
    target: np.ndarray | None = None, operation: str = "", seed: int | None = None, fill: int = 0,
    strides: tuple[int, ...] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Load a box at `corner` (outermost first) and store it to a tensor like it: (shared bytes, target)."""
    rank = source.ndim
    size = prod(box) * source.itemsize
    device = Device(sm=90, seed=seed)
    places = [device.alloc(source.nbytes, name) for name in ("source", "target")]
    device.write(places[0], source)
    device.write(places[1], np.zeros_like(source) if target is None else target)
    outer = [int(np.prod(source.shape[axis + 1 :])) * source.itemsize for axis in range(rank - 1)][::-1]
    maps = [encode_tiled(kind, place, source.shape[::-1], outer, box[::-1], swizzle=swizzle, fill=fill,
                         element_strides=strides or None) for place in places]
    shared = device.alloc(size, "shared")
    coordinates = ", ".join(str(c) for c in corner[::-1])
    opcode = f"cp.reduce.async.bulk.tensor.{rank}d.global.shared::cta.{operation}" if operation else (
        f"cp.async.bulk.tensor.{rank}d.global.shared::cta")
    body = START + f"""
        mov.u64 %m, source; cvta.param.u64 %m, %m;
        @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], {size};
        @%first cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes
            [%s], [%m, {{{coordinates}}}], [%b];
        {WAIT}
        ld.param.u64 %out, [shared];
        @%first cp.async.bulk.global.shared::cta.bulk_group [%out], [%s], {size};
        mov.u64 %m, target; cvta.param.u64 %m, %m;
        @%first {opcode}.tile.bulk_group [%m, {{{coordinates}}}], [%s];
        {COMMIT_AND_WAIT}
    """
    params = ".param .align 64 .b8 source[128], .param .align 64 .b8 target[128], .param .u64 shared"
    text = kernel(body, params, declarations=REGISTERS, module=MODULE, target="sm_90a", threads=32)
    device.launch(load_ptx(text), "test", (1,), (32,), params=[*maps, shared.to_bytes(8, "little")])
    inside = np.frombuffer(device.read(shared, size), np.uint8)
    return inside, np.frombuffer(device.read(places[1], source.nbytes), source.dtype).reshape(source.shape)


def window(source: np.ndarray, box: tuple[int, ...], corner: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The box with zeros outside of the tensor, and a tensor of zeros with only the box kept."""
    pad = 64
    wide = np.zeros([extent + 2 * pad for extent in source.shape] if source.ndim < 4 else
                    [extent + 16 for extent in source.shape], source.dtype)
    pad = pad if source.ndim < 4 else 8
    wide[tuple(slice(pad, pad + extent) for extent in source.shape)] = source
    inside = wide[tuple(slice(pad + c, pad + c + b) for c, b in zip(corner, box, strict=True))]
    kept = np.zeros_like(source)
    region = tuple(slice(max(c, 0), max(c + b, 0)) for c, b in zip(corner, box, strict=True))
    kept[region] = source[region]
    return inside, kept


@pytest.mark.parametrize(("shape", "box", "corner"), [
    ((100,), (32,), (80,)), ((100,), (32,), (-5,)), ((20, 40), (8, 16), (16, 30)), ((20, 40), (8, 16), (-3, -7)),
    ((6, 7, 24), (2, 4, 8), (5, 5, 20)), ((3, 4, 5, 16), (2, 2, 2, 8), (2, 3, 4, 12)),
    ((2, 3, 4, 5, 16), (2, 1, 2, 2, 8), (1, 2, 3, 4, -4)), ((20, 40), (8, 16), (30, 0)),
])  # fmt: skip
@pytest.mark.parametrize("seed", [None, 1])
def test_boxes_of_each_rank(
    shape: tuple[int, ...], box: tuple[int, ...], corner: tuple[int, ...], seed: int | None
) -> None:
    source = rng.integers(1, 1 << 30, shape).astype(np.uint32)
    inside, stored = run_tensor(source, box, corner, kind=2, seed=seed)
    expected, kept = window(source, box, corner)
    np.testing.assert_array_equal(inside.view(np.uint32).reshape(box), expected)
    np.testing.assert_array_equal(stored, kept)


@pytest.mark.parametrize(("kind", "dtype"), [(0, np.uint8), (1, np.uint16), (4, np.uint64), (6, np.float16)])
def test_elements_of_each_size(kind: int, dtype: type) -> None:
    source = rng.integers(1, 100, (9, 48)).astype(dtype)
    inside, stored = run_tensor(source, (4, 16), (7, 35), kind=kind)
    expected, kept = window(source, (4, 16), (7, 35))
    np.testing.assert_array_equal(inside.view(dtype).reshape(4, 16), expected)
    np.testing.assert_array_equal(stored, kept)


@pytest.mark.parametrize(("swizzle", "width"), [(1, 32), (2, 64), (3, 128)])
def test_swizzles(swizzle: int, width: int) -> None:
    """16-byte piece c of row r (each as wide as the pattern) lies at piece c xor (128-byte line number mod pieces)."""
    rows, pieces = 16, width // 16
    source = rng.integers(0, 1 << 30, (rows, width // 4)).astype(np.uint32)
    inside, stored = run_tensor(source, (rows, width // 4), (0, 0), kind=2, swizzle=swizzle)
    r, c = np.arange(rows)[:, None], np.arange(pieces)[None, :]
    swizzled = np.empty((rows, pieces, 4), np.uint32)
    swizzled[r, c ^ (r * width // 128 % pieces)] = source.reshape(rows, pieces, 4)
    np.testing.assert_array_equal(inside.view(np.uint32), swizzled.reshape(-1))
    np.testing.assert_array_equal(stored, source)


def test_outside_may_be_nan() -> None:
    inside, _ = run_tensor(np.ones((4, 16), np.float32), (4, 16), (2, 8), kind=7, fill=1)
    values = inside.view(np.float32).reshape(4, 16)
    assert (values[:2, :8] == 1).all() and np.isnan(values[2:]).all() and np.isnan(values[:, 8:]).all()


def test_tensor_reductions() -> None:
    source = rng.integers(0, 100, (8, 16)).astype(np.float32)
    old = rng.integers(0, 100, (8, 16)).astype(np.float32)
    _, stored = run_tensor(source, (8, 16), (0, 0), kind=7, target=old, operation="add")
    np.testing.assert_array_equal(stored, old + source)


def test_a_reduction_that_the_type_does_not_have() -> None:
    with pytest.raises(Fault) as caught:
        run_tensor(np.ones((8, 16), np.float32), (8, 16), (0, 0), kind=7, operation="xor")
    assert caught.value.kind is FaultKind.TENSOR_MAP


def test_a_map_that_reaches_behind_its_buffer() -> None:
    device = Device(sm=90)
    place = device.alloc(256, "small")
    device.write(place, np.zeros(256, np.uint8))
    body = START + """
        mov.u64 %m, map; cvta.param.u64 %m, %m; @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 512;
        @%first cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%s], [%m, {0, 0}], [%b];
    """ + WAIT
    text = kernel(body, ".param .align 64 .b8 map[128]", declarations=REGISTERS, module=MODULE, target="sm_90a")
    with pytest.raises(Fault) as caught:
        device.launch(load_ptx(text), "test", (1,), (32,), params=[encode_tiled(2, place, (16, 8), (64,), (16, 8))])
    assert caught.value.kind is FaultKind.OUT_OF_BOUNDS and caught.value.buffer == "small"
    with pytest.raises(Fault) as caught:
        device.launch(load_ptx(text), "test", (1,), (32,), params=[bytes(128)])
    assert caught.value.kind is FaultKind.TENSOR_MAP


def test_maps_survive_encoding() -> None:
    data = encode_tiled(9, 0x1000, (300, 20, 7), (640, 12800), (64, 20, 1), swizzle=3, promotion=2)
    found = decode(data)
    assert (len(data), found.dimensions, found.strides, found.box) == (128, (300, 20, 7), (640, 12800), (64, 20, 1))
    assert (found.type_name, found.element_bytes, found.swizzle, found.box_bytes) == ("bf16", 2, 3, 2560)


@pytest.mark.parametrize("wrong", [
    {"address": 8}, {"strides": (100,)}, {"box": (257, 8)}, {"box": (3, 8)}, {"box": (64, 8), "swizzle": 1},
    {"dimensions": (0, 8)}, {"element_type": 13}, {"interleave": 1}, {"fill": 1}, {"swizzle": 9}, {"strides": ()},
])  # fmt: skip
def test_maps_that_the_driver_refuses(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"element_type": 2, "address": 256, "dimensions": (64, 8), "strides": (256,),
                                    "box": (16, 8)}
    encode_tiled(**arguments)  # type: ignore[arg-type]
    with pytest.raises(TensorMapError):
        encode_tiled(**(arguments | wrong))  # type: ignore[arg-type]
