"""Compiles Gluon kernels to PTX without a GPU and runs them on the emulator."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from texpr.emulator import Device, LaunchStats, PtxModule, load_ptx

# Not the user's cache; kept between runs.
os.environ.setdefault("TRITON_CACHE_DIR", str(Path(__file__).parents[2] / "build" / "test-cache" / "triton"))


@dataclass(frozen=True)
class Compiled:
    """PTX and what a launch needs to know."""

    ptx: str
    name: str
    shared: int
    threads: int


@cache
def compile_kernel(
    name: str, sm: int, signature: tuple[tuple[str, str], ...], constants: tuple[tuple[str, Any], ...],
    divisible: tuple[str, ...] = (),
) -> Compiled:
    """Compile `gluon_kernels.name`; `divisible` arguments are promised to be multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    from tests.emulator import gluon_kernels

    function = getattr(gluon_kernels, name)
    kinds = dict(signature) | {constant: "constexpr" for constant, _ in constants}
    attributes = {(function.arg_names.index(argument),): [["tt.divisibility", 16]] for argument in divisible}
    source = GluonASTSource(
        function, {argument: kinds[argument] for argument in function.arg_names}, dict(constants), attributes
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", sm, 32), options={"num_warps": 4})
    metadata = kernel.metadata
    return Compiled(str(kernel.asm["ptx"]), metadata.name, metadata.shared, 32 * metadata.num_warps)


def run_compiled(
    compiled: Compiled,
    arguments: Mapping[str, np.ndarray | int],
    grid: Sequence[int],
    *,
    outputs: Mapping[str, tuple[tuple[int, ...], type]],
    device: Device | None = None,
    module: PtxModule | None = None,
) -> tuple[dict[str, np.ndarray], LaunchStats]:
    """Launch with arrays and 32-bit integers in the kernel's order; outputs start unwritten (or from an array)."""
    module = load_ptx(compiled.ptx, f"{compiled.name}.ptx") if module is None else module
    sm = int("".join(character for character in module.target if character.isdigit()))
    device = Device(sm=sm) if device is None else device
    params, places = [], {}
    for name, value in arguments.items():
        if isinstance(value, int) and name not in outputs:
            params.append(value.to_bytes(4, "little", signed=True))
            continue
        size = int(np.prod(outputs[name][0])) * np.dtype(outputs[name][1]).itemsize if name in outputs else value.nbytes
        places[name] = device.alloc(size, name)
        if isinstance(value, np.ndarray):
            device.write(places[name], value)
        params.append(places[name].to_bytes(8, "little"))
    # Triton appends two pointers to scratch memory.
    params += [bytes(8)] * (len(module.kernels[compiled.name].params) - len(params))
    stats = device.launch(module, compiled.name, grid, (compiled.threads,), compiled.shared, params)
    results = {}
    for name, (shape, dtype) in outputs.items():
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        results[name] = np.frombuffer(device.read(places[name], count), dtype).reshape(shape)
    return results, stats


def compiled_copy(sm: int, vector: bool) -> Compiled:
    """`vector`: promise that the arguments are multiples of 16, so that accesses are 16 bytes wide."""
    signature = (("x", "*fp32"), ("y", "*fp32"), ("n", "i32"))
    return compile_kernel("copy", sm, signature, (("BLOCK", 512),), ("x", "y", "n") if vector else ())


def compiled_softmax(sm: int) -> Compiled:
    signature = (("x", "*fp32"), ("y", "*fp32"), ("columns", "i32"), ("stride", "i32"))
    return compile_kernel("softmax", sm, signature, (("BLOCK", 1024),), ("x", "y", "stride"))


def compiled_gemm(sm: int, kind: str, accumulator: str) -> Compiled:
    """64 x 64 tiles in three stages."""
    from triton.experimental.gluon import language as gl

    width = {"fp16": 2, "bf16": 2, "fp32": 1, "i8": 4, "fp8e4nv": 4, "fp8e5": 4}[kind]
    vector = {"fp16": 8, "bf16": 8, "fp32": 4, "i8": 16, "fp8e4nv": 16, "fp8e5": 16}[kind]
    layout = gl.NVMMADistributedLayout([2, 0], [2, 2], [16, 8])
    constants = (("BM", 64), ("BN", 64), ("BK", 8 * vector // 2), ("STAGES", 3), ("MMA", layout), ("KWIDTH", width),
                 ("VECTOR", vector))
    pointers = (("a", f"*{kind}"), ("b", f"*{kind}"), ("c", f"*{accumulator}"))
    signature = (*pointers, ("M", "i32"), ("N", "i32"), ("K", "i32"))
    return compile_kernel("gemm", sm, signature, constants, ("a", "b", "c", "N", "K"))
