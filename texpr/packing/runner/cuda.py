"""A GPU through the CUDA driver by ctypes: memory, events, and the bundle's own launcher on the legacy default stream.

The device's primary context is used, so that torch, where it is there, sees the same memory and the same stream.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, Final

from texpr.errors import TExprError
from texpr.packing.errors import NoGpu
from texpr.packing.runner.devices import LaunchFailed
from texpr.runtime.errors import DriverError
from texpr.runtime.library import Context, EntryFunctions, Library, QueryResult, RawCall
from texpr.runtime.manifest import Entry

_OUT_OF_MEMORY: Final = 2
_LOST: Final = frozenset({214, 700, 702, 707, 709, 710, 714, 715, 716, 717, 718, 719, 999})
"""``CUresult`` values after which every later call in the context fails."""
_MULTIPROCESSORS, _L2_BYTES, _MAJOR, _MINOR = 16, 38, 75, 76
"""``CUdevice_attribute`` values."""

_P = ctypes.POINTER
_SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDriverGetVersion": (_P(ctypes.c_int),),
    "cuDeviceGet": (_P(ctypes.c_int), ctypes.c_int),
    "cuDeviceGetName": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDeviceGetPCIBusId": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDeviceGetAttribute": (_P(ctypes.c_int), ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (_P(ctypes.c_void_p), ctypes.c_int),
    "cuCtxSetCurrent": (ctypes.c_void_p,),
    "cuCtxSynchronize": (),
    "cuGetErrorName": (ctypes.c_int, _P(ctypes.c_char_p)),
    "cuMemAlloc_v2": (_P(ctypes.c_uint64), ctypes.c_size_t),
    "cuMemFree_v2": (ctypes.c_uint64,),
    "cuMemcpyHtoD_v2": (ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t),
    "cuMemcpyDtoH_v2": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t),
    "cuMemsetD8_v2": (ctypes.c_uint64, ctypes.c_ubyte, ctypes.c_size_t),
    "cuEventCreate": (_P(ctypes.c_void_p), ctypes.c_uint),
    "cuEventRecord": (ctypes.c_void_p, ctypes.c_void_p),
    "cuEventSynchronize": (ctypes.c_void_p,),
    "cuEventElapsedTime": (_P(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p),
    "cuEventDestroy_v2": (ctypes.c_void_p,),
    "cuMemGetInfo_v2": (_P(ctypes.c_size_t), _P(ctypes.c_size_t)),
    "cuMemsetD8Async": (ctypes.c_uint64, ctypes.c_ubyte, ctypes.c_size_t, ctypes.c_void_p),
    "cuMemcpyDtoDAsync_v2": (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p),
    "cuStreamCreate": (_P(ctypes.c_void_p), ctypes.c_uint),
    "cuStreamBeginCapture_v2": (ctypes.c_void_p, ctypes.c_int),
    "cuStreamEndCapture": (ctypes.c_void_p, _P(ctypes.c_void_p)),
    "cuGraphInstantiateWithFlags": (_P(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_ulonglong),
    "cuGraphLaunch": (ctypes.c_void_p, ctypes.c_void_p),
    "cuGraphDestroy": (ctypes.c_void_p,),
    "cuGraphExecDestroy": (ctypes.c_void_p,),
}


class CudaDevice:
    """GPU number ``index``. Raises NoGpu."""

    emulated = False

    def __init__(self, index: int) -> None:
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise NoGpu(why=error) from None
        self._tables: dict[str, Any] = {}
        device, context = ctypes.c_int(), ctypes.c_void_p()
        name = ctypes.create_string_buffer(256)
        try:
            self.call("cuInit", 0)
            self.call("cuDeviceGet", ctypes.byref(device), index)
            self._device = device.value
            self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
            self.call("cuCtxSetCurrent", context)
            self.call("cuDeviceGetName", name, len(name), self._device)
        except (LaunchFailed, AttributeError) as error:
            raise NoGpu(why=error) from None
        self.index = index
        self.name = name.value.decode()
        self.capability = 10 * self._attribute(_MAJOR) + self._attribute(_MINOR)
        self.multiprocessors = self._attribute(_MULTIPROCESSORS)

    def call(self, name: str, *arguments: Any) -> None:
        """A function of the driver. Raises LaunchFailed with the name of its result; AttributeError if this driver
        does not have it."""
        function = getattr(self._cuda, name)
        function.argtypes = _SIGNATURES[name]
        function.restype = ctypes.c_int
        result = function(*arguments)
        if result == _OUT_OF_MEMORY:
            raise MemoryError(f"{name}: the GPU is out of memory")
        if result != 0:
            raise LaunchFailed(f"{name}: {self._result_name(result)}", lost=result in _LOST)

    def _result_name(self, result: int) -> str:
        text = ctypes.c_char_p()
        self._cuda.cuGetErrorName.argtypes = _SIGNATURES["cuGetErrorName"]
        self._cuda.cuGetErrorName(result, ctypes.byref(text))
        return f"{text.value.decode()} ({result})" if text.value else f"CUresult {result}"

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    def l2_bytes(self) -> int:
        """Size of the second-level cache; 0 if the driver does not say."""
        try:
            return self._attribute(_L2_BYTES)
        except LaunchFailed:
            return 0

    def facts(self) -> dict[str, Any]:
        version = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        return {
            "name": self.name,
            "capability": self.capability,
            "multiprocessors": self.multiprocessors,
            "cuda_driver": f"{version.value // 1000}.{version.value % 1000 // 10}",
            "nvidia_smi": self.clocks(),
        }

    def clocks(self) -> dict[str, str] | None:
        """What ``nvidia-smi`` says of this very GPU now: its numbers may be others than the driver's."""
        bus = ctypes.create_string_buffer(32)
        try:
            self.call("cuDeviceGetPCIBusId", bus, len(bus), self._device)
        except (LaunchFailed, AttributeError):
            return None
        return nvidia_smi(bus.value.decode())

    # Memory

    def allocate(self, size: int) -> int:
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        self.call("cuMemFree_v2", address)

    def write(self, address: int, data: Any) -> None:
        if data.nbytes:
            self.call("cuMemcpyHtoD_v2", address, data.ctypes.data, data.nbytes)

    def read(self, address: int, size: int) -> bytes:
        data = bytearray(size)
        if size:
            target = (ctypes.c_char * size).from_buffer(data)
            self.call("cuMemcpyDtoH_v2", target, address, size)
        return bytes(data)

    def fill(self, address: int, value: int, size: int) -> None:
        if size:
            self.call("cuMemsetD8_v2", address, value, size)

    def synchronize(self) -> None:
        self.call("cuCtxSynchronize")

    # Launches

    def open(self, library: Library, entry: Entry) -> Context:
        name = library.manifest.name
        if name not in self._tables:
            self._tables[name] = library.open_cuda_driver()
        return EntryFunctions(library, entry).open(self._tables[name])

    def query(self, context: Context, call: RawCall) -> QueryResult:
        return context.query(call)

    def launch(self, context: Context, call: RawCall, workspace: int, size: int) -> None:
        self.queue(context, call, workspace, size)
        self.synchronize()

    def queue(self, context: Context, call: RawCall, workspace: int, size: int, stream: int = 0) -> None:
        """Launch without waiting. Raises LaunchFailed where the driver refuses."""
        try:
            context.launch(call, stream=stream, workspace=workspace, workspace_bytes=size)
        except DriverError as error:
            result = error.fields.get("result")
            raise LaunchFailed(str(error), lost=result in _LOST) from error

    def elapsed(self, work: Callable[[], None], between: Callable[[], None], count: int) -> list[float]:
        """Microseconds on the device of each of ``count`` runs of ``work``, with ``between`` before each outside of the
        measured time. Both only queue work on the default stream."""
        events = [self._event() for _ in range(2 * count)]
        try:
            for run in range(count):
                between()
                self.call("cuEventRecord", events[2 * run], None)
                work()
                self.call("cuEventRecord", events[2 * run + 1], None)
            self.synchronize()
            return [self._between(events[2 * run], events[2 * run + 1]) for run in range(count)]
        finally:
            for event in events:
                self.call("cuEventDestroy_v2", event)

    def _event(self) -> ctypes.c_void_p:
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), 0)
        return event

    def _between(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        milliseconds = ctypes.c_float()
        self.call("cuEventElapsedTime", ctypes.byref(milliseconds), start, end)
        return 1000.0 * milliseconds.value


_SMI_FIELDS: Final = (
    "name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.draw",
    "temperature.gpu", "persistence_mode",
)  # fmt: skip


def nvidia_smi(gpu: str) -> dict[str, str] | None:
    """Driver, clocks, power and temperature of a GPU (by its PCI bus id) now; None where there is no ``nvidia-smi``.
    Nothing is changed."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--id={gpu}", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(_SMI_FIELDS, values, strict=True)) if len(values) == len(_SMI_FIELDS) else None


def describe(error: Exception) -> str:
    """An error as text; the codes of TExpr's own stay in front."""
    return str(error) if isinstance(error, (TExprError, LaunchFailed)) else f"{type(error).__name__}: {error}"
