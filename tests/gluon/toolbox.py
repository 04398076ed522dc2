"""Compiles emitted kernels with Triton (no GPU needed) and runs their PTX on the emulator."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from texpr.aot.ir import KernelSource
from texpr.aot.kernel_text import kernel_module
from texpr.emulator.tensor_maps import encode_tiled
from texpr.gluon.emit import emit
from texpr.lang.arrays import decode, encode, storage_dtype
from texpr.math.expr import evaluate
from texpr.targets import TARGETS
from texpr.tile.declarations import IntParam, PointerParam, PresentParam, ScalarParam, TensorMapParam
from texpr.tile.ir import TileProgram

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorMapFacts:
    """How the driver is to encode a tensor map: its numbers of the element type and the swizzle, and the box."""

    element_type: int
    swizzle: int
    box: tuple[int, ...]


@dataclass(frozen=True)
class Built:
    """One compiled kernel."""

    source: KernelSource
    program: TileProgram
    ptx: str
    shared: int
    capability: int
    warps: int
    maps: tuple[TensorMapFacts, ...] = ()

    def instructions(self) -> Counter[str]:
        found = re.findall(r"^\s*(?:@!?%p\d+ )?([a-z][\w.]*(?:::\w+[\w.]*)*)\s", self.ptx, re.MULTILINE)
        return Counter(found)

    def count(self, start: str) -> int:
        return sum(n for name, n in self.instructions().items() if name.startswith(start))


def build(program: TileProgram, target: str = "sm_80") -> Built:
    """Emit and compile to PTX."""
    source = emit(program, (target,))
    text = kernel_module([source]).text
    capability = TARGETS[target].capability
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{program.name}.py"
        path.write_text(text)
        ptx, metadata = _compile(path, source, capability)
    maps = tuple(
        TensorMapFacts(_DRIVER_TYPES.get(m["elem_type"], m["elem_type"]), m["swizzle"], tuple(m["block_size"]))
        for m in metadata["tensordesc_meta"] or ()
    )
    return Built(source, program, ptx, metadata["shared"], capability, metadata["num_warps"], maps)


# The compiler's numbers of element types that the driver numbers differently.
_DRIVER_TYPES = {8: 10, 9: 8, 10: 9}


def _compile(path: Path, source: KernelSource, capability: int) -> tuple[str, dict[str, Any]]:
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget, Language
    from triton.compiler.compiler import make_backend
    from triton.experimental.gluon._runtime import GluonASTSource

    spec = importlib.util.spec_from_file_location(f"emitted_{source.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    target = GPUTarget("cuda", capability, 32)
    backend = make_backend(target)
    options = backend.parse_options({"num_warps": source.warps, "enable_fp_fusion": True, "maxnreg": source.registers})
    stages: dict[str, Any] = {}
    backend.add_stages(stages, options, Language.GLUON)
    metadata: dict[str, Any] = {"target": target, **vars(options)}
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    attributes = {
        (n,): [["tt.divisibility", p.divisibility]] for n, p in enumerate(source.params) if p.divisibility > 1
    }
    signature = {p.name: p.type for p in source.params}
    gluon = GluonASTSource(getattr(module, source.name), signature, constexprs={}, attrs=attributes)
    code: Any = gluon.make_ir(
        target, options, backend.get_codegen_implementation(options), backend.get_module_map(), context
    )
    for stage in ("ttgir", "llir", "ptx"):
        code = stages[stage](code, metadata)
    return str(code), metadata


def run(built: Built, tensors: Mapping[str, Array], seed: int | None = None, **scalars: float) -> None:
    """Launch on the emulator, warps in an order drawn with ``seed``. ``tensors`` are storage arrays, updated in place;
    ``scalars`` are dims and arguments."""
    from texpr.emulator import Device, load_ptx

    device = Device(sm=built.capability, seed=seed)
    module = load_ptx(built.ptx)
    addresses = {name: device.alloc(max(array.nbytes, 1), name) for name, array in tensors.items()}
    for name, array in tensors.items():
        device.write(addresses[name], array.tobytes())
    facts = iter(built.maps)
    params = []
    for parameter in built.program.parameters:
        if isinstance(parameter, TensorMapParam):
            params += _tensor_map(parameter, next(facts), addresses, scalars)
        else:
            params.append(_argument(parameter, addresses, scalars))
    params += [bytes(8), bytes(8)]
    grid = evaluate(built.program.grid, {k: int(v) for k, v in scalars.items()})
    device.launch(module, built.program.name, (grid, 1, 1), (32 * built.warps, 1, 1), built.shared, params)
    for name, array in tensors.items():
        raw = np.frombuffer(device.read(addresses[name], array.nbytes), array.dtype)
        array[...] = raw.reshape(array.shape)


def _tensor_map(
    parameter: TensorMapParam, facts: TensorMapFacts, addresses: Mapping[str, int], scalars: Mapping[str, float]
) -> list[bytes]:
    """What a kernel is passed for a tensor map: the map, the shape and the strides."""
    values = {k: int(v) for k, v in scalars.items()}
    shape, strides = ([evaluate(e, values) for e in part] for part in (parameter.shape, parameter.strides))
    width = parameter.dtype.bytes
    encoded = encode_tiled(
        facts.element_type, addresses[parameter.tensor], shape[::-1], [width * s for s in strides[-2::-1]],
        facts.box[::-1], swizzle=facts.swizzle,
    )  # fmt: skip
    return [encoded, *(n.to_bytes(4, "little") for n in shape), *(s.to_bytes(8, "little") for s in strides)]


def _argument(parameter: object, addresses: Mapping[str, int], scalars: Mapping[str, float]) -> bytes:
    match parameter:
        case PointerParam(name=name):
            return addresses[name].to_bytes(8, "little")
        case IntParam(value=value):
            return np.int32(evaluate(value, {k: int(v) for k, v in scalars.items()})).tobytes()
        case ScalarParam(name=name, dtype=dtype):
            return encode(np.array(scalars[name]), dtype).tobytes()
        case PresentParam(name=name):
            return np.int32(scalars[name]).tobytes()
        case _:
            raise AssertionError(parameter)


__all__ = ["Array", "Built", "build", "decode", "encode", "run", "storage_dtype"]
