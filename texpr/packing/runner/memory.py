"""The tensors of one case in a device's memory, with poisoned surroundings, and the call that uses them.

Outputs, gaps between strided rows, and the bytes before and behind every output begin as poison. A call is made twice
with different poison: an element that shows both was not written, and a byte beside the elements that shows neither
was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from texpr.lang.arrays import Array, storage_dtype
from texpr.packing.runner.devices import Device
from texpr.packing.runner.inputs import whole
from texpr.packing.runner.records import Case, Input, Layout, Output
from texpr.runtime.library import Context, RawCall
from texpr.runtime.manifest import Entry
from texpr.runtime.scalars import encode

POISONS: Final = (0xFF, 0x5A)
_BEHIND: Final = 256
"""Bytes behind every tensor that nobody may write."""


@dataclass(frozen=True, slots=True)
class Written:
    """An output after two runs. ``first`` and ``second`` are its elements in storage form and shape; ``missing`` says
    which were not written, ``beside`` how many bytes next to them were."""

    first: Array
    second: Array
    missing: Array
    beside: int


class Placed:
    """Memory for a case of the pack in a folder on a device; ``close`` frees it. With ``like``, its inputs are taken
    over from that one and not made again. Raises MemoryError where it does not fit."""

    def __init__(
        self, device: Device, context: Context, entry: Entry, case: Case, pack: Path, like: Placed | None = None
    ) -> None:
        self.device = device
        self.case = case
        self._context = context
        self._pack = pack
        self._bases: dict[str, int] = {}
        self._workspace = 0
        self._inputs: dict[str, Array] = {} if like is None else dict(like._inputs)
        try:
            for layout in self._own_layouts():
                self._bases[layout.name] = device.allocate(_total(layout))
            for tensor in case.inputs:
                self._write(tensor)
            scalars = {s.name: encode(s.name, case.scalars[s.name], s.dtype) for s in entry.scalars}
            addresses = dict.fromkeys((tensor.name for tensor in entry.tensors), 0) | self.addresses
            self.call = RawCall(addresses, scalars, case.dims, case.strides)
            self.query = device.query(context, self.call)
            if self.query.workspace_bytes:
                self._workspace = device.allocate(self.query.workspace_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def bytes(self) -> int:
        """Of the tensors with what surrounds them, the workspace apart."""
        return sum(_total(layout) for layout in self._own_layouts())

    def _own_layouts(self) -> list[Layout]:
        return [each.layout for each in self.case.inputs] + [o.layout for o in self.case.outputs if o.alias is None]

    @property
    def addresses(self) -> dict[str, int]:
        """Of every tensor that the case gives."""
        found = {layout.name: self._bases[layout.name] + layout.offset for layout in self._own_layouts()}
        return found | {output.layout.name: found[output.alias] for output in self.case.outputs if output.alias}

    def close(self) -> None:
        """Free everything."""
        while self._bases:
            self.device.free(self._bases.popitem()[1])
        if self._workspace:
            self.device.free(self._workspace)
            self._workspace = 0

    def launch(self) -> None:
        """Run the call to its end, on whatever the outputs hold."""
        self.device.launch(self._context, self.call, self._workspace, self.query.workspace_bytes)

    @property
    def workspace(self) -> tuple[Context, int, int]:
        """What a caller that queues the call itself needs: context, address and bytes of the workspace."""
        return self._context, self._workspace, self.query.workspace_bytes

    def run_twice(self) -> dict[str, Written]:
        """Two calls, each on fresh poison; all outputs. Raises LaunchFailed and the runtime's errors."""
        raw = [self._run(poison) for poison in POISONS]
        names = {output.layout.name: output for output in self.case.outputs}
        return {name: _written(output, raw[0][name], raw[1][name]) for name, output in names.items()}

    def _run(self, poison: int) -> dict[str, Array]:
        aliased = {output.alias for output in self.case.outputs}
        for output in self.case.outputs:
            if output.alias is None:
                self.device.fill(self._bases[output.layout.name], poison, _total(output.layout))
        for tensor in self.case.inputs:
            if tensor.layout.name in aliased:
                self._write(tensor)
        if self._workspace:
            self.device.fill(self._workspace, poison, self.query.workspace_bytes)
        self.launch()
        found = {}
        for output in self.case.outputs:
            owner = self._layout_of(output)
            data = self.device.read(self._bases[owner.name], _total(owner))
            found[output.layout.name] = np.frombuffer(data, np.uint8)
        return found

    def _layout_of(self, output: Output) -> Layout:
        return next(layout for layout in self._own_layouts() if layout.name == (output.alias or output.layout.name))

    def _write(self, tensor: Input) -> None:
        """An input with poison around it and in its gaps."""
        layout = tensor.layout
        if layout.name not in self._inputs:
            self._inputs[layout.name] = memory_of(layout, whole(tensor, self._pack), POISONS[0])
        self.device.write(self._bases[layout.name], self._inputs[layout.name])

    def changed_inputs(self) -> list[str]:
        """The inputs whose memory is not as it was written (outputs that share it apart)."""
        aliased = {output.alias for output in self.case.outputs}
        return [
            name
            for name, data in self._inputs.items()
            if name not in aliased and self.device.read(self._bases[name], data.size) != data.tobytes()
        ]

    def forget_inputs(self) -> None:
        """Drop the host's copies of the inputs."""
        self._inputs.clear()


def span_bytes(layout: Layout) -> int:
    """From a tensor's first to its last element."""
    if 0 in layout.shape:
        return 0
    reach = sum((extent - 1) * stride for extent, stride in zip(layout.shape, layout.strides, strict=True))
    return (1 + reach) * layout.dtype.bytes


def _total(layout: Layout) -> int:
    return layout.offset + span_bytes(layout) + _BEHIND


def elements_in(layout: Layout, memory: Array) -> Array:
    """The elements of a tensor as a view of the bytes around it."""
    kind = storage_dtype(layout.dtype)
    if 0 in layout.shape:
        return np.zeros(layout.shape, kind)
    inner = memory[layout.offset : layout.offset + span_bytes(layout)].view(kind)
    steps = tuple(stride * kind.itemsize for stride in layout.strides)
    return np.lib.stride_tricks.as_strided(inner, layout.shape, steps)


def memory_of(layout: Layout, values: Array, poison: int) -> Array:
    """The bytes that hold a tensor, with poison before, between and behind its elements."""
    memory = np.full(_total(layout), poison, np.uint8)
    if values.size:
        elements_in(layout, memory)[...] = values
    return memory


def _written(output: Output, first: Array, second: Array) -> Written:
    layout = output.layout
    values = (elements_in(layout, first).copy(), elements_in(layout, second).copy())
    word = np.dtype(f"u{layout.dtype.bytes}")
    patterns = [np.frombuffer(bytes([poison] * word.itemsize), word)[0] for poison in POISONS]
    missing = np.ones(layout.shape, np.bool_)
    for each, pattern in zip(values, patterns, strict=True):
        missing &= each.view(word) == pattern
    if output.alias is not None:
        return Written(values[0], values[1], np.zeros(layout.shape, np.bool_), 0)
    beside = min(_beside(layout, raw, poison) for raw, poison in zip((first, second), POISONS, strict=True))
    return Written(values[0], values[1], missing, beside)


def _beside(layout: Layout, raw: Array, poison: int) -> int:
    """How many bytes that are no element's differ from the poison."""
    outside = raw != poison
    inner = outside[layout.offset : layout.offset + span_bytes(layout)]
    if inner.size:
        size = layout.dtype.bytes
        steps = (*(stride * size for stride in layout.strides), 1)
        np.lib.stride_tricks.as_strided(inner, (*layout.shape, size), steps)[...] = False
    return int(np.count_nonzero(outside))


