"""One call through the bundle's own C launcher on a simulated GPU: memory laid out as the case asks, poisoned outputs,
read-only inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from texpr.checking.calls import Case, storage_of
from texpr.checking.inputs import Inputs
from texpr.emulator.counters import Counters
from texpr.emulator.driver import EmulatedDriver
from texpr.emulator.layouts import dense
from texpr.lang.arrays import Array, storage_dtype
from texpr.lang.ir import Algorithm, Role, Tensor
from texpr.math.expr import evaluate
from texpr.runtime.library import EntryFunctions, Library, QueryResult, RawCall
from texpr.runtime.scalars import encode

MULTIPROCESSORS = 4
"""Of the simulated GPU: few, so that persistent programs loop over several tiles, and enough that one tile may be split
between them."""


class NotWritten(Exception):
    """Elements of an output that no kernel wrote, or bytes beside it that one did."""


@dataclass(frozen=True, slots=True)
class _Buffer:
    """A tensor in device memory. ``before`` bytes of slack precede it, so that its address is aligned no further than
    asked. ``given`` says per byte whether it has a value before the launch."""

    tensor: Tensor
    base: int
    before: int
    size: int
    given: NDArray[np.bool_]

    @property
    def address(self) -> int:
        return self.base + self.before


class Bench:
    """An entry of a bundle, initialised on a simulated GPU of capability ``sm`` that runs the schedule of a seed."""

    def __init__(
        self, folder: Path, library: Library, symbol: str, algorithm: Algorithm, sm: int, seed: int | None = None
    ) -> None:
        self.algorithm = algorithm
        self._driver = EmulatedDriver([folder], sm=sm, multiprocessors=MULTIPROCESSORS, seed=seed)
        entry = next(entry for entry in library.manifest.entries if entry.symbol == symbol)
        try:
            self._context = EntryFunctions(library, entry).open(self._driver.table)
        finally:
            self._driver.raise_pending()  # says more than the status that the launcher made of it

    def close(self) -> None:
        """Unload the kernels."""
        self._context.close()

    def run(self, case: Case, inputs: Inputs, symbols: Mapping[str, int]) -> tuple[QueryResult, dict[str, Array]]:
        """Launch once. Returns what the launcher chose and the outputs in storage form.

        Raises the emulator's Fault, the runtime's errors for what the launcher refuses, and NotWritten.
        """
        buffers = {
            param.name: self._place(param, case, inputs, symbols)
            for param in self.algorithm.params
            if isinstance(param, Tensor) and param.name not in case.absent and param.name not in case.aliased
        }
        for output in self.algorithm.outputs:
            if output.name in case.aliased and output.may_alias is not None:
                shared = buffers[output.may_alias]
                buffers[output.name] = replace(shared, tensor=output)
        try:
            return self._launch(case, inputs, symbols, buffers)
        finally:
            for base in {buffer.base for buffer in buffers.values()}:
                self._driver.gpu.free(base)

    def count(self, case: Case, inputs: Inputs, symbols: Mapping[str, int]) -> Counters:
        """Launch once more, with counters; a call that `run` was content with."""
        gpu = self._driver.gpu
        gpu.counters, gpu.device.counters = Counters(), True
        try:
            self.run(case, inputs, symbols)
        finally:
            gpu.device.counters = False
        return gpu.counters

    def _place(self, tensor: Tensor, case: Case, inputs: Inputs, symbols: Mapping[str, int]) -> _Buffer:
        extents, strides = storage_of(tensor, symbols)
        touched = 1 + sum((extent - 1) * stride for extent, stride in zip(extents, strides, strict=True))
        size = tensor.dtype.bytes * (touched if all(extents) else 0)
        before = case.offsets[tensor.name]
        layout = dense(tensor.name, tensor.dtype.bytes, extents, strides, before)
        base = self._driver.gpu.allocate(before + size, tensor.name, layout)
        if tensor.role is Role.INPUT:
            self._write(tensor, base + before, inputs.arrays[tensor.name], strides)
            if not any(
                output.may_alias == tensor.name and output.name in case.aliased for output in self.algorithm.outputs
            ):
                self._driver.gpu.protect(base)
        given = self._driver.gpu.device.written(base, before + size)[before:].copy()
        return _Buffer(tensor, base, before, size, given)

    def _write(self, tensor: Tensor, address: int, values: Array, strides: tuple[int, ...]) -> None:
        """Element by element row, so that the gaps of a strided tensor stay unwritten and reading them is a fault."""
        if values.size == 0:
            return
        if not tensor.strided:
            self._driver.gpu.write(address, np.ascontiguousarray(values).tobytes())
            return
        dense = max(tensor.strided) + 1
        row_bytes = np.ascontiguousarray(values)
        for index in np.ndindex(*values.shape[:dense]):
            start = sum(i * stride for i, stride in zip(index, strides, strict=False))
            self._driver.gpu.write(address + start * tensor.dtype.bytes, row_bytes[index].tobytes())

    def _launch(
        self, case: Case, inputs: Inputs, symbols: Mapping[str, int], buffers: Mapping[str, _Buffer]
    ) -> tuple[QueryResult, dict[str, Array]]:
        gpu = self._driver.gpu
        tensors = [param.name for param in self.algorithm.params if isinstance(param, Tensor)]
        addresses = {name: buffers[name].address if name in buffers else 0 for name in tensors}
        scalars = {s.name: encode(s.name, inputs.scalars[s.name], s.dtype) for s in self.algorithm.scalars}
        call = RawCall(addresses, scalars, case.dims, case.strides)
        query = self._context.query(call)
        size = query.workspace_bytes
        workspace = gpu.allocate(size, "workspace") if size else 0
        try:
            try:
                self._context.launch(call, stream=0, workspace=workspace, workspace_bytes=size)
            finally:
                self._driver.raise_pending()
        finally:
            if workspace:
                gpu.free(workspace)
        symbols = self._counted(symbols, buffers)
        return query, {
            output.name: self._read(buffers[output.name], case, symbols) for output in self.algorithm.outputs
        }

    def _counted(self, symbols: Mapping[str, int], buffers: Mapping[str, _Buffer]) -> dict[str, int]:
        """``symbols`` with the dims that outputs have counted."""
        found = dict(symbols)
        for count in self.algorithm.counts:
            buffer = buffers[count.source]
            if buffer.tensor.role is Role.OUTPUT:
                raw = self._driver.gpu.device.read(buffer.address, buffer.size)
                number = int(np.frombuffer(raw, storage_dtype(buffer.tensor.dtype))[0])
                found[count.name] = count.value_of(number, found)
        return found

    def _read(self, buffer: _Buffer, case: Case, symbols: Mapping[str, int]) -> Array:
        """An output in storage form. Raises NotWritten."""
        tensor, device = buffer.tensor, self._driver.gpu.device
        extents, strides = storage_of(tensor, symbols)
        count = math.prod(extents)
        if count == 0:
            return np.zeros(extents, storage_dtype(tensor.dtype))
        raw = np.frombuffer(device.read(buffer.address, buffer.size), storage_dtype(tensor.dtype))
        steps = tuple(stride * tensor.dtype.bytes for stride in strides)
        values = np.lib.stride_tricks.as_strided(raw, extents, steps).copy()
        meant = np.zeros(buffer.size, np.bool_)
        elements = np.lib.stride_tricks.as_strided(meant, (*extents, tensor.dtype.bytes), (*steps, 1))
        elements[_valid(tensor, extents, symbols)] = True
        written = device.written(buffer.address, buffer.size)
        missing = int(np.count_nonzero(meant & ~written))
        if missing:
            raise NotWritten(
                f"{missing // tensor.dtype.bytes or 1} of {count} elements of {tensor.name} are not written"
            )
        if (written & ~meant & ~buffer.given).any() or device.written(buffer.base, buffer.before).any():
            raise NotWritten(f"bytes beside the elements of {tensor.name} were written")
        return values


def _valid(tensor: Tensor, extents: tuple[int, ...], symbols: Mapping[str, int]) -> Array:
    """Which elements have values, in storage shape: all, but for what lies beyond a dim that the device counts."""
    logical = np.zeros([evaluate(extent, symbols) for extent in tensor.shape], np.bool_)
    logical[tuple(slice(evaluate(extent, symbols)) for extent in tensor.extents)] = True
    return logical.reshape(extents)
