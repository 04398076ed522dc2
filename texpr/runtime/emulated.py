"""Runs bundles on the CPU: arrays are copied to the emulator's memory, the bundle's own launcher drives a simulated
GPU, results return.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

from texpr.emulator.driver import EmulatedDriver
from texpr.emulator.faults import Fault
from texpr.emulator.images import choose_capability
from texpr.emulator.layouts import dense
from texpr.errors import TExprError
from texpr.runtime.arrays import ArrayView, numpy_dtype, torch_dtype, view
from texpr.runtime.call import BoundCall, check_overlaps
from texpr.runtime.contracts import check_contracts
from texpr.runtime.library import Context, QueryResult
from texpr.runtime.manifest import Manifest, Tensor


class EmulatedBackend:
    """One simulated GPU for a bundle. ``sm`` is its compute capability; None means 8.0, or the lowest the bundle has
    code for.  ``schedule_seed``: see ``texpr.runtime.load``.

    Output memory starts poisoned, so an element that no kernel writes comes back as 0xff bytes, unless a dim that the
    device counts may leave it out: then it stays as it was. Calls are serialised.
    """

    def __init__(self, manifest: Manifest, sm: int | None, schedule_seed: int | None = None) -> None:
        capability = choose_capability([manifest.directory]) if sm is None else sm
        self._driver = EmulatedDriver([manifest.directory], sm=capability, seed=schedule_seed)
        self._contexts: dict[str, Context] = {}
        self._lock = threading.Lock()

    def create(self, tensor: Tensor, shape: tuple[int, ...], inputs: Sequence[ArrayView]) -> ArrayView:
        """A torch tensor if the inputs are torch's, else a NumPy array (raw bits if an input of that type is)."""
        if any(array.library == "torch" for array in inputs):
            import torch

            make = torch.empty if tensor.valid is None else torch.zeros
            return view(tensor.name, make(shape, dtype=torch_dtype(tensor.dtype)))
        import numpy

        patterns = any(
            array.dtype is not tensor.dtype and array.can_be(tensor.dtype, patterns=True) for array in inputs
        )
        fresh = numpy.empty if tensor.valid is None else numpy.zeros
        return view(tensor.name, fresh(shape, numpy_dtype(tensor.dtype, patterns=patterns)))

    def query(self, call: BoundCall) -> QueryResult:
        with self._lock:
            return self._context(call).query(call.raw({name: array.address for name, array in call.arrays.items()}))

    def run(self, call: BoundCall, stream: object) -> None:
        """Raises :class:`texpr.emulator.Fault` when a kernel commits an error. The emulator has no streams: ``stream``
        is ignored.
        """
        del stream
        gpu = self._driver.gpu
        aliases = check_overlaps(call)
        check_contracts(call)
        with self._lock:
            context = self._context(call)
            addresses: dict[str, int] = {}
            allocated: list[int] = []
            try:
                for name, array in call.arrays.items():
                    if name not in aliases:
                        layout = dense(name, array.dtype.bytes, array.shape, array.strides)
                        addresses[name] = gpu.allocate(array.span * array.dtype.bytes, name, layout)
                        allocated.append(addresses[name])
                addresses |= {output: addresses[source] for output, source in aliases.items()}
                outputs = [tensor.name for tensor in call.entry.outputs if tensor.name in call.arrays]
                for name, array in call.arrays.items():
                    if name not in outputs and not array.empty:
                        gpu.write(addresses[name], ctypes.string_at(array.address, array.span * array.dtype.bytes))
                        if name not in aliases.values():
                            gpu.protect(addresses[name])
                raw = call.raw(addresses)
                with self._faults():
                    needed = context.query(raw).workspace_bytes
                    workspace = gpu.allocate(needed, "workspace") if needed else 0
                    allocated += [workspace] if workspace else []
                    context.launch(raw, stream=0, workspace=workspace, workspace_bytes=needed)
                for tensor in call.entry.outputs:
                    array = call.arrays[tensor.name]
                    if not array.empty:
                        size = array.span * array.dtype.bytes
                        data = gpu.read(addresses[tensor.name], size)
                        if tensor.valid is not None:
                            data = _over(array, data, gpu.device.written(addresses[tensor.name], size))
                        _store(array, data)
            finally:
                for address in allocated:
                    gpu.free(address)

    def close(self) -> None:
        with self._lock:
            while self._contexts:
                _, context = self._contexts.popitem()
                context.close()

    def _context(self, call: BoundCall) -> Context:
        symbol = call.entry.symbol
        if symbol not in self._contexts:
            with self._faults():
                self._contexts[symbol] = call.functions.open(self._driver.table)
        return self._contexts[symbol]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Prefer what really happened in the emulator to the status that the launcher made of it."""
        self._driver.discard_pending()
        try:
            yield
        except TExprError as error:
            pending = self._driver.discard_pending()
            if isinstance(pending, Fault) or (pending is not None and not isinstance(pending, Exception)):
                raise pending from None
            raise error from pending


def _over(array: ArrayView, data: bytes, written: Any) -> bytes:
    """``data`` where it was written, and elsewhere what the array holds."""
    import numpy

    before = numpy.frombuffer(ctypes.string_at(array.address, len(data)), numpy.uint8)
    return numpy.where(written, numpy.frombuffer(data, numpy.uint8), before).tobytes()


def _store(array: ArrayView, data: bytes) -> None:
    """Write an output back: all of it when dense, else only the elements that belong to it."""
    if array.span == prod(array.shape):
        ctypes.memmove(array.address, data, len(data))
        return
    import numpy
    from numpy.lib.stride_tricks import as_strided

    kind = numpy.dtype(f"u{array.dtype.bytes}")
    strides = tuple(stride * kind.itemsize for stride in array.strides)
    target: Any = (ctypes.c_ubyte * len(data)).from_address(array.address)
    memory = numpy.frombuffer(target, kind)
    as_strided(memory, array.shape, strides)[...] = as_strided(numpy.frombuffer(data, kind), array.shape, strides)
