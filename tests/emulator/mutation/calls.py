"""Calls of kernels that can be replayed with other PTX: memory as it was before the first launch, the launches, and
what must hold afterwards."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from texpr.emulator import Device, PtxModule, load_ptx
from texpr.emulator.memory import Allocation

Judge = Callable[[Device], str]
"""Looks at the memory after a call: what is wrong with it, or an empty string."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """An allocation before the call. `written` is true for every byte that has a value; the others are poisoned."""

    name: str
    address: int
    data: np.ndarray
    written: np.ndarray
    read_only: bool

    @staticmethod
    def of(allocation: Allocation) -> Buffer:
        """A copy of an allocation as it is now."""
        size = allocation.size
        written = allocation.written[:size] != 0
        return Buffer(allocation.name, allocation.address, allocation.data[:size].copy(), written, allocation.read_only)


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch; `params` are the parameters' bytes, `cluster` the programs per cluster if they are given."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    params: tuple[bytes, ...]
    cluster: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """`label` says what is called, with which sizes; addresses in `buffers` are those that a new device gives out."""

    label: str
    sm: int
    buffers: tuple[Buffer, ...]
    launches: tuple[Launch, ...]
    judge: Judge
    batch: int = 16


@dataclass(frozen=True, slots=True)
class Built:
    """Compiled kernels (PTX by name) and calls of them. For shipped kernels, `calls` are those that `texpr check`
    makes, and `further` are of other sizes."""

    kernels: Mapping[str, str]
    calls: tuple[Call, ...]
    further: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """`complaint` is what is wrong with the result, or empty; `memory` identifies the content of all buffers."""

    complaint: str
    blocks: int
    memory: int


def replay(call: Call, kernels: Mapping[str, str], seed: int | None, step_limit: int) -> Result:
    """Run a call with these kernels (PTX by kernel name). Raises `Fault` and `PtxError`.

    Calls in lockstep of the same kernels share a device with its memory emptied in between, for binding a kernel takes
    longer than running it once. A random schedule starts from its seed in every call.
    """
    if seed is not None:
        return _run(Device(sm=call.sm, seed=seed, step_limit=step_limit, batch=call.batch, workers=1), call, kernels)
    key = (tuple(kernels.values()), call.sm, step_limit, call.batch)
    device = _kept.pop(key, None) or Device(sm=call.sm, step_limit=step_limit, batch=call.batch, workers=1)
    device.memory.clear()
    result = _run(device, call, kernels)
    if not any(variable.space != "shared" for ptx in kernels.values() for variable in _module(ptx).variables):
        _kept.clear()
        _kept[key] = device
    return result


_kept: dict[tuple[tuple[str, ...], int, int, int], Device] = {}


def _run(device: Device, call: Call, kernels: Mapping[str, str]) -> Result:
    for buffer in call.buffers:
        allocation = device.memory.allocate(buffer.data.size, buffer.name)
        if allocation.address != buffer.address:
            raise ValueError(f"{buffer.name} is at {allocation.address:#x}, was at {buffer.address:#x}")
        allocation.data[: allocation.size] = buffer.data
        allocation.written[: allocation.size] = np.where(buffer.written, 0xFF, 0)
        allocation.read_only = buffer.read_only
    blocks = 0
    for launch in call.launches:
        stats = device.launch(
            _module(kernels[launch.kernel]), launch.kernel, launch.grid, launch.block, launch.shared, launch.params,
            launch.cluster,
        )  # fmt: skip
        blocks += stats.blocks
    memory = 0
    for allocation in device.memory.live():
        memory = zlib.crc32(_content(allocation).tobytes(), memory)
    return Result(call.judge(device), blocks, memory)


def _content(allocation: Allocation) -> np.ndarray:
    """The bytes, with one NaN for both signs: a GPU's 32-bit operations give only one, the emulator's either."""
    words = allocation.data.view(np.uint32)
    return np.where(words == 0xFFC00000, np.uint32(0x7FC00000), words)


@lru_cache(maxsize=4)
def _module(ptx: str) -> PtxModule:
    return load_ptx(ptx, "mutant.ptx")
