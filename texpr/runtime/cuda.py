"""Runs bundles on a GPU, in the CUDA context and on the stream that the arrays' library uses; nothing is created behind
its back.

torch tensors: torch's current stream, workspace and outputs from torch's allocator. Other ``__cuda_array_interface__``
objects: the context current in this thread, the stream they name (else the legacy default stream), workspace from the
driver's stream-ordered pool.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from texpr.runtime.arrays import ArrayView, torch_dtype, view
from texpr.runtime.call import BoundCall
from texpr.runtime.errors import DriverError, MixedStreamsError, NoContextError, NoDriverError, NoOutputArrayError
from texpr.runtime.library import Context, Library, QueryResult
from texpr.runtime.manifest import Tensor


class CudaBackend:
    """Contexts are kept per entry and CUDA context; each was initialised by the first call there. Safe to call from
    several threads.
    """

    def __init__(self, library: Library) -> None:
        self._name = library.manifest.name
        self._table = library.open_cuda_driver()
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise NoDriverError(name=self._name) from None
        self._contexts: dict[tuple[str, int], Context] = {}
        self._lock = threading.Lock()

    def create(self, tensor: Tensor, shape: tuple[int, ...], inputs: Sequence[ArrayView]) -> ArrayView:
        torch = sys.modules.get("torch")
        if torch is None or any(array.library != "torch" for array in inputs):
            raise NoOutputArrayError(output=tensor.name)
        index = next((array.place.device for array in inputs), torch.cuda.current_device())
        return view(
            tensor.name, torch.empty(shape, dtype=torch_dtype(tensor.dtype), device=torch.device("cuda", index))
        )

    def query(self, call: BoundCall) -> QueryResult:
        with self._current(call):
            return self._context(call).query(call.raw(_addresses(call)))

    def run(self, call: BoundCall, stream: object) -> None:
        """``stream`` is a handle (int), an object with ``cuda_stream``, or None. Returns when the kernels are
        queued.
        """
        with self._current(call):
            handle = self._stream(call, stream)
            context = self._context(call)
            raw = call.raw(_addresses(call))
            needed = (
                context.query(raw).workspace_bytes if any(variant.workspace for variant in call.entry.variants) else 0
            )
            with self._workspace(call, needed, handle) as workspace:
                context.launch(raw, stream=handle, workspace=workspace, workspace_bytes=needed)

    def close(self) -> None:
        """Unload the modules of the contexts; those of another CUDA context than the current one stay loaded."""
        current = self._current_context()
        with self._lock:
            for key in [key for key in self._contexts if key[1] == current]:
                self._contexts.pop(key).close()

    @contextmanager
    def _current(self, call: BoundCall) -> Iterator[None]:
        """Make the context of the call's device current, as torch would; other libraries have made theirs current
        already.
        """
        index = _torch_device(call)
        if index is None:
            if not self._current_context():
                raise NoContextError(name=self._name)
            yield
            return
        with sys.modules["torch"].cuda.device(index):
            if not self._current_context():  # a thread in which torch has not touched this device yet
                self._make_primary_current(index)
            yield

    def _current_context(self) -> int:
        context = ctypes.c_void_p()
        self._check(self._cuda.cuCtxGetCurrent(ctypes.byref(context)))
        return context.value or 0

    def _make_primary_current(self, index: int) -> None:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._check(self._cuda.cuDeviceGet(ctypes.byref(device), index))
        self._check(self._cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
        self._check(self._cuda.cuCtxSetCurrent(context))

    def _context(self, call: BoundCall) -> Context:
        key = (call.entry.symbol, self._current_context())
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = call.functions.open(self._table)
            return self._contexts[key]

    def _stream(self, call: BoundCall, stream: Any) -> int:
        if stream is not None:
            return int(getattr(stream, "cuda_stream", stream))
        index = _torch_device(call)
        if index is not None:
            return int(sys.modules["torch"].cuda.current_stream(index).cuda_stream)
        named = {array.stream for array in call.arrays.values() if array.stream is not None}
        if len(named) > 1:
            raise MixedStreamsError(name=self._name, streams=", ".join(str(handle) for handle in sorted(named)))
        return named.pop() if named else 0

    @contextmanager
    def _workspace(self, call: BoundCall, size: int, stream: int) -> Iterator[int]:
        """Scratch memory that stays valid until the kernels queued on ``stream`` are done with it."""
        if size == 0:
            yield 0
            return
        index = _torch_device(call)
        if index is not None:
            torch = sys.modules["torch"]
            device = torch.device("cuda", index)
            if stream == torch.cuda.current_stream(index).cuda_stream:
                scratch = torch.empty(size, dtype=torch.uint8, device=device)
            else:
                with torch.cuda.stream(torch.cuda.ExternalStream(stream, device=device)):
                    scratch = torch.empty(size, dtype=torch.uint8, device=device)
            yield int(scratch.data_ptr())
            return
        address = ctypes.c_uint64()
        self._check(self._cuda.cuMemAllocAsync(ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_void_p(stream)))
        try:
            yield address.value
        finally:
            self._check(self._cuda.cuMemFreeAsync(address, ctypes.c_void_p(stream)))

    def _check(self, result: int) -> None:
        if result != 0:
            raise DriverError(name=self._name, result=result)


def _addresses(call: BoundCall) -> dict[str, int]:
    return {name: array.address for name, array in call.arrays.items()}


def _torch_device(call: BoundCall) -> int | None:
    """The device index of the call's torch tensors, or None if it has none."""
    return next((array.place.device for array in call.arrays.values() if array.library == "torch"), None)
