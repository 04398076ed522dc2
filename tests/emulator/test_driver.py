"""The driver table of the emulator, called the way a launcher's C code calls it."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.sample_bundles import bundle
from texpr.emulator import Fault, FaultKind
from texpr.emulator.cuda import CudaError, DeviceAttribute, FunctionAttribute, Result
from texpr.emulator.driver import CONTEXT, DriverTable, EmulatedDriver, LaunchConfig
from texpr.emulator.images import BundleError, ImageIndex, choose_capability, elf_size

ROWS, COLUMNS = 3, 130


def cubin(name: str, target: str = "sm_80") -> bytes:
    return (bundle(name) / "cubin" / f"affine_f32_rows.{target}.cubin").read_bytes()


def load(driver: EmulatedDriver, image: bytes) -> tuple[int, int]:
    """Result and handle of module_load_data; bytes follow the image so that a wrong length shows."""
    module = ctypes.c_void_p()
    buffer = ctypes.create_string_buffer(image + b"\xee" * 64)
    result = driver.table.module_load_data(ctypes.byref(module), buffer)
    return result, module.value or 0


def function_of(driver: EmulatedDriver) -> int:
    _, module = load(driver, cubin("affine"))
    function = ctypes.c_void_p()
    assert driver.table.module_get_function(ctypes.byref(function), module, b"affine_f32_rows") == 0
    return function.value or 0


def launch(driver: EmulatedDriver, function: int, values: list[Any], **config: int) -> int:
    shape = {"grid_x": ROWS, "grid_y": 1, "grid_z": 1, "block_x": 128, "block_y": 1, "block_z": 1} | config
    params = (ctypes.c_void_p * len(values))(*(ctypes.cast(ctypes.byref(value), ctypes.c_void_p) for value in values))
    return int(driver.table.launch_kernel_ex(ctypes.byref(LaunchConfig(**shape)), function, params, None))


def arguments(x: int, y: int) -> list[Any]:
    """The kernel's parameters: x, b, y, a, present, columns, stride, and Triton's two scratch pointers."""
    return [
        ctypes.c_uint64(x),
        ctypes.c_uint64(0),
        ctypes.c_uint64(y),
        ctypes.c_float(2.0),
        ctypes.c_int32(0),
        ctypes.c_int32(COLUMNS),
        ctypes.c_int64(COLUMNS),
        ctypes.c_uint64(0),
        ctypes.c_uint64(0),
    ]


@pytest.fixture
def driver() -> EmulatedDriver:
    return EmulatedDriver([bundle("affine")], sm=80)


def test_table_is_laid_out_like_the_abi_header(driver: EmulatedDriver) -> None:
    words = ctypes.sizeof(DriverTable) // 8
    assert words == 17
    assert (driver.table.struct_size, driver.table.abi_version) == (136, 1)
    header = (bundle("affine") / "texpr_abi.h").read_text()
    table = header[header.index("typedef struct texpr_driver") :]
    order = [table.index(f"(*{name})") for name, _ in DriverTable._fields_[2:]]
    assert order == sorted(order)
    assert ctypes.sizeof(LaunchConfig) == 56


def test_memsets_repeat_one_two_or_four_bytes(driver: EmulatedDriver) -> None:
    address = driver.gpu.allocate(16)
    assert driver.table.memset_d8_async(address, 0xAB, 16, None) == 0
    assert driver.table.memset_d16_async(address + 2, 0x1234, 2, None) == 0
    assert driver.table.memset_d32_async(address + 8, 0x89ABCDEF, 1, None) == 0
    assert driver.table.memset_d32_async(address + 12, 0, 0, None) == 0
    assert driver.gpu.read(address, 16) == bytes.fromhex("abab 3412 3412 abab efcdab89 abababab")
    assert driver.table.memset_d32_async(address + 2, 0, 1, None) == Result.INVALID_VALUE.value
    assert isinstance(driver.discard_pending(), CudaError)


def test_launch_runs_the_ptx_behind_the_cubin(driver: EmulatedDriver) -> None:
    function = function_of(driver)
    x = np.arange(ROWS * COLUMNS, dtype=np.float32)
    a, b = driver.gpu.allocate(x.nbytes, "x"), driver.gpu.allocate(x.nbytes, "y")
    driver.gpu.write(a, x.tobytes())
    assert launch(driver, function, arguments(a, b)) == Result.SUCCESS
    driver.raise_pending()
    assert np.array_equal(np.frombuffer(driver.gpu.read(b, x.nbytes), np.float32), x * 2)


def test_fault_becomes_launch_failed_and_is_raised_in_python(driver: EmulatedDriver) -> None:
    function = function_of(driver)
    a = driver.gpu.allocate(4 * ROWS * COLUMNS, "x")
    driver.gpu.fill(a, 0, 4 * ROWS * COLUMNS)
    short = driver.gpu.allocate(4 * ROWS * COLUMNS - 4, "y")
    assert launch(driver, function, arguments(a, short)) == Result.LAUNCH_FAILED
    with pytest.raises(Fault, match="past the end of buffer 'y'") as caught:
        driver.raise_pending()
    assert caught.value.kind is FaultKind.OUT_OF_BOUNDS
    assert caught.value.buffer == "y"
    source = caught.value.source
    assert source is not None and Path(source.file) == bundle("affine") / "kernel.py"
    assert "gl.store(y" in Path(source.file).read_text().splitlines()[source.line - 1]
    assert caught.value.func == "y" and "  --> affine.yaml:" in str(caught.value)
    driver.raise_pending()


def test_parameters_are_copied_with_their_exact_size(driver: EmulatedDriver) -> None:
    function = function_of(driver)
    assert driver.gpu.parameter_sizes(function) == (8, 8, 8, 4, 4, 4, 8, 8, 8)
    page = np.zeros(4096, np.uint8)  # values at the very end of a buffer: one byte more would read past it
    page[-4:] = np.frombuffer(struct.pack("<f", 2.0), np.uint8)
    a, b = driver.gpu.allocate(4 * ROWS * COLUMNS), driver.gpu.allocate(4 * ROWS * COLUMNS)
    driver.gpu.fill(a, 0, 4 * ROWS * COLUMNS)
    values = arguments(a, b)
    pointers = (ctypes.c_void_p * 9)(*(ctypes.addressof(value) for value in values))
    pointers[3] = page.ctypes.data + 4092
    config = LaunchConfig(ROWS, 1, 1, 128, 1, 1)
    assert driver.table.launch_kernel_ex(ctypes.byref(config), function, pointers, None) == 0


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"grid_x": 0}, "grid"),
        ({"grid_y": 65536}, "grid"),
        ({"block_x": 1025}, "block"),
        ({"block_x": 256}, "256 threads"),
        ({"block_x": 64}, "requires"),
        ({"shared_bytes": 48 * 1024 + 1}, "dynamic shared memory"),
    ],
)
def test_launches_a_gpu_would_refuse(driver: EmulatedDriver, config: dict[str, int], reason: str) -> None:
    assert launch(driver, function_of(driver), arguments(0, 0), **config) == Result.INVALID_VALUE
    with pytest.raises(CudaError, match=reason):
        driver.raise_pending()


def test_null_parameters_and_unsupported_forms(driver: EmulatedDriver) -> None:
    function = function_of(driver)
    config = LaunchConfig(1, 1, 1, 128, 1, 1)
    pointers = (ctypes.c_void_p * 9)()
    call = driver.table.launch_kernel_ex
    assert call(ctypes.byref(config), function, pointers, None) == Result.INVALID_VALUE
    assert call(ctypes.byref(config), function, None, None) == Result.INVALID_VALUE
    assert call(ctypes.byref(config), function, pointers, pointers) == Result.NOT_SUPPORTED
    config.attribute_count = 1
    assert call(ctypes.byref(config), function, pointers, None) == Result.INVALID_VALUE
    attribute = (ctypes.c_uint64 * 9)(2)  # cooperative
    config.attributes = ctypes.addressof(attribute)
    assert call(ctypes.byref(config), function, pointers, None) == Result.NOT_SUPPORTED
    attribute[0] = 6  # programmatic stream serialization
    assert call(ctypes.byref(config), function, pointers, None) != Result.NOT_SUPPORTED


def test_shared_memory_above_the_static_limit_is_opt_in(driver: EmulatedDriver) -> None:
    function = function_of(driver)
    limit = driver.gpu.device_attribute(DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
    dynamic = FunctionAttribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
    assert limit == 163 * 1024
    assert driver.table.func_set_attribute(function, dynamic, limit + 1) == Result.INVALID_VALUE
    assert driver.table.func_set_attribute(function, dynamic, limit) == Result.SUCCESS
    assert driver.gpu.function_attribute(function, dynamic) == limit


def test_function_attributes_come_from_the_manifest(driver: EmulatedDriver) -> None:
    function = function_of(driver)
    value = ctypes.c_int()
    for attribute, expected in (
        (FunctionAttribute.MAX_THREADS_PER_BLOCK, 128),
        (FunctionAttribute.LOCAL_SIZE_BYTES, 0),
    ):
        assert driver.table.func_get_attribute(ctypes.byref(value), attribute, function) == 0
        assert value.value == expected
    assert driver.gpu.function_attribute(function, FunctionAttribute.NUM_REGS) > 8
    assert driver.table.func_get_attribute(ctypes.byref(value), 99, function) == Result.INVALID_VALUE


def test_unknown_cubin_is_an_invalid_image(driver: EmulatedDriver) -> None:
    changed = bytearray(cubin("affine"))
    changed[-1] ^= 1
    assert load(driver, bytes(changed)) == (Result.INVALID_IMAGE, 0)
    with pytest.raises(CudaError, match="no registered bundle contains the cubin"):
        driver.raise_pending()
    assert load(driver, b"not an ELF image" * 8)[0] == Result.INVALID_IMAGE


def test_elf_size_is_the_file_size() -> None:
    for target, name in (("sm_80", "affine"), ("sm_90a", "affine_newer")):
        image = cubin(name, target)
        buffer = ctypes.create_string_buffer(image + b"\0" * 32)
        assert elf_size(ctypes.addressof(buffer)) == len(image)


@pytest.mark.parametrize(
    ("sm", "target", "result"),
    [
        (86, "sm_86", Result.SUCCESS),
        (89, "sm_86", Result.SUCCESS),
        (80, "sm_86", Result.NO_BINARY_FOR_GPU),
        (87, "sm_86", Result.NO_BINARY_FOR_GPU),
        (90, "sm_90a", Result.SUCCESS),
        (100, "sm_90a", Result.NO_BINARY_FOR_GPU),
    ],
)
def test_binary_compatibility(sm: int, target: str, result: Result) -> None:
    driver = EmulatedDriver([bundle("affine_newer")], sm=sm)
    assert load(driver, cubin("affine_newer", target))[0] == result


def test_simulated_capability_and_its_default() -> None:
    driver = EmulatedDriver([bundle("affine")], sm=120, multiprocessors=7)
    value = ctypes.c_int()
    wanted = {
        DeviceAttribute.COMPUTE_CAPABILITY_MAJOR: 12,
        DeviceAttribute.COMPUTE_CAPABILITY_MINOR: 0,
        DeviceAttribute.MULTIPROCESSOR_COUNT: 7,
        DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: 99 * 1024,
    }
    for attribute, expected in wanted.items():
        assert driver.table.device_get_attribute(ctypes.byref(value), attribute, 0) == 0
        assert value.value == expected
    assert driver.table.device_get_attribute(ctypes.byref(value), 9999, 0) == Result.INVALID_VALUE
    assert driver.table.device_get_attribute(ctypes.byref(value), 75, 1) == Result.INVALID_DEVICE
    assert choose_capability([bundle("affine")]) == 80
    assert choose_capability([bundle("affine_newer")]) == 86


def test_handles_are_checked(driver: EmulatedDriver) -> None:
    function, module = ctypes.c_void_p(), load(driver, cubin("affine"))[1]
    table = driver.table
    assert table.module_get_function(ctypes.byref(function), module, b"other") == Result.NOT_FOUND
    assert table.module_get_function(ctypes.byref(function), 0x77, b"affine_f32_rows") == Result.INVALID_HANDLE
    assert table.module_get_function(ctypes.byref(function), module, b"affine_f32_rows") == Result.SUCCESS
    assert table.func_load(function) == Result.SUCCESS
    assert table.module_unload(module) == Result.SUCCESS
    assert table.module_unload(module) == Result.INVALID_HANDLE
    assert table.func_load(function) == Result.INVALID_HANDLE


def test_contexts_can_be_simulated(driver: EmulatedDriver) -> None:
    context, device = ctypes.c_void_p(), ctypes.c_int(-1)
    assert driver.table.ctx_get_current(ctypes.byref(context)) == 0
    assert context.value == CONTEXT
    driver.context = 0
    assert driver.table.ctx_get_current(ctypes.byref(context)) == 0
    assert context.value is None
    assert driver.table.ctx_get_device(ctypes.byref(device)) == Result.INVALID_CONTEXT


def test_an_exception_in_a_callback_is_not_lost(driver: EmulatedDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver.gpu, "unload_module", interrupt)
    assert driver.table.module_unload(1) == Result.UNKNOWN
    with pytest.raises(KeyboardInterrupt):
        driver.raise_pending()


def test_directories_that_are_no_bundles(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no manifest\.json"):
        ImageIndex([tmp_path])
    (tmp_path / "manifest.json").write_text('{"kernels": [{}]}')
    with pytest.raises(BundleError, match="lacks a field"):
        ImageIndex([tmp_path])
