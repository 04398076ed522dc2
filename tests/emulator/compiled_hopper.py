"""Compiles the Gluon kernels of `hopper_kernels.py` and launches them with tensor maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from tests.emulator.compiled import Compiled
from texpr.emulator import Device, LaunchStats, load_ptx
from texpr.emulator.tensor_maps import encode_tiled

# The Triton numbers of element types that the driver numbers differently.
_DRIVER_TYPES = {8: 10, 9: 8, 10: 9}


@dataclass(frozen=True)
class Hopper:
    """A compiled kernel; `maps` has, per tensor map argument, (element type, element bytes, swizzle, box)."""

    compiled: Compiled
    maps: tuple[tuple[int, int, int, tuple[int, ...]], ...]
    scratch: int = 0
    cluster: int = 1


@cache
def compile_hopper(
    name: str, signature: tuple[tuple[str, str], ...], constants: tuple[tuple[str, Any], ...], *, warps: int = 4,
    sm: int = 90, divisible: tuple[str, ...] = (), kernels: str = "hopper_kernels", ctas: int = 1,
) -> Hopper:
    """Compile `kernels.name`. A signature names a tensor map as `kind[extent,extent]`; behind a `@` come the parts of
    a tile that the programs of a cluster have, a vector per bit of the program's number: `fp16[256,64]@1,0/0,0`."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    function = getattr(import_module(f"tests.emulator.{kernels}"), name)
    kinds = {argument: _tensor_kind(kind) for argument, kind in signature}
    kinds |= {constant: "constexpr" for constant, _ in constants}
    attributes = {(function.arg_names.index(argument),): [["tt.divisibility", 16]] for argument in divisible}
    source = GluonASTSource(
        function, {argument: kinds[argument] for argument in function.arg_names}, dict(constants), attributes
    )
    options = {"num_warps": warps, "num_ctas": ctas}
    kernel = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    metadata = kernel.metadata
    maps = tuple(
        (_DRIVER_TYPES.get(m["elem_type"], m["elem_type"]), m["elem_size"], m["swizzle"], tuple(m["block_size"]))
        for m in metadata.tensordesc_meta or ()
    )
    compiled = Compiled(str(kernel.asm["ptx"]), metadata.name, metadata.shared, 32 * metadata.num_warps)
    return Hopper(compiled, maps, metadata.global_scratch_size, metadata.num_ctas)


def _tensor_kind(kind: str) -> str:
    from triton.experimental.gluon import language as gl

    if "[" not in kind:
        return kind
    element, _, extents = kind.partition("[")
    dtype = {"fp16": gl.float16, "bf16": gl.bfloat16, "fp32": gl.float32, "i8": gl.int8, "i32": gl.int32,
             "fp8e4nv": gl.float8e4nv, "fp8e5": gl.float8e5}[element]
    extents, _, parts = extents.partition("@")
    shape = [int(extent) for extent in extents.rstrip("]").split(",")]
    bases = [[int(number) for number in part.split(",")] for part in parts.split("/")] if parts else []
    layout = gl.NVMMASharedLayout.get_default_for(shape, dtype, cga_layout=bases)
    return f"tensordesc<{element}[{extents},{layout!r}>"


def run_hopper(
    hopper: Hopper,
    arguments: Mapping[str, np.ndarray | int],
    grid: Sequence[int],
    *,
    maps: Sequence[str] = (),
    outputs: Sequence[str] = (),
    device: Device | None = None,
) -> tuple[dict[str, np.ndarray], LaunchStats]:
    """Launch; arguments in `maps` are passed as tensor maps, outputs start as NaNs or -1 that nobody has written. The
    grid counts clusters, if the kernel has some."""
    compiled = hopper.compiled
    module = load_ptx(compiled.ptx, f"{compiled.name}.ptx")
    device = Device(sm=int("".join(c for c in module.target if c.isdigit()))) if device is None else device
    params: list[bytes] = []
    places: dict[str, int] = {}
    descriptions = iter(hopper.maps)
    for name, value in arguments.items():
        if isinstance(value, int):
            params.append(value.to_bytes(4, "little", signed=True))
            continue
        places[name] = device.alloc(value.nbytes, name)
        if name not in outputs:
            device.write(places[name], value)
        if name not in maps:
            params.append(places[name].to_bytes(8, "little"))
            continue
        kind, size, swizzle, box = next(descriptions)
        strides = [int(np.prod(value.shape[axis + 1 :])) for axis in range(value.ndim)]
        outer = [stride * size for stride in strides[-2::-1]]
        params.append(encode_tiled(kind, places[name], value.shape[::-1], outer, box[::-1], swizzle=swizzle))
        params += [extent.to_bytes(4, "little") for extent in value.shape]
        params += [stride.to_bytes(8, "little") for stride in strides]
    if hopper.scratch:
        params.append(device.alloc(hopper.scratch * int(np.prod(grid)), "scratch").to_bytes(8, "little"))
    params += [bytes(8)] * (len(module.kernels[compiled.name].params) - len(params))
    blocks = (grid[0] * hopper.cluster, *grid[1:])
    stats = device.launch(
        module, compiled.name, blocks, (compiled.threads,), compiled.shared, params, cluster=(hopper.cluster,)
    )
    results = {}
    for name in outputs:
        value = arguments[name]
        assert isinstance(value, np.ndarray)
        results[name] = np.frombuffer(device.read(places[name], value.nbytes), value.dtype).reshape(value.shape)
    return results, stats
