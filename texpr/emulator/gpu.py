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
from texpr.emulator.cuda import STATIC_SHARED_LIMIT, CudaError, FunctionAttribute, Result
from texpr.emulator.device_facts import (
    LARGEST_BLOCK,
    LARGEST_GRID,
    TOTAL_MEMORY,
    attributes,
    resident_blocks,
    shared_limit,
)
from texpr.emulator.faults import Fault, LaunchError, PtxError
from texpr.emulator.images import ImageIndex, KernelImage, MoreBundles, ptx_images
from texpr.emulator.kernel import Kernel
from texpr.emulator.launch import Device
from texpr.emulator.layouts import Layout


@dataclass(slots=True)
class _Module:
    images: dict[str, KernelImage]
    functions: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Function:
    image: KernelImage
    dynamic_shared: int = STATIC_SHARED_LIMIT


class VirtualGpu:
    """One simulated GPU of capability ``sm`` (major * 10 + minor) that can run the cubins of ``bundles``.

    ``multiprocessors``, ``checks``, ``batch``, ``counting`` (its ``counters``) and ``seed`` are those of
    :class:`texpr.emulator.Device`; ``counters`` sums up what launches counted; ``more`` finds further bundles when a
    cubin is in none of them. Safe to call from several threads.
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
        more: MoreBundles | None = None,
    ) -> None:
        self.sm = sm
        self.multiprocessors = multiprocessors
        self.device = Device(
            sm=sm, checks=checks, batch=batch, multiprocessors=multiprocessors, counters=counting, seed=seed
        )
        self.faults: list[Fault] = []
        self.counters = Counters()
        self._images = ImageIndex(bundles, more)
        self._modules: dict[int, _Module] = {}
        self._functions: dict[int, _Function] = {}
        self._anonymous: set[int] = set()
        self._handles: Callable[[], int] = itertools.count(0x1000, 0x10).__next__
        self._lock = threading.RLock()

    # Device facts

    @property
    def shared_limit(self) -> int:
        """Opt-in shared memory of one block in bytes."""
        return shared_limit(self.sm)

    def device_attribute(self, attribute: int) -> int:
        """``cuDeviceGetAttribute``; an attribute that CUDA 12 does not have raises INVALID_VALUE."""
        value = attributes(self.sm, self.multiprocessors).get(attribute)
        if value is None:
            raise CudaError(Result.INVALID_VALUE, f"the stand-in driver does not know device attribute {attribute}")
        return value

    # Modules and functions

    def load_module(self, image: bytes) -> int:
        """``cuModuleLoadData``: a cubin of a registered bundle, or PTX text, for the simulated capability."""
        with self._lock:
            images = self._images_of(image)
            first = next(iter(images.values()), None)
            if first is not None and not first.runs_on(self.sm):
                what = "a cubin" if first.bundle is not None else "PTX"
                raise CudaError(
                    Result.NO_BINARY_FOR_GPU, f"{what} for {first.target} does not run on compute capability {self.sm}"
                )
            handle = self._handles()
            self._modules[handle] = _Module(images)
            return handle

    def _images_of(self, image: bytes) -> dict[str, KernelImage]:
        if image[:4] == b"\x7fELF":
            found = self._images.find(image)
            return {found.kernel: found}
        try:
            text = image.rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if ".version" not in text or ".target" not in text:
            raise CudaError(Result.INVALID_IMAGE, "the image is neither a cubin nor PTX")
        return ptx_images(text, "<PTX of the program>")

    def owners(self, handle: int) -> tuple[Path, ...]:
        """The bundles that have the cubin behind a function or module."""
        images = self._module(handle).images.values()
        return tuple(owner for image in images for owner in self._images.owners(image))

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
            module = self._module(handle)
            if name not in module.images:
                known = ", ".join(module.images) or "no kernels"
                raise CudaError(Result.NOT_FOUND, f"the module contains {known}, not {name}")
            function = self._handles()
            self._functions[function] = _Function(module.images[name])
            module.functions.add(function)
            return function

    def function_names(self, handle: int) -> tuple[str, ...]:
        """``cuModuleEnumerateFunctions``, as names."""
        with self._lock:
            return tuple(self._module(handle).images)

    def global_variable(self, handle: int, name: str) -> tuple[int, int]:
        """``cuModuleGetGlobal``: address and size in bytes."""
        with self._lock:
            for image in self._module(handle).images.values():
                module = image.load()
                for variable in module.variables:
                    if variable.name == name and variable.space in ("global", "const"):
                        return self.device.symbols(module)[name], variable.size
            raise CudaError(Result.NOT_FOUND, f"the module has no global variable {name}")

    def _module(self, handle: int) -> _Module:
        module = self._modules.get(handle)
        if module is None:
            raise CudaError(Result.INVALID_HANDLE, f"{handle:#x} is not a loaded module")
        return module

    def function_attribute(self, handle: int, attribute: int) -> int:
        """``cuFuncGetAttribute``, from the bundle's manifest."""
        function = self._function(handle)
        match attribute:
            case FunctionAttribute.MAX_THREADS_PER_BLOCK:
                return function.image.max_threads
            case FunctionAttribute.SHARED_SIZE_BYTES:
                return function.image.static_shared
            case (
                FunctionAttribute.CONST_SIZE_BYTES
                | FunctionAttribute.CACHE_MODE_CA
                | FunctionAttribute.PREFERRED_SHARED_MEMORY_CARVEOUT
            ):
                return 0
            case FunctionAttribute.LOCAL_SIZE_BYTES:
                return function.image.local_bytes
            case FunctionAttribute.NUM_REGS:
                return function.image.registers
            case FunctionAttribute.CLUSTER_SIZE_MUST_BE_SET:
                return int(self._kernel(function.image).explicit_cluster)
            case (
                FunctionAttribute.REQUIRED_CLUSTER_WIDTH
                | FunctionAttribute.REQUIRED_CLUSTER_HEIGHT
                | FunctionAttribute.REQUIRED_CLUSTER_DEPTH
            ):
                required = self._kernel(function.image).cluster or (0, 0, 0)
                return required[attribute - FunctionAttribute.REQUIRED_CLUSTER_WIDTH]
            case FunctionAttribute.PTX_VERSION | FunctionAttribute.BINARY_VERSION:
                return function.image.capability
            case FunctionAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES:
                return function.dynamic_shared
            case _:
                raise CudaError(
                    Result.INVALID_VALUE, f"the stand-in driver does not know function attribute {attribute}"
                )

    @staticmethod
    def _kernel(image: KernelImage) -> Kernel:
        return image.load().kernels[image.kernel]

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

    def parameters(self, handle: int) -> tuple[tuple[int, int], ...]:
        """Offsets and sizes in bytes of the kernel's parameters, in order, as its PTX declares them."""
        image = self._function(handle).image
        return tuple((param.offset, param.size) for param in image.load().kernels[image.kernel].params)

    def parameter_sizes(self, handle: int) -> tuple[int, ...]:
        """Sizes in bytes of the kernel's parameters, in order."""
        return tuple(size for _, size in self.parameters(handle))

    def resident_blocks(self, handle: int, threads: int, shared: int) -> int:
        """``cuOccupancyMaxActiveBlocksPerMultiprocessor``."""
        image = self._function(handle).image
        if threads > image.max_threads:
            return 0
        total = shared + image.static_shared
        return resident_blocks(self.sm, threads=threads, registers=image.registers, shared=total)

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
            if size > self.free_memory():
                raise CudaError(Result.OUT_OF_MEMORY, f"{size} bytes asked for, {self.free_memory()} are free")
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

    def write(self, address: int, data: bytes | memoryview) -> None:
        """``cuMemcpyHtoD``."""
        with self._lock, _invalid_value():
            self.device.write(address, data)

    def read(self, address: int, size: int) -> bytes:
        """``cuMemcpyDtoH``."""
        with self._lock, _invalid_value():
            return self.device.read(address, size)

    def fill(self, address: int, value: int, count: int, element: int = 1) -> None:
        """``cuMemsetD8``, ``D16`` and ``D32``: ``count`` elements of ``element`` bytes, at a multiple of that."""
        if address % element:
            raise CudaError(Result.INVALID_VALUE, f"{address:#x} is not a multiple of {element} bytes")
        with self._lock, _invalid_value():
            self.device.fill(address, value, count, element)

    def copy(self, to: int, source: int, size: int) -> None:
        """``cuMemcpyDtoD``."""
        with self._lock, _invalid_value():
            self.device.copy(to, source, size)

    def range(self, address: int) -> tuple[int, int]:
        """``cuMemGetAddressRange``: start and size of the allocation that holds ``address``."""
        with self._lock, _invalid_value():
            allocation, _ = self.device.memory.span(address, 0)
            return allocation.address, allocation.size

    def free_memory(self) -> int:
        """``cuMemGetInfo``: bytes that can be allocated, of ``TOTAL_MEMORY``."""
        with self._lock:
            return max(TOTAL_MEMORY - sum(allocation.size for allocation in self.device.memory.live()), 0)

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
        cluster: tuple[int, int, int] | None = None,
    ) -> None:
        """``cuLaunchKernelEx``; ``params`` are the exact bytes of each parameter, ``cluster`` its attribute for the
        dimensions of clusters.

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
                    module, image.kernel, grid=grid, block=block, shared=shared, params=list(params), cluster=cluster
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
        if any(not 1 <= size <= limit for size, limit in zip(grid, LARGEST_GRID, strict=True)):
            raise CudaError(Result.INVALID_VALUE, f"{kernel}: grid {grid} is outside 1..{LARGEST_GRID}")
        if any(not 1 <= size <= limit for size, limit in zip(block, LARGEST_BLOCK, strict=True)):
            raise CudaError(Result.INVALID_VALUE, f"{kernel}: block {block} is outside 1..{LARGEST_BLOCK}")
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
