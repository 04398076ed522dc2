"""Runs under the stand-in libcuda.so.1: the torch path of the CUDA backend, with a stand-in for torch.

A machine without a GPU has no torch CUDA tensors, so this program makes some: memory from the driver, a current stream,
an allocator. It checks what the backend asks of torch, not torch. Usage: torch_program.py AFFINE STAGED. Prints ``ok``.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from texpr.runtime import load

cuda = ctypes.CDLL("libcuda.so.1")
LEGACY_STREAM = 1
allocations: list[tuple[int, int]] = []
"""Bytes and stream of every ``torch.empty``."""


class Device:
    def __init__(self, kind: str, index: int | None = None) -> None:
        self.type, self.index = kind, index


class Tensor:
    def __init__(self, shape: tuple[int, ...], dtype: str, device: Device) -> None:
        sizes = {"torch.float32": 4, "torch.int32": 4, "torch.uint8": 1}
        self.shape, self.dtype, self.device = shape, dtype, device
        self.layout, self.requires_grad = "strided", False
        self.bytes = prod(shape) * sizes[dtype]
        self.address = ctypes.c_uint64()
        allocations.append((self.bytes, torch_stream[-1]))
        assert cuda.cuMemAlloc_v2(ctypes.byref(self.address), ctypes.c_size_t(max(self.bytes, 1))) == 0

    def stride(self) -> tuple[int, ...]:
        return tuple(prod(self.shape[i + 1 :]) for i in range(len(self.shape)))

    def numel(self) -> int:
        return prod(self.shape)

    def data_ptr(self) -> int:
        return self.address.value

    def numpy(self) -> Any:
        result = np.empty(self.shape, self.dtype.removeprefix("torch."))
        assert cuda.cuMemcpyDtoH_v2(ctypes.c_void_p(result.ctypes.data), self.address, ctypes.c_size_t(self.bytes)) == 0
        return result


class Stream:
    def __init__(self, handle: int, device: Device | None = None) -> None:
        self.cuda_stream = handle


torch_stream = [LEGACY_STREAM]


@contextmanager
def stream_guard(stream: Stream) -> Iterator[None]:
    torch_stream.append(stream.cuda_stream)
    yield
    torch_stream.pop()


@contextmanager
def device_guard(index: int) -> Iterator[None]:
    """Like torch's: it does not make a context current in a thread that has not used CUDA."""
    assert index == 0
    yield


def empty(*shape: Any, dtype: str, device: Device) -> Tensor:
    return Tensor(shape[0] if isinstance(shape[0], tuple) else shape, dtype, device)


def install() -> None:
    torch = types.ModuleType("torch")
    names = {
        "Tensor": Tensor,
        "strided": "strided",
        "is_grad_enabled": lambda: True,
        "device": Device,
        "empty": empty,
        "float32": "torch.float32",
        "int32": "torch.int32",
        "uint8": "torch.uint8",
        "cuda": types.SimpleNamespace(
            device=device_guard,
            current_stream=lambda index: Stream(torch_stream[-1]),
            current_device=lambda: 0,
            ExternalStream=Stream,
            stream=stream_guard,
        ),
    }
    for name, value in names.items():
        setattr(torch, name, value)
    sys.modules["torch"] = torch


def on_gpu(array: Any) -> Tensor:
    tensor = Tensor(array.shape, f"torch.{array.dtype}", Device("cuda", 0))
    data = ctypes.c_void_p(array.ctypes.data)
    assert cuda.cuMemcpyHtoD_v2(tensor.address, data, ctypes.c_size_t(array.nbytes)) == 0
    return tensor


def main(affine_folder: str, staged_folder: str) -> None:
    install()
    affine, staged = load(affine_folder), load(staged_folder)
    assert cuda.cuInit(0) == 0
    context = ctypes.c_void_p()
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
    handles = [ctypes.c_void_p(), ctypes.c_void_p()]
    assert all(cuda.cuStreamCreate(ctypes.byref(handle), 1) == 0 for handle in handles)
    current, other = (int(handle.value or 0) for handle in handles)
    torch_stream[:] = [current]
    x = np.arange(3 * 40, dtype=np.float32).reshape(3, 40)
    y = affine(on_gpu(x), a=2.0)
    assert isinstance(y, Tensor)
    assert y.device.index == 0
    assert np.array_equal(y.numpy(), x * 2)

    z = np.arange(2 * 3 * 8, dtype=np.int32).reshape(2, 3, 8)
    tensor = on_gpu(z)
    allocations.clear()
    assert np.array_equal(staged(tensor, 3).numpy().reshape(z.shape), (z + 3) * 2)
    assert allocations == [(4 * z.size, current), (4 * z.size, current)]
    allocations.clear()
    staged(tensor, 3, stream=Stream(other))
    assert allocations == [(4 * z.size, current), (4 * z.size, other)]

    tensor, out = on_gpu(x), on_gpu(x)
    worker = threading.Thread(target=lambda: affine(tensor, a=4.0, out=out))  # no context is current in that thread
    worker.start()
    worker.join()
    assert np.array_equal(out.numpy(), x * 4)
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
