"""What is measured on: a GPU through the driver, or the emulator, whose times are the host's and mean nothing."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np

from texpr.packing.runner.cuda import CudaDevice
from texpr.packing.runner.devices import Device, EmulatedDevice, LaunchFailed
from texpr.runtime.library import Context, RawCall

_NON_BLOCKING: Final = 1
_RELAXED: Final = 2
_LEAST_FLUSH: Final = 128 << 20


class CannotCapture(Exception):
    """Work that cannot be put into a graph."""


class Bench(Protocol):
    """A device and its clock. ``measurement``: its times are worth reporting. ``stream`` is where all work goes."""

    device: Device
    measurement: bool
    stream: int

    def queue(self, context: Context, call: RawCall, workspace: int, size: int) -> None:
        """Launch one of our kernels without waiting. Raises LaunchFailed and the runtime's errors."""

    def elapsed(self, work: Callable[[], None], *, hide: bool) -> float:
        """Microseconds of ``work``; see ``rounds.Timer``."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """What queues all that ``work`` queues, as one graph. Raises CannotCapture."""

    def copy(self, target: int, source: int, size: int) -> None:
        """Queue a copy within the device's memory."""

    def synchronize(self) -> None:
        """Wait for everything queued."""

    def cache_bytes(self) -> int:
        """Of the last cache before memory."""

    def free_bytes(self) -> int:
        """Of memory that can still be had."""

    def clocks(self) -> dict[str, str] | None:
        """Clocks, power and temperature now, where they can be read."""


class GpuBench:
    """A GPU: events and graphs on a stream of our own."""

    measurement = True

    def __init__(self, device: CudaDevice) -> None:
        self.device: Device = device
        self._cuda = device
        self.stream = self._made("cuStreamCreate", _NON_BLOCKING)
        self._events = [self._made("cuEventCreate", 0) for _ in range(2)]
        self._flushed = max(2 * device.l2_bytes(), _LEAST_FLUSH)
        self._scratch = device.allocate(self._flushed)

    def _made(self, function: str, *arguments: Any) -> int:
        handle = ctypes.c_void_p()
        self._cuda.call(function, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def queue(self, context: Context, call: RawCall, workspace: int, size: int) -> None:
        self._cuda.queue(context, call, workspace, size, self.stream)

    def elapsed(self, work: Callable[[], None], *, hide: bool) -> float:
        start, end = self._events
        if hide:
            self._cuda.call("cuMemsetD8Async", self._scratch, 0, self._flushed, self.stream)
        self._cuda.call("cuEventRecord", start, self.stream)
        work()
        self._cuda.call("cuEventRecord", end, self.stream)
        self._cuda.call("cuEventSynchronize", end)
        milliseconds = ctypes.c_float()
        self._cuda.call("cuEventElapsedTime", ctypes.byref(milliseconds), start, end)
        return 1000.0 * milliseconds.value

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        self.synchronize()
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            self._cuda.call("cuStreamBeginCapture_v2", self.stream, _RELAXED)
            try:
                work()
            finally:
                self._cuda.call("cuStreamEndCapture", self.stream, ctypes.byref(graph))
            self._cuda.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, 0)
            self._cuda.call("cuGraphDestroy", graph)
        except (LaunchFailed, AttributeError) as error:
            if isinstance(error, LaunchFailed) and error.lost:
                raise
            raise CannotCapture(str(error)) from error
        return lambda: self._cuda.call("cuGraphLaunch", executable, self.stream)

    def copy(self, target: int, source: int, size: int) -> None:
        self._cuda.call("cuMemcpyDtoDAsync_v2", target, source, size, self.stream)

    def synchronize(self) -> None:
        self._cuda.synchronize()

    def cache_bytes(self) -> int:
        return self._cuda.l2_bytes()

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._cuda.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def clocks(self) -> dict[str, str] | None:
        return self._cuda.clocks()


class EmulatedBench:
    """The emulator in a GPU's place: everything happens, and nothing is measured."""

    measurement = False
    stream = 0

    def __init__(self, device: EmulatedDevice) -> None:
        self.device: Device = device

    def queue(self, context: Context, call: RawCall, workspace: int, size: int) -> None:
        self.device.launch(context, call, workspace, size)

    def elapsed(self, work: Callable[[], None], *, hide: bool) -> float:
        start = time.perf_counter()
        work()
        return 1e6 * (time.perf_counter() - start)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def copy(self, target: int, source: int, size: int) -> None:
        data = self.device.read(source, size)
        self.device.write(target, np.frombuffer(data, np.uint8))

    def synchronize(self) -> None:
        """Nothing is ever queued."""

    def cache_bytes(self) -> int:
        return 0

    def free_bytes(self) -> int:
        return 1 << 30

    def clocks(self) -> dict[str, str] | None:
        return None
