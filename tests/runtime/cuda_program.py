"""Runs under the stand-in libcuda.so.1: the CUDA path of the runtime with arrays that are nothing but device pointers.

Usage: cuda_program.py AFFINE STAGED. Prints ``ok`` after every claim held.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import Any

import numpy as np

from texpr.runtime import errors as e
from texpr.runtime import load

cuda = ctypes.CDLL("libcuda.so.1")


def call(name: str, *arguments: Any) -> None:
    result = getattr(cuda, name)(*arguments)
    assert result == 0, (name, result)


def make_context_current() -> None:
    context = ctypes.c_void_p()
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    call("cuCtxSetCurrent", context)


def new_stream() -> int:
    stream = ctypes.c_void_p()
    call("cuStreamCreate", ctypes.byref(stream), 1)
    return int(stream.value or 0)


class DeviceArray:
    """Device memory with ``__cuda_array_interface__``, filled from a NumPy array."""

    def __init__(self, array: np.ndarray[Any, Any], stream: int | None = None, read_only: bool = False) -> None:
        self.host = np.ascontiguousarray(array)
        self.address = ctypes.c_uint64()
        call("cuMemAlloc_v2", ctypes.byref(self.address), ctypes.c_size_t(max(array.nbytes, 1)))
        call("cuMemcpyHtoD_v2", self.address, ctypes.c_void_p(self.host.ctypes.data), ctypes.c_size_t(array.nbytes))
        self.__cuda_array_interface__ = {
            "version": 3,
            "typestr": array.dtype.str,
            "shape": array.shape,
            "data": (self.address.value, read_only),
            "strides": None,
            "stream": stream,
        }

    def numpy(self) -> np.ndarray[Any, Any]:
        result = np.empty_like(self.host)
        call("cuMemcpyDtoH_v2", ctypes.c_void_p(result.ctypes.data), self.address, ctypes.c_size_t(result.nbytes))
        return result


def refused(error: type[Exception], function: Any, *arguments: Any, **named: Any) -> str:
    try:
        function(*arguments, **named)
    except error as caught:
        return str(caught)
    raise AssertionError(f"{error.__name__} was not raised")


def main(affine_folder: str, staged_folder: str) -> None:
    affine, staged = load(affine_folder), load(staged_folder, device="cuda")
    call("cuInit", 0)
    make_context_current()
    x = np.arange(3 * 40, dtype=np.float32).reshape(3, 40)
    b = np.arange(40, dtype=np.float32)
    y = DeviceArray(np.zeros_like(x))
    device_x = DeviceArray(x)
    assert affine(device_x, DeviceArray(b), 0.5, out=y) is y
    assert np.array_equal(y.numpy(), x * 0.5 + b)

    z = np.arange(2 * 3 * 8, dtype=np.int32).reshape(2, 3, 8)
    in_place = DeviceArray(z)
    staged(in_place, 3, out=in_place)  # the workspace comes from the driver
    assert np.array_equal(in_place.numpy(), (z + 3) * 2)
    assert staged.query(in_place, 3).workspace_bytes == 4 * z.size
    assert "y overlaps x" in refused(e.OverlapError, affine, device_x, a=1.0, out=device_x)

    assert "cannot be created" in refused(e.NoOutputArrayError, affine, device_x, a=1.0)
    first, second = sorted([new_stream(), new_stream()])
    other = DeviceArray(b, stream=second)
    said = refused(e.MixedStreamsError, affine, DeviceArray(x, stream=first), other, 1.0, out=y)
    assert f"({first}, {second})" in said
    affine(DeviceArray(x, stream=first), other, 1.0, out=y, stream=first)
    assert "read-only" in refused(e.ReadOnlyError, affine, device_x, a=1.0, out=DeviceArray(x, read_only=True))

    failures: list[str] = []
    worker = threading.Thread(target=lambda: failures.append(refused(e.NoContextError, affine, device_x, a=1.0, out=y)))
    worker.start()
    worker.join()
    assert "no CUDA context is current in this thread" in failures[0]
    affine.close()
    affine(device_x, a=2.0, out=y)
    assert np.array_equal(y.numpy(), x * 2)
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
