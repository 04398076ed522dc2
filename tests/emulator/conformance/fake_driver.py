"""libcuda as a Python object over the emulator: what `portable.py` calls, so that it runs without a GPU."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from texpr.emulator import Device, Fault, PtxModule, load_ptx
from texpr.emulator.tensor_maps import encode_tiled

_LAUNCH_FAILED = 719


class FakeLibrary:
    """Images are PTX texts.  `flip` turns a bit of every result, as a GPU would that computes something else."""

    def __init__(self, capability: int, *, flip: bool = False) -> None:
        self.capability = capability
        self.flip = flip
        self.device = Device(sm=capability)
        self.modules: list[PtxModule] = []
        self.functions: list[tuple[PtxModule, str]] = []
        self.crashed = False
        self.resets = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cu"):
            return lambda *arguments: _LAUNCH_FAILED if self.crashed else 0
        raise AttributeError(name)

    def cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> int:
        value._obj.value = self.capability // 10 if number == 75 else self.capability % 10
        return 0

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_LAUNCH_FAILED"
        return 0

    def cuDevicePrimaryCtxReset_v2(self, device: Any) -> int:
        self.crashed = False
        self.resets += 1
        return 0

    def cuModuleLoadData(self, module: Any, image: ctypes.c_char_p) -> int:
        assert image.value is not None
        self.modules.append(load_ptx(image.value.decode()))
        module._obj.value = len(self.modules)
        return 0

    def cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> int:
        self.functions.append((self.modules[module.value - 1], name.decode()))
        function._obj.value = len(self.functions)
        return 0

    def cuMemAlloc_v2(self, place: Any, size: Any) -> int:
        place._obj.value = self.device.alloc(size.value, "buffer")
        return 0

    def cuMemcpyHtoD_v2(self, place: Any, host: Any, size: Any) -> int:
        self.device.write(place.value, np.frombuffer(ctypes.string_at(host.value, size.value), np.uint8))
        return 0

    def cuMemcpyDtoH_v2(self, host: Any, place: Any, size: Any) -> int:
        octets = bytearray(self.device.read(place.value, size.value))
        if self.flip:
            octets[0] ^= 1
        ctypes.memmove(host.value, bytes(octets), size.value)
        return 0

    def cuTensorMapEncodeTiled(
        self,
        to: Any,
        kind: int,
        rank: int,
        place: Any,
        extents: Any,
        strides: Any,
        box: Any,
        steps: Any,
        interleave: int,
        swizzle: int,
        promotion: int,
        fill: int,
    ) -> int:
        assert to.value % 64 == 0 and list(steps) == [1] * rank
        data = encode_tiled(
            kind, place.value, list(extents), list(strides)[: rank - 1], list(box), swizzle=swizzle, fill=fill
        )
        ctypes.memmove(to.value, data, len(data))
        return 0

    def cuLaunchKernel(self, function: Any, x: int, y: int, z: int, threads: int, *rest: Any) -> int:
        module, name = self.functions[function.value - 1]
        pointers = rest[4]
        sizes = [param.size for param in module.kernels[name].params]
        params = [ctypes.string_at(pointer, size) for pointer, size in zip(pointers, sizes, strict=True)]
        try:
            self.device.launch(module, name, (x, y, z), (threads,), params=params)
        except Fault:
            self.crashed = True
            return _LAUNCH_FAILED
        return 0
