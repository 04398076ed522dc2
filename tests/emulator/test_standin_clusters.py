"""Clusters through the driver API: the table that launchers use, and the stand-in libcuda."""

from __future__ import annotations

import ctypes
import io
import shutil
import sys
from pathlib import Path

import pytest

from tests.emulator.snippets import kernel
from texpr.emulator import Device, LaunchError, load_ptx, run_ptx
from texpr.emulator.cuda import DeviceAttribute, FunctionAttribute, Result
from texpr.emulator.driver import EmulatedDriver, LaunchConfig
from texpr.emulator.standin import run_program

# Every program writes the number of the other one of its cluster, which it reads from that one's memory.
PTX = kernel(
    """
    mov.u32 %r, %cluster_ctarank; mov.u32 %b, word; st.shared.u32 [%b], %r;
    barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
    xor.b32 %r, %r, 1; mapa.shared::cluster.u32 %b, %b, %r; ld.shared::cluster.u32 %r, [%b];
    barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
    mov.u32 %b, %ctaid.x; ld.param.u64 %out, [out]; mad.wide.u32 %out, %b, 4, %out; st.global.u32 [%out], %r;
    """,
    ".param .u64 out",
    declarations=".reg .b32 %r, %b; .reg .b64 %out;",
    module=".shared .align 4 .b8 word[4];",
    target="sm_90",
).replace(".reqntid 32", ".reqntid 32\n.explicitcluster\n.reqnctapercluster 2")

PROGRAM = """
import ctypes, sys, struct
cuda = ctypes.CDLL("libcuda.so.1")
def ok(result):
    if result: raise SystemExit(f"result {result}")
context, module, function, out = (ctypes.c_void_p() for _ in range(4))
out = ctypes.c_uint64()
ok(cuda.cuInit(0)); ok(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)); ok(cuda.cuCtxSetCurrent(context))
ok(cuda.cuModuleLoad(ctypes.byref(module), sys.argv[1].encode()))
ok(cuda.cuModuleGetFunction(ctypes.byref(function), module, b"test"))
ok(cuda.cuMemAlloc_v2(ctypes.byref(out), ctypes.c_size_t(16)))
class Config(ctypes.Structure):
    _fields_ = [("shape", ctypes.c_uint * 7), ("stream", ctypes.c_void_p), ("attributes", ctypes.c_void_p),
                ("count", ctypes.c_uint)]
attribute = (ctypes.c_uint32 * 18)(4, 0, *map(int, sys.argv[2:5]))
params = (ctypes.c_void_p * 1)(ctypes.addressof(out))
shape, given = (ctypes.c_uint * 7)(4, 1, 1, 32, 1, 1, 0), int(sys.argv[2] != "0")
config = Config(shape, None, ctypes.addressof(attribute), given)
clusters, blocks = ctypes.c_int(), ctypes.c_int()
ok(cuda.cuOccupancyMaxActiveClusters(ctypes.byref(clusters), function, ctypes.byref(config)))
ok(cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor(ctypes.byref(blocks), function, 32, ctypes.c_size_t(0)))
if clusters.value * (int(sys.argv[2]) or 2) != 4 * blocks.value: raise SystemExit("wrong occupancy")
ok(cuda.cuLaunchKernelEx(ctypes.byref(config), function, params, None))
room = ctypes.create_string_buffer(16)
ok(cuda.cuMemcpyDtoH_v2(room, out, ctypes.c_size_t(16)))
raise SystemExit(0 if struct.unpack("<4I", room.raw) == (1, 0, 1, 0) else "wrong numbers")
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(("cluster", "status", "said"), [
    (("2", "1", "1"), 0, ""), (("4", "1", "1"), 1, "the kernel requires (2, 1, 1)"),
    (("0", "0", "0"), 1, "the launch must give the cluster"),
])  # fmt: skip
def test_a_program_launches_clusters(tmp_path: Path, cluster: tuple[str, ...], status: int, said: str) -> None:
    (tmp_path / "k.ptx").write_text(PTX)
    report = io.StringIO()
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path / "k.ptx"), *cluster]
    assert run_program(argv, [], sm=90, errors=report) == status
    assert said in report.getvalue()


def _launch(driver: EmulatedDriver, cluster: tuple[int, ...] | None, blocks: int = 4) -> int:
    table = driver.table
    out = ctypes.c_uint64(driver.gpu.allocate(4 * blocks))
    function = driver.gpu.function(driver.gpu.load_module(PTX.encode() + b"\0"), "test")
    config = LaunchConfig(blocks, 1, 1, 32, 1, 1)
    attribute = (ctypes.c_uint32 * 18)(4, 0, *(cluster or ()))
    if cluster is not None:
        config.attributes, config.attribute_count = ctypes.addressof(attribute), 1
    params = (ctypes.c_void_p * 1)(ctypes.addressof(out))
    result = int(table.launch_kernel_ex(ctypes.byref(config), function, params, None))
    if result == 0:
        words = driver.gpu.read(out.value, 4 * blocks)
        assert words == b"".join(number.to_bytes(4, "little") for number in (1, 0) * (blocks // 2))
    return result


def test_the_drivers_table_launches_clusters() -> None:
    driver = EmulatedDriver([], sm=90)
    assert _launch(driver, (2, 1, 1)) == Result.SUCCESS
    assert _launch(driver, (4, 1, 1)) == Result.INVALID_VALUE
    assert _launch(driver, None) == Result.INVALID_VALUE
    function = driver.gpu.function(driver.gpu.load_module(PTX.encode() + b"\0"), "test")
    attributes = [FunctionAttribute.CLUSTER_SIZE_MUST_BE_SET, FunctionAttribute.REQUIRED_CLUSTER_WIDTH,
                  FunctionAttribute.REQUIRED_CLUSTER_DEPTH]
    assert [driver.gpu.function_attribute(function, attribute) for attribute in attributes] == [1, 2, 1]
    assert driver.gpu.device_attribute(DeviceAttribute.CLUSTER_LAUNCH) == 1


def test_a_kernel_of_a_file_runs_in_the_clusters_it_demands() -> None:
    for cluster in (None, (2,)):
        found = run_ptx(PTX, ["out=i32[4]"], grid=(4,), block=(32,), cluster=cluster)
        assert found.buffers["out"].tolist() == [1, 0, 1, 0]
    with pytest.raises(LaunchError, match="requires"):
        run_ptx(PTX, ["out=i32[4]"], grid=(4,), block=(32,), cluster=(4,))


def test_devices_without_clusters_launch_none() -> None:
    module = load_ptx(kernel("", target="sm_80"))
    with pytest.raises(LaunchError, match="sm_80 has no clusters"):
        Device(sm=80).launch(module, "test", (4,), (32,), cluster=(2,))
    Device(sm=80).launch(module, "test", (4,), (32,), cluster=(1,))
