"""The driver table of ``texpr_abi.h``, filled with Python callbacks over a simulated GPU.

A bundle's launcher reaches the driver only through this table, so the very C code that ships runs on the emulator in
this process:

    driver = EmulatedDriver([Path("build/dense")], sm=80)
    library.softmax_init(ctx, ctypes.byref(driver.table), error)

A callback cannot raise through C. Whatever goes wrong in one is kept, becomes a ``CUresult`` for the C code, and is
raised again by :meth:`EmulatedDriver.raise_pending`, which callers run after every call into the launcher.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from texpr.emulator.cuda import CudaError, Result
from texpr.emulator.faults import Fault
from texpr.emulator.gpu import VirtualGpu
from texpr.emulator.images import elf_size
from texpr.emulator.tensor_maps import TensorMapError, encode_tiled

ABI_VERSION: Final = 1
CONTEXT: Final = 0xC0DE0000
"""The handle of the simulated device's one context."""
DRIVER_VERSION: Final = 13000
"""CUDA 13.0, whose driver loads the cubins of every target."""
MAP_ALIGNMENT: Final = 64
_ATTRIBUTE_BYTES: Final = 72  # of a CUlaunchAttribute
_CLUSTER: Final = 4  # CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
_EARLY_START: Final = 6  # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION

_VOID_P = ctypes.c_void_p
_INT = ctypes.c_int
_INT_P = ctypes.POINTER(ctypes.c_int)
_VOID_PP = ctypes.POINTER(ctypes.c_void_p)
_UINT64_P = ctypes.POINTER(ctypes.c_uint64)
_UINT32_P = ctypes.POINTER(ctypes.c_uint32)


class LaunchConfig(ctypes.Structure):
    """``texpr_launch_config``, laid out like ``CUlaunchConfig``."""

    _fields_ = (
        *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z")),
        ("shared_bytes", ctypes.c_uint),
        ("stream", _VOID_P),
        ("attributes", _VOID_P),
        ("attribute_count", ctypes.c_uint),
    )


_CONFIG_P = ctypes.POINTER(LaunchConfig)

_SIGNATURES: Final[dict[str, Any]] = {
    "ctx_get_current": ctypes.CFUNCTYPE(_INT, _VOID_PP),
    "ctx_get_device": ctypes.CFUNCTYPE(_INT, _INT_P),
    "device_get_attribute": ctypes.CFUNCTYPE(_INT, _INT_P, _INT, _INT),
    "stream_is_capturing": ctypes.CFUNCTYPE(_INT, _VOID_P, _INT_P),
    "module_load_data": ctypes.CFUNCTYPE(_INT, _VOID_PP, _VOID_P),
    "module_unload": ctypes.CFUNCTYPE(_INT, _VOID_P),
    "module_get_function": ctypes.CFUNCTYPE(_INT, _VOID_PP, _VOID_P, ctypes.c_char_p),
    "func_get_attribute": ctypes.CFUNCTYPE(_INT, _INT_P, _INT, _VOID_P),
    "func_set_attribute": ctypes.CFUNCTYPE(_INT, _VOID_P, _INT, _INT),
    "func_load": ctypes.CFUNCTYPE(_INT, _VOID_P),
    "launch_kernel_ex": ctypes.CFUNCTYPE(_INT, _CONFIG_P, _VOID_P, _VOID_PP, _VOID_PP),
    "memset_d8_async": ctypes.CFUNCTYPE(_INT, ctypes.c_uint64, ctypes.c_ubyte, ctypes.c_size_t, _VOID_P),
    "memset_d16_async": ctypes.CFUNCTYPE(_INT, ctypes.c_uint64, ctypes.c_ushort, ctypes.c_size_t, _VOID_P),
    "memset_d32_async": ctypes.CFUNCTYPE(_INT, ctypes.c_uint64, ctypes.c_uint, ctypes.c_size_t, _VOID_P),
    "driver_get_version": ctypes.CFUNCTYPE(_INT, _INT_P),
    "tensor_map_encode_tiled": ctypes.CFUNCTYPE(
        _INT, _VOID_P, _INT, ctypes.c_uint32, _VOID_P, _UINT64_P, _UINT64_P, _UINT32_P, _UINT32_P, *[_INT] * 4
    ),
}


class DriverTable(ctypes.Structure):
    """``texpr_driver``."""

    _fields_ = (("struct_size", ctypes.c_uint32), ("abi_version", ctypes.c_uint32), *_SIGNATURES.items())


class EmulatedDriver:
    """A simulated GPU behind a ``texpr_driver`` table. The table is valid as long as this object lives.

    ``bundles`` are the directories whose cubins may be loaded; ``sm`` is the simulated compute capability (major * 10 +
    minor), ``seed`` the schedule's (see :class:`texpr.emulator.Device`). The device memory and its counters are
    ``gpu.device``. ``context`` is the handle that is current; setting it to another value, or 0, simulates a thread
    with another context, or none.
    """

    def __init__(
        self,
        bundles: Iterable[Path],
        *,
        sm: int = 80,
        multiprocessors: int = 4,
        checks: bool = True,
        batch: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.gpu = VirtualGpu(bundles, sm=sm, multiprocessors=multiprocessors, checks=checks, batch=batch, seed=seed)
        self.context = CONTEXT
        self._pending: BaseException | None = None
        methods = {name: self._guarded(getattr(self, f"_{name}")) for name in _SIGNATURES}
        callbacks = {name: _SIGNATURES[name](method) for name, method in methods.items()}
        self.table = DriverTable(ctypes.sizeof(DriverTable), ABI_VERSION, **callbacks)

    def raise_pending(self) -> None:
        """Raise what the last failing callback kept, if anything: a Fault of the kernel, or any other exception.

        A refusal the launcher itself reports through a status (an unknown cubin, say) is raised too, as CudaError.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            raise pending

    def discard_pending(self) -> BaseException | None:
        """Forget what the last failing callback kept, and return it."""
        pending, self._pending = self._pending, None
        return pending

    def _guarded(self, method: Callable[..., None]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            try:
                method(*arguments)
            except CudaError as error:
                self._pending = error.__cause__ if isinstance(error.__cause__, Fault) else error
                return error.result.value
            except BaseException as error:  # nothing may propagate into C; raise_pending() delivers it
                self._pending = error
                return Result.UNKNOWN.value
            return Result.SUCCESS.value

        return call

    def _ctx_get_current(self, context: Any) -> None:
        context[0] = self.context or None

    def _ctx_get_device(self, device: Any) -> None:
        if not self.context:
            raise CudaError(Result.INVALID_CONTEXT, "no context is current")
        device[0] = 0

    def _device_get_attribute(self, value: Any, attribute: int, device: int) -> None:
        if device != 0:
            raise CudaError(Result.INVALID_DEVICE, f"device {device} does not exist, the emulator has one")
        value[0] = self.gpu.device_attribute(attribute)

    def _stream_is_capturing(self, stream: int | None, status: Any) -> None:
        del stream  # launches are synchronous and nothing is ever captured
        status[0] = 0

    def _module_load_data(self, module: Any, image: int | None) -> None:
        if not image:
            raise CudaError(Result.INVALID_VALUE, "the image is null")
        cubin = ctypes.string_at(image, elf_size(image))
        module[0] = self.gpu.load_module(cubin)

    def _module_unload(self, module: int | None) -> None:
        self.gpu.unload_module(module or 0)

    def _module_get_function(self, function: Any, module: int | None, name: bytes) -> None:
        function[0] = self.gpu.function(module or 0, name.decode())

    def _func_get_attribute(self, value: Any, attribute: int, function: int | None) -> None:
        value[0] = self.gpu.function_attribute(function or 0, attribute)

    def _func_set_attribute(self, function: int | None, attribute: int, value: int) -> None:
        self.gpu.set_function_attribute(function or 0, attribute, value)

    def _func_load(self, function: int | None) -> None:
        self.gpu.function_attribute(function or 0, 0)

    def _launch_kernel_ex(self, config: Any, function: int | None, params: Any, extra: Any) -> None:
        if extra:
            raise CudaError(
                Result.NOT_SUPPORTED, "the stand-in driver takes kernel parameters through `params`, not `extra`"
            )
        launch = config.contents
        if launch.attribute_count and not launch.attributes:
            raise CudaError(Result.INVALID_VALUE, "the array of launch attributes is null")
        cluster: tuple[int, int, int] | None = None
        for index in range(launch.attribute_count):
            attribute = launch.attributes + index * _ATTRIBUTE_BYTES
            identifier, _, *values = (ctypes.c_uint32 * 5).from_address(attribute)
            if identifier == _CLUSTER:
                cluster = (values[0], values[1], values[2])
            elif identifier != _EARLY_START:  # which changes nothing where one kernel runs after the other
                what = f"the stand-in driver does not support launch attribute {identifier}"
                raise CudaError(Result.NOT_SUPPORTED, what)
        sizes = self.gpu.parameter_sizes(function or 0)
        if sizes and not params:
            raise CudaError(Result.INVALID_VALUE, "the array of kernel parameters is null")
        self.gpu.launch(
            function or 0,
            grid=(launch.grid_x, launch.grid_y, launch.grid_z),
            block=(launch.block_x, launch.block_y, launch.block_z),
            shared=launch.shared_bytes,
            params=[_parameter(params, index, size) for index, size in enumerate(sizes)],
            cluster=cluster,
        )

    def _memset_d8_async(self, address: int, value: int, count: int, stream: int | None) -> None:
        self.gpu.fill(address, value, count)

    def _memset_d16_async(self, address: int, value: int, count: int, stream: int | None) -> None:
        self.gpu.fill(address, value, count, 2)

    def _memset_d32_async(self, address: int, value: int, count: int, stream: int | None) -> None:
        self.gpu.fill(address, value, count, 4)


    def _driver_get_version(self, version: Any) -> None:
        version[0] = DRIVER_VERSION

    def _tensor_map_encode_tiled(
        self, target: int | None, kind: int, rank: int, address: int | None, dimensions: Any, strides: Any, box: Any,
        steps: Any, interleave: int, swizzle: int, promotion: int, fill: int,
    ) -> None:  # fmt: skip
        if not target or target % MAP_ALIGNMENT:
            raise CudaError(Result.INVALID_VALUE, f"a tensor map at {target or 0:#x}, no multiple of {MAP_ALIGNMENT}")
        try:
            encoded = encode_tiled(
                kind, address or 0, dimensions[:rank], strides[: rank - 1], box[:rank], element_strides=steps[:rank],
                swizzle=swizzle, interleave=interleave, fill=fill, promotion=promotion,
            )  # fmt: skip
        except TensorMapError as error:
            raise CudaError(Result.INVALID_VALUE, str(error)) from error
        ctypes.memmove(target, encoded, len(encoded))


def _parameter(params: Any, index: int, size: int) -> bytes:
    address = params[index]
    if not address:
        raise CudaError(Result.INVALID_VALUE, f"the address of kernel parameter {index} is null")
    return ctypes.string_at(address, size)
