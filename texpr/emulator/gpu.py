"""A CUDA driver without a GPU: modules, functions, attributes, memory and launches of one simulated device, as Python
methods.

``driver.py`` puts this behind the function table of a bundle's launcher, ``standin.py`` behind a ``libcuda.so.1``.
Every method either does what the driver would do or raises :class:`CudaError` with the result the driver would return.
A :class:`Fault` of a kernel is kept in ``faults`` and surfaces as ``CUDA_ERROR_LAUNCH_FAILED``. Launches are
synchronous, so every stream is always idle.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from texpr.emulator.counters import Counters
from texpr.emulator.cuda import STATIC_SHARED_LIMIT, CudaError, DeviceAttribute, FunctionAttribute, Result
from texpr.emulator.faults import Fault, LaunchError, PtxError
from texpr.emulator.images import ImageIndex, KernelImage
from texpr.emulator.launch import Device
from texpr.emulator.layouts import Layout
from texpr.targets import TARGETS

_LARGEST_GRID = (2**31 - 1, 65535, 65535)
_LARGEST_BLOCK = (1024, 1024, 64)
_OTHER_SHARED_LIMIT = 64 * 1024
_RESERVED_SHARED = 1024


@dataclass(slots=True)
class _Module:
    image: KernelImage
    functions: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Function:
    image: KernelImage
    dynamic_shared: int = STATIC_SHARED_LIMIT


class VirtualGpu:
    """One simulated GPU of capability ``sm`` (major * 10 + minor) that can run the cubins of ``bundles``.

    ``multiprocessors``, ``checks``, ``batch``, ``counting`` (its ``counters``) and ``seed`` are those of
    :class:`texpr.emulator.Device`; ``counters`` sums up what launches counted. Safe to call from several threads.
    """

    def __init__(
        self,
        bundles: Iterable[Path],
        *,
        sm: int = 80,
        multiprocessors: int = 4,
        checks: bool = True,
        batch: int | None = None,
        counting: bool = False,
        seed: int | None = None,
    ) -> None:
        self.sm = sm
        self.multiprocessors = multiprocessors
        self.device = Device(
            sm=sm, checks=checks, batch=batch, multiprocessors=multiprocessors, counters=counting, seed=seed
        )
        self.faults: list[Fault] = []
        self.counters = Counters()
        self._images = ImageIndex(bundles)
        self._modules: dict[int, _Module] = {}
        self._functions: dict[int, _Function] = {}
        self._anonymous: set[int] = set()
        self._handles: Callable[[], int] = itertools.count(0x1000, 0x10).__next__
        self._lock = threading.RLock()

    # Device facts

    @property
    def shared_limit(self) -> int:
        """Opt-in shared memory of one block in bytes."""
        return max(
            (target.shared_limit for target in TARGETS.values() if target.capability == self.sm),
            default=_OTHER_SHARED_LIMIT,
        )

    def device_attribute(self, attribute: int) -> int:
        """``cuDeviceGetAttribute``; an attribute the stand-in does not know raises INVALID_VALUE."""
        values = {
            DeviceAttribute.MAX_THREADS_PER_BLOCK: 1024,
            DeviceAttribute.MAX_BLOCK_DIM_X: _LARGEST_BLOCK[0],
            DeviceAttribute.MAX_BLOCK_DIM_Y: _LARGEST_BLOCK[1],
            DeviceAttribute.MAX_BLOCK_DIM_Z: _LARGEST_BLOCK[2],
            DeviceAttribute.MAX_GRID_DIM_X: _LARGEST_GRID[0],
            DeviceAttribute.MAX_GRID_DIM_Y: _LARGEST_GRID[1],
            DeviceAttribute.MAX_GRID_DIM_Z: _LARGEST_GRID[2],
            DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK: STATIC_SHARED_LIMIT,
            DeviceAttribute.WARP_SIZE: 32,
            DeviceAttribute.MAX_REGISTERS_PER_BLOCK: 65536,
            DeviceAttribute.CLOCK_RATE: 1_000_000,
            DeviceAttribute.MULTIPROCESSOR_COUNT: self.multiprocessors,
            DeviceAttribute.MAX_THREADS_PER_MULTIPROCESSOR: 2048,
            DeviceAttribute.UNIFIED_ADDRESSING: 1,
            DeviceAttribute.COMPUTE_CAPABILITY_MAJOR: self.sm // 10,
            DeviceAttribute.COMPUTE_CAPABILITY_MINOR: self.sm % 10,
            DeviceAttribute.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: self.shared_limit + _RESERVED_SHARED,
            DeviceAttribute.MAX_REGISTERS_PER_MULTIPROCESSOR: 65536,
            DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: self.shared_limit,
        }
        value = values.get(DeviceAttribute(attribute)) if attribute in list(DeviceAttribute) else None
        if value is None:
            raise CudaError(Result.INVALID_VALUE, f"the stand-in driver does not know device attribute {attribute}")
        return value

    # Modules and functions

    def load_module(self, cubin: bytes) -> int:
        """``cuModuleLoadData``: the cubin must belong to a registered bundle and be compatible with the simulated
        capability.
        """
        with self._lock:
            image = self._images.find(cubin)
            if not image.runs_on(self.sm):
                raise CudaError(
                    Result.NO_BINARY_FOR_GPU, f"a cubin for {image.target} does not run on compute capability {self.sm}"
                )
            handle = self._handles()
            self._modules[handle] = _Module(image)
            return handle

    def unload_module(self, handle: int) -> None:
        """``cuModuleUnload``: the module's functions become invalid."""
        with self._lock:
            module = self._modules.pop(handle, None)
            if module is None:
                raise CudaError(Result.INVALID_HANDLE, f"{handle:#x} is not a loaded module")
            for function in module.functions:
                del self._functions[function]

    def function(self, handle: int, name: str) -> int:
        """``cuModuleGetFunction``."""
        with self._lock:
            module = self._modules.get(handle)
            if module is None:
                raise CudaError(Result.INVALID_HANDLE, f"{handle:#x} is not a loaded module")
            if name != module.image.kernel:
                raise CudaError(Result.NOT_FOUND, f"the module contains {module.image.kernel}, not {name}")
            function = self._handles()
            self._functions[function] = _Function(module.image)
            module.functions.add(function)
            return function

    def function_attribute(self, handle: int, attribute: int) -> int:
        """``cuFuncGetAttribute``, from the bundle's manifest. Triton's shared memory is all dynamic, so the static size
        is 0.
        """
        function = self._function(handle)
        match attribute:
            case FunctionAttribute.MAX_THREADS_PER_BLOCK:
                return function.image.max_threads
            case FunctionAttribute.SHARED_SIZE_BYTES | FunctionAttribute.CONST_SIZE_BYTES:
                return 0
            case FunctionAttribute.LOCAL_SIZE_BYTES:
                return function.image.local_bytes
            case FunctionAttribute.NUM_REGS:
                return function.image.registers
            case FunctionAttribute.PTX_VERSION | FunctionAttribute.BINARY_VERSION:
                return function.image.capability
            case FunctionAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES:
                return function.dynamic_shared
            case _:
                raise CudaError(
                    Result.INVALID_VALUE, f"the stand-in driver does not know function attribute {attribute}"
                )

    def set_function_attribute(self, handle: int, attribute: int, value: int) -> None:
        """``cuFuncSetAttribute``: the limit of dynamic shared memory, or a carve-out hint (ignored, as it cannot change
        a result).
        """
        function = self._function(handle)
        match attribute:
            case FunctionAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES:
                if not 0 <= value <= self.shared_limit:
                    raise CudaError(
                        Result.INVALID_VALUE,
                        f"{function.image.kernel}: {value} bytes of dynamic shared memory, the limit of "
                        f"compute capability {self.sm} is {self.shared_limit}",
                    )
                function.dynamic_shared = value
            case FunctionAttribute.PREFERRED_SHARED_MEMORY_CARVEOUT:
                return
            case _:
                raise CudaError(Result.INVALID_VALUE, f"function attribute {attribute} cannot be set")

    def parameter_sizes(self, handle: int) -> tuple[int, ...]:
        """Sizes in bytes of the kernel's parameters, in order, as its PTX declares them."""
        image = self._function(handle).image
        return tuple(param.size for param in image.load().kernels[image.kernel].params)

    def _function(self, handle: int) -> _Function:
        with self._lock:
            function = self._functions.get(handle)
        if function is None:
            raise CudaError(Result.INVALID_HANDLE, f"{handle:#x} is not a function of a loaded module")
        return function

    # Memory

    def allocate(self, size: int, name: str | None = None, layout: Layout | None = None) -> int:
        """``cuMemAlloc``: the address of ``size`` fresh, poisoned bytes.

        ``name`` and ``layout`` are what faults say of them; without a name they take that of the argument they are
        last passed as.
        """
        with self._lock:
            address = self.device.alloc(size, name=name or f"allocation of {size} bytes")
            self.device.set_layout(address, layout)
            if name is None:
                self._anonymous.add(address)
            return address

    def free(self, address: int) -> None:
        """``cuMemFree``."""
        with self._lock, _invalid_value():
            self.device.free(address)
            self._anonymous.discard(address)

    def write(self, address: int, data: bytes) -> None:
        """``cuMemcpyHtoD``."""
        with self._lock, _invalid_value():
            self.device.write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """``cuMemcpyDtoH``."""
        with self._lock, _invalid_value():
            return bytes(self.device.read(address, size))

    def fill(self, address: int, value: int, size: int) -> None:
        """``cuMemsetD8``."""
        with self._lock, _invalid_value():
            self.device.fill(address, value, size)

    def protect(self, address: int) -> None:
        """Make the buffer at ``address`` read-only for kernels: a write to it is a fault."""
        with self._lock, _invalid_value():
            self.device.memory.span(address, 0)[0].read_only = True

    # Launches

    def launch(
        self,
        handle: int,
        *,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared: int,
        params: Sequence[bytes],
    ) -> None:
        """``cuLaunchKernelEx`` without attributes; ``params`` are the exact bytes of each parameter.

        A fault of the kernel is appended to ``faults`` and raised as CudaError(LAUNCH_FAILED).
        """
        function = self._function(handle)
        image = function.image
        self._check_configuration(function, grid, block, shared)
        module = image.load()
        with self._lock:
            self._name_buffers(image, params)
            try:
                stats = self.device.launch(
                    module, image.kernel, grid=grid, block=block, shared=shared, params=list(params)
                )
                if stats.counters is not None:
                    self.counters += stats.counters
            except LaunchError as error:
                raise CudaError(Result.INVALID_VALUE, str(error)) from error
            except PtxError as error:
                raise CudaError(Result.INVALID_PTX, str(error)) from error
            except Fault as error:
                fault = image.trace(error)
                self.faults.append(fault)
                raise CudaError(Result.LAUNCH_FAILED, str(fault)) from fault

    def _name_buffers(self, image: KernelImage, params: Sequence[bytes]) -> None:
        """Buffers of unknown purpose get the names of the arguments that they are passed as, and their shapes."""
        layouts = image.layouts(params)
        for tensor in image.tensors:
            position = tensor.position
            address = int.from_bytes(params[position], "little") if position < len(params) else 0
            if address in self._anonymous:
                self.device.rename(address, tensor.name)
                self.device.set_layout(address, layouts.get(position))

    def _check_configuration(
        self, function: _Function, grid: tuple[int, int, int], block: tuple[int, int, int], shared: int
    ) -> None:
        kernel = function.image.kernel
        if any(not 1 <= size <= limit for size, limit in zip(grid, _LARGEST_GRID, strict=True)):
            raise CudaError(Result.INVALID_VALUE, f"{kernel}: grid {grid} is outside 1..{_LARGEST_GRID}")
        if any(not 1 <= size <= limit for size, limit in zip(block, _LARGEST_BLOCK, strict=True)):
            raise CudaError(Result.INVALID_VALUE, f"{kernel}: block {block} is outside 1..{_LARGEST_BLOCK}")
        threads = block[0] * block[1] * block[2]
        if threads > function.image.max_threads:
            raise CudaError(
                Result.INVALID_VALUE,
                f"{kernel}: a block of {threads} threads, the kernel was compiled for {function.image.max_threads}",
            )
        if shared > function.dynamic_shared:
            raise CudaError(
                Result.INVALID_VALUE,
                f"{kernel}: {shared} bytes of dynamic shared memory, {function.dynamic_shared} are allowed "
                "(raise MAX_DYNAMIC_SHARED_SIZE_BYTES first)",
            )


@contextmanager
def _invalid_value() -> Iterator[None]:
    """Turn the device's ValueError (an address outside the live buffers) into the driver's answer to it."""
    try:
        yield
    except ValueError as error:
        raise CudaError(Result.INVALID_VALUE, str(error)) from error
