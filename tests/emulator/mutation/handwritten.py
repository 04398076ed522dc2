"""Hand-written Gluon kernels of classes that the compiler does not make yet, with calls and their expected results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.emulator.compiled import Compiled, compile_kernel, run_compiled
from tests.emulator.compiled_hopper import Hopper, compile_hopper, run_hopper
from tests.emulator.mutation.calls import Buffer, Built, Call, Launch
from texpr.emulator import Device, LaunchStats, PtxModule

_Arrays = Mapping[str, np.ndarray]
_SCALE = 0.25


class _Recorder(Device):
    """A device that notes its launch, and the memory before it."""

    launched: Launch | None = None
    buffers: tuple[Buffer, ...] = ()

    def launch(
        self,
        module: PtxModule,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        shared: int = 0,
        params: Sequence[bytes] = (),
        cluster: Sequence[int] | None = None,
    ) -> LaunchStats:
        self.buffers = tuple(Buffer.of(allocation) for allocation in self.memory.live())
        together = None if cluster is None else tuple(cluster)
        self.launched = Launch(kernel, tuple(grid), tuple(block), shared, tuple(params), together)
        return super().launch(module, kernel, grid, block, shared, params, cluster)


def _record(
    label: str, sm: int, run: Callable[[Device], Any], expected: _Arrays, tolerance: float = 0.0, batch: int = 16
) -> Call:
    """The call that `run` makes on the device that it is given; `expected` are buffers as they must be afterwards."""
    device = _Recorder(sm=sm, batch=batch)
    run(device)
    assert device.launched is not None
    places = {buffer.name: buffer.address for buffer in device.buffers}

    def judge(after: Device) -> str:
        for name, values in expected.items():
            missing = after.unwritten(places[name], values.nbytes)
            if missing:
                return f"{missing} bytes of {name} are not written"
            got = np.frombuffer(after.read(places[name], values.nbytes), values.dtype).reshape(values.shape)
            error = np.abs(got.astype(np.float64) - values.astype(np.float64))
            if not (error <= tolerance).all():
                return f"{np.count_nonzero(~(error <= tolerance))} of {values.size} elements of {name} are wrong"
        return ""

    return Call(label, sm, device.buffers, (device.launched,), judge, batch)


def _built(kernel: Compiled | Hopper, calls: Sequence[Call]) -> Built:
    compiled = kernel.compiled if isinstance(kernel, Hopper) else kernel
    return Built({compiled.name: compiled.ptx}, tuple(calls))


def _integers(seed: int, shape: tuple[int, ...], dtype: Any = np.float16, most: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(-most, most + 1, shape).astype(dtype)


def _tensors(
    kernel: Hopper,
    label: str,
    arguments: Mapping[str, np.ndarray | int],
    grid: tuple[int, ...],
    maps: tuple[str, ...],
    expected: _Arrays,
    *,
    tolerance: float = 0.0,
    changed: bool = False,
    sm: int = 90,
    batch: int = 16,
) -> Call:
    """A call through `run_hopper`. With `changed` the expected buffers have a value before the call as well."""
    outputs = () if changed else tuple(expected)

    def run(device: Device) -> None:
        run_hopper(kernel, arguments, grid, maps=maps, outputs=outputs, device=device)

    return _record(label, sm, run, expected, tolerance, batch)


def tensor_copy() -> Built:
    signature = (("source", "fp32[32,32]"), ("target", "fp32[32,32]"))
    kernel = compile_hopper("tma_add_one", signature, (("BM", 32), ("BN", 32)))
    calls = []
    for rows, columns in ((32, 32), (40, 36), (70, 44)):
        x = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
        grid = (-(-rows // 32), -(-columns // 32))
        arguments = {"source": x, "target": np.empty_like(x)}
        calls.append(_tensors(kernel, f"{rows} x {columns}", arguments, grid, ("source", "target"), {"target": x + 1}))
    return _built(kernel, calls)


def wgmma_product() -> Built:
    signature = (("a", "fp16[64,64]"), ("b", "fp16[64,64]"), ("c", "fp32[64,64]"), ("K", "i32"))
    kernel = compile_hopper("wgmma_gemm", signature, (("STAGES", 3), ("WARPS", 4), ("KM", False)))
    calls = []
    for rows, columns, depth in ((64, 64, 64), (64, 64, 384), (100, 72, 200)):
        a, b = _integers(depth, (rows, depth)), _integers(depth + 1, (depth, columns))
        c = a.astype(np.float32) @ b.astype(np.float32)
        arguments = {"a": a, "b": b, "c": np.empty_like(c), "K": depth}
        grid = (-(-rows // 64), -(-columns // 64))
        calls.append(_tensors(kernel, f"{rows} x {columns} x {depth}", arguments, grid, ("a", "b", "c"), {"c": c}))
    return _built(kernel, calls)


def specialised_product() -> Built:
    signature = (*((name, "fp16[64,64]") for name in "abc"), ("M", "i32"), ("N", "i32"), ("K", "i32"))
    kernel = compile_hopper("specialised_gemm", signature, (("STAGES", 3), ("WARPS", 4)))
    calls = []
    for rows, columns, depth, programs in ((64, 64, 64, 1), (128, 64, 320, 1), (136, 136, 200, 3)):
        a, b = _integers(depth, (rows, depth), most=2), _integers(depth + 1, (depth, columns), most=2)
        c = (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16)
        arguments = {"a": a, "b": b, "c": np.empty_like(c), "M": rows, "N": columns, "K": depth}
        label = f"{rows} x {columns} x {depth} by {programs}"
        calls.append(_tensors(kernel, label, arguments, (programs,), ("a", "b", "c"), {"c": c}))
    return _built(kernel, calls)


def stored_product() -> Built:
    """wgmma on operands that the threads stored."""
    from triton.experimental.gluon import language as gl

    layout = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=16, rank=2)
    constants = (("BM", 64), ("BN", 32), ("BK", 32), ("WARPS", 4), ("A_LAYOUT", layout), ("B_LAYOUT", layout),
                 ("A_REGISTERS", False), ("B_TURNED", False))
    signature = (("a", "*fp16"), ("b", "*fp16"), ("c", "*fp32"))
    kernel = compile_hopper("wgmma_tile", signature, constants, divisible=("a", "b", "c"))
    a, b = _integers(4, (64, 32)), _integers(5, (32, 32))
    c = a.astype(np.float32) @ b.astype(np.float32)
    call = _tensors(kernel, "64 x 32 x 32", {"a": a, "b": b, "c": np.empty_like(c)}, (1,), (), {"c": c})
    return _built(kernel, [call])


def _attention_data(heads: int, length: int, width: int, causal: bool) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(length)
    arrays = [rng.standard_normal((heads, length, width)).astype(np.float16) for _ in range(3)]
    q, k, v = (array.astype(np.float64) for array in arrays)
    scores = q @ k.transpose(0, 2, 1) * (_SCALE * np.log(2))
    if causal:
        scores = np.where(np.tril(np.ones((length, length), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return arrays, (weights @ v / weights.sum(-1, keepdims=True)).astype(np.float16)


def attention() -> Built:
    constants = (("BM", 64), ("BN", 32), ("D", 32), ("STAGES", 3), ("SCALE", _SCALE))
    signature = (*((name, "*fp16") for name in "qkvo"), ("N", "i32"))
    kernel = compile_hopper("attention", signature, constants, sm=80, divisible=tuple("qkvo"), kernels="class_kernels")
    calls = []
    for length in (17, 65, 160):
        (q, k, v), o = _attention_data(2, length, 32, causal=True)
        arguments = {"q": q, "k": k, "v": v, "o": np.empty_like(o), "N": length}
        grid = (-(-length // 64), 2)
        calls.append(_tensors(kernel, f"N={length}", arguments, grid, (), {"o": o}, tolerance=5e-3, sm=80))
    return _built(kernel, calls)


def attention_by_tensor_copies() -> Built:
    signature = (*((name, "fp16[1,64,64]") for name in "qkvo"), ("N", "i32"))
    constants = (("STAGES", 2), ("SCALE", _SCALE))
    kernel = compile_hopper("attention_by_tensor_copies", signature, constants, kernels="class_kernels")
    calls = []
    for length in (40, 200):
        (q, k, v), o = _attention_data(2, length, 64, causal=False)
        arguments = {"q": q, "k": k, "v": v, "o": np.empty_like(o), "N": length}
        grid = (-(-length // 64), 2)
        calls.append(_tensors(kernel, f"N={length}", arguments, grid, tuple("qkvo"), {"o": o}, tolerance=5e-3))
    return _built(kernel, calls)


def specialised_sums() -> Built:
    signature = (("source", "fp32[32,32]"), ("target", "*fp32"), ("rows", "i32"))
    constants = (("STAGES", 2),)
    kernel = compile_hopper("specialised_column_sums", signature, constants, kernels="class_kernels")
    calls = []
    for rows in (20, 200):
        x = _integers(rows, (rows, 64), np.float32)
        arguments = {"source": x, "target": np.empty(64, np.float32), "rows": rows}
        calls.append(_tensors(kernel, f"{rows} rows", arguments, (2,), ("source",), {"target": x.sum(0)}))
    return _built(kernel, calls)


def histogram() -> Built:
    signature = (("x", "*i32"), ("counts", "*i32"), ("n", "i32"))
    kernel = compile_kernel("histogram", 80, signature, (("BLOCK", 512), ("BINS", 64)))
    calls = []
    for n in (1, 500, 1900):
        x = np.random.default_rng(n).integers(0, 64, n).astype(np.int32)
        counts = np.zeros(64, np.int32)

        def run(device: Device, x: np.ndarray = x, n: int = n, counts: np.ndarray = counts) -> None:
            run_compiled(kernel, {"x": x, "counts": counts, "n": n}, (-(-n // 512),),
                         outputs={"counts": ((64,), np.int32)}, device=device)

        calls.append(_record(f"n={n}", 80, run, {"counts": np.bincount(x, minlength=64).astype(np.int32)}))
    return _built(kernel, calls)


def histogram_by_match() -> Built:
    signature = (("x", "*i32"), ("counts", "*i32"), ("n", "i32"))
    constants = (("BLOCK", 512), ("BINS", 64))
    kernel = compile_hopper("histogram_by_match", signature, constants, sm=80, kernels="class_kernels")
    calls = []
    for n, programs in ((1, 1), (700, 2), (1900, 2)):
        x = np.random.default_rng(n).integers(0, 64, n).astype(np.int32)
        arguments = {"x": x, "counts": np.zeros(64, np.int32), "n": n}
        expected = {"counts": np.bincount(x, minlength=64).astype(np.int32)}
        calls.append(_tensors(kernel, f"n={n}", arguments, (programs,), (), expected, changed=True, sm=80))
    return _built(kernel, calls)


def look_back() -> Built:
    signature = (("x", "*i32"), ("y", "*i32"), ("state", "*i64"), ("ticket", "*i32"), ("n", "i32"))
    kernel = compile_hopper("look_back", signature, (("BLOCK", 256),), sm=80, divisible=("x", "y", "state"),
                            kernels="class_kernels")
    calls = []
    for n, together in ((200, 16), (256 * 5 + 3, 8), (256 * 9, 4)):
        tiles = -(-n // 256)
        x = _integers(n, (n,), np.int32, 100)
        arguments = {"x": x, "y": np.zeros(n, np.int32), "state": np.zeros(tiles, np.int64),
                     "ticket": np.zeros(1, np.int32), "n": n}
        expected = {"y": np.cumsum(x, dtype=np.int32)}
        calls.append(_tensors(kernel, f"n={n}", arguments, (tiles,), (), expected, changed=True, sm=80, batch=together))
    return _built(kernel, calls)


def chained_scan() -> Built:
    signature = (("x", "*i32"), ("y", "*i32"), ("flags", "*i32"), ("sums", "*i32"), ("n", "i32"))
    kernel = compile_hopper("chained_scan", signature, (("BLOCK", 256),), sm=80, divisible=("x", "y"),
                            kernels="class_kernels")
    calls = []
    for n in (200, 256 * 5 + 3):
        tiles = -(-n // 256)
        x = _integers(n, (n,), np.int32, 100)
        arguments = {"x": x, "y": np.zeros(n, np.int32), "flags": np.zeros(tiles, np.int32),
                     "sums": np.zeros(tiles, np.int32), "n": n}
        expected = {"y": np.cumsum(x, dtype=np.int32)}
        calls.append(_tensors(kernel, f"n={n}", arguments, (tiles,), (), expected, changed=True, sm=80, batch=8))
    return _built(kernel, calls)


def sum_by_last_program() -> Built:
    signature = (("x", "*i32"), ("parts", "*i32"), ("counter", "*i32"), ("y", "*i32"), ("n", "i32"))
    kernel = compile_hopper("sum_by_last_program", signature, (("BLOCK", 256), ("PROGRAMS", 32)), sm=80,
                            divisible=("x", "parts"), kernels="class_kernels")
    calls = []
    for n, together in ((100, 16), (256 * 6 + 1, 16), (256 * 20, 4)):
        programs = -(-n // 256)
        x = _integers(n, (n,), np.int32, 100)
        arguments = {"x": x, "parts": np.empty(programs, np.int32), "counter": np.zeros(1, np.int32),
                     "y": np.empty(1, np.int32), "n": n}

        def run(device: Device, arguments: Any = arguments, programs: int = programs) -> None:
            run_hopper(kernel, arguments, (programs,), outputs=("parts", "y"), device=device)

        calls.append(_record(f"n={n}", 80, run, {"y": x.sum(keepdims=True, dtype=np.int32)}, batch=together))
    return _built(kernel, calls)


def sparse_convolution() -> Built:
    constants = (("BM", 64), ("BN", 32), ("CI", 32), ("STAGES", 3))
    signature = (("features", "*fp16"), ("weights", "*fp16"), ("neighbours", "*i32"), ("offsets", "*i32"),
                 ("out", "*fp16"), ("R", "i32"), ("CO", "i32"))
    kernel = compile_hopper("sparse_convolution", signature, constants, sm=80, kernels="class_kernels",
                            divisible=("features", "weights", "neighbours", "offsets", "out", "CO"))
    calls = []
    for rows, columns, density in ((40, 16, 0.3), (100, 48, 0.3), (70, 32, 0.02)):
        calls.append(_sparse_call(kernel, rows, columns, density))
    return _built(kernel, calls)


def _sparse_call(kernel: Hopper, rows: int, columns: int, density: float) -> Call:
    rng = np.random.default_rng(rows)
    features, weights = _integers(rows, (rows, 32), most=2), _integers(rows + 1, (27, 32, columns), most=2)
    neighbours = np.where(rng.random((27, rows)) < density, rng.integers(0, rows, (27, rows)), -1).astype(np.int32)
    tiles = -(-rows // 64)
    used = (neighbours >= 0).astype(np.int64)
    offsets = np.array([
        sum(1 << o for o in range(27) if used[o, tile * 64 : tile * 64 + 64].any()) for tile in range(tiles)
    ], np.int32)  # fmt: skip
    padded = np.vstack([features, np.zeros((1, 32), np.float16)]).astype(np.float32)
    out = np.zeros((rows, columns), np.float32)
    for offset in range(27):
        out += padded[neighbours[offset]] @ weights[offset].astype(np.float32)
    arguments = {"features": features, "weights": weights, "neighbours": neighbours, "offsets": offsets,
                 "out": np.empty((rows, columns), np.float16), "R": rows, "CO": columns}
    label = f"{rows} rows, {columns} channels, {density} full"
    grid = (tiles, -(-columns // 32))
    return _tensors(kernel, label, arguments, grid, (), {"out": out.astype(np.float16)}, tolerance=0.51, sm=80)
