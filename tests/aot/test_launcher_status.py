"""Every status of texpr_abi.h: the call that causes it, and what the report says. Runs the launcher under UBSan."""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Mapping

import pytest

from tests.aot.launcher_build import HERE, Launcher, build_library
from tests.aot.launcher_packages import linear, odd
from texpr.aot.launcher import STATUSES

HEADER = (HERE.parent.parent / "texpr" / "aot" / "texpr_abi.h").read_text()
STATUS = {name: int(value) for name, value in re.findall(r"#define (TEXPR_(?:OK|E_\w+)) \(?(-?\d+)\)?", HEADER)}
TERA = 1 << 40
BEFORE_FILLS = 96
"""Bytes of a driver table of the first version, which ended with launch_kernel_ex."""
WORKSPACE = 1 << 50
X, W, B, Y = 0, 1, 2, 3  # positions in linear's signature
CALL: Mapping[str, int] = {"x": TERA, "w": 2 * TERA, "b": 3 * TERA, "y": 4 * TERA, "M": 300, "N": 512, "K": 64}
SPLIT = {**CALL, "M": 64, "N": 512, "K": 8192}
ODD: Mapping[str, int] = {
    "a": TERA, "class": 0, "flag": 1, "shift": 0, "step": 1, "mask": 4, "free": 0, "z": 3 * TERA, "top": 5 * TERA,
    "side": 0,
    "B": 2, "G": 2, "R": 2, "S": 8, "a_stride_0": 64, "a_stride_2": 1, "z_stride_0": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def linear_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build_library(*linear(), tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def odd_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build_library(*odd(), tmp_path_factory.mktemp("odd"))


@pytest.fixture
def fresh(linear_library: ctypes.CDLL) -> Launcher:
    """linear_f16, not initialised."""
    package, images = linear()
    return Launcher(linear_library, package.entries[0], images)


@pytest.fixture
def launcher(fresh: Launcher) -> Launcher:
    assert fresh.init() == 0
    return fresh


@pytest.fixture
def odd_launcher(odd_library: ctypes.CDLL) -> Launcher:
    package, images = odd()
    launcher = Launcher(odd_library, package.entries[0], images)
    assert launcher.init() == 0
    return launcher


def refused(launcher: Launcher, status: str, call: Mapping[str, int], **workspace: int) -> tuple[int, int, int]:
    """Launches, expects ``status`` and no launch; returns the report's argument, other and dim."""
    before = launcher.fake.launches
    assert launcher.launch(call, **workspace) == STATUS[status] == launcher.error.status
    assert launcher.fake.launches == before and launcher.fake.mistakes == 0
    return launcher.error.argument, launcher.error.other, launcher.error.dim


def test_the_sentences_cover_exactly_the_statuses_of_the_header(launcher: Launcher) -> None:
    assert {name for name, _ in STATUSES} == set(STATUS) and len(set(STATUS.values())) == len(STATUS)
    sentence = launcher.library.linear_status_string
    sentence.restype = ctypes.c_char_p
    assert [sentence(STATUS[name]).decode() for name, _ in STATUSES] == [text for _, text in STATUSES]
    assert sentence(12345) == b"not a status of this bundle"


def test_ok(launcher: Launcher) -> None:
    assert launcher.launch(CALL, stream=0x77) == STATUS["TEXPR_OK"] == launcher.error.status
    assert [launch[:3] for launch in launcher.launched()] == [("linear_wide", "sm_80", 6)]
    assert launcher.fake.launch[0].stream == 0x77


def test_null_tensors(launcher: Launcher) -> None:
    assert refused(launcher, "TEXPR_E_NULL", {**CALL, "w": 0}) == (W, -1, -1)
    assert refused(launcher, "TEXPR_E_NULL", {**CALL, "y": 0}) == (Y, -1, -1)
    assert launcher.launch({**CALL, "b": 0}) == 0, "b is optional"
    assert launcher.launch({**CALL, "x": 0, "w": 0, "K": 0}) == 0, "empty tensors need no memory"


def test_null_pointers_of_the_call_itself(launcher: Launcher) -> None:
    args, info = ctypes.byref(launcher.args(CALL)), ctypes.byref(launcher.info())
    for call in (
        ("query", None, args, info), ("query", launcher.context, None, info), ("query", launcher.context, args, None),
        ("launch", None, None, args, None, 0), ("launch", launcher.context, None, None, None, 0),
        ("init", None, ctypes.byref(launcher.driver)), ("init", launcher.context, None), ("close", None),
    ):  # fmt: skip
        assert launcher.call(*call) == STATUS["TEXPR_E_NULL"], call
    launcher.library.linear_driver_open.restype = ctypes.c_int32
    assert launcher.library.linear_driver_open(None, ctypes.byref(launcher.error)) == STATUS["TEXPR_E_NULL"]


def test_the_report_may_be_null(launcher: Launcher) -> None:
    function = launcher.library.linear_f16_launch
    null = ctypes.c_void_p()
    assert (
        function(launcher.context, null, ctypes.byref(launcher.args({**CALL, "w": 0})), null, ctypes.c_size_t(0), null)
        == -1
    )
    assert function(launcher.context, null, ctypes.byref(launcher.args(SPLIT)), null, ctypes.c_size_t(0), null) == -10
    launcher.fake.fail_at = launcher.fake.calls + 1
    launcher.fake.fail_result = 1
    assert function(launcher.context, null, ctypes.byref(launcher.args(CALL)), null, ctypes.c_size_t(0), null) == -18


def test_abi(launcher: Launcher) -> None:
    args, info = launcher.args(CALL), launcher.info()
    pointers = launcher.context, ctypes.byref(args), ctypes.byref(info)
    args.struct_size -= 8
    assert launcher.call("query", *pointers) == STATUS["TEXPR_E_ABI"]
    args.struct_size, args.abi_version = args.struct_size + 8, 2
    assert launcher.call("query", *pointers) == STATUS["TEXPR_E_ABI"]
    args.abi_version, info.struct_size = 1, 0
    assert launcher.call("query", *pointers) == STATUS["TEXPR_E_ABI"]
    launcher.driver.struct_size = BEFORE_FILLS - 8
    assert launcher.init() == STATUS["TEXPR_E_ABI"]
    launcher.driver.struct_size, launcher.driver.abi_version = ctypes.sizeof(launcher.driver), 0
    assert launcher.init() == STATUS["TEXPR_E_ABI"]


def test_a_table_of_another_version(launcher: Launcher) -> None:
    launcher.driver.struct_size += 64
    assert launcher.init() == 0, "what a later version appended is not looked at"
    launcher.driver.struct_size = BEFORE_FILLS
    assert launcher.init() == STATUS["TEXPR_E_NO_DRIVER"], "an entry that fills needs the memsets"
    launcher.driver.struct_size = ctypes.sizeof(launcher.driver)
    launcher.driver.memset_d16_async = None
    assert launcher.init() == STATUS["TEXPR_E_NO_DRIVER"]


def test_fills_are_stream_ordered_and_done_before_their_kernels(launcher: Launcher) -> None:
    status, info = launcher.query(SPLIT)
    assert launcher.launch(SPLIT, workspace=WORKSPACE, workspace_bytes=info.workspace_bytes, stream=0x77) == status == 0
    flags = WORKSPACE + 4 * 64 * 512 * 8
    names = [(name, parameters) for name, _, _, parameters in launcher.launched() if name == "fill"]
    assert [name for name, *_ in launcher.launched()] == ["fill", "linear_part", "fill", "linear_sum"]
    assert [struct.unpack("<QQQ", parameters) for _, parameters in names] == [
        (flags, 0xFFFF0001, 65), (SPLIT["y"], 0x8001, 64 * 512)
    ]  # fmt: skip
    assert [launcher.fake.launch[n].stream for n in range(4)] == [0x77] * 4
    assert [launcher.fake.launch[n].block for n in (0, 2)] == [32, 16]


def test_dims(launcher: Launcher, odd_launcher: Launcher) -> None:
    assert refused(launcher, "TEXPR_E_DIM", {**CALL, "N": -1}) == (1, -1, -1)
    assert refused(launcher, "TEXPR_E_DIM", {**CALL, "K": 0x7FFF0008}) == (2, -1, -1)
    assert refused(odd_launcher, "TEXPR_E_DIM", {**ODD, "S": 1, "shift": -3}) == (4, -1, -1), "derived P = -3"
    empty = {**ODD, "S": 0, "B": 0, "shift": 3}
    assert refused(odd_launcher, "TEXPR_E_DIM", empty) == (-1, 12, 0), "side has S - 1 + B elements"


def test_requirements(launcher: Launcher, odd_launcher: Launcher) -> None:
    assert refused(launcher, "TEXPR_E_REQUIRE", {**CALL, "K": 60}) == (0, -1, -1)
    huge = {**ODD, "B": 2**30, "G": 2**30, "R": 2, "S": 3}
    assert refused(odd_launcher, "TEXPR_E_REQUIRE", huge) == (1, -1, -1)


def test_misalignment(launcher: Launcher) -> None:
    assert refused(launcher, "TEXPR_E_MISALIGNED", {**CALL, "w": 2 * TERA + 1}) == (W, -1, -1)
    assert refused(launcher, "TEXPR_E_MISALIGNED", {**CALL, "b": 3 * TERA + 1}) == (B, -1, -1)


def test_overlap(launcher: Launcher, odd_launcher: Launcher) -> None:
    size = 2 * 300 * 64
    assert refused(launcher, "TEXPR_E_OVERLAP", {**CALL, "y": TERA + size - 2}) == (Y, X, -1)
    assert launcher.launch({**CALL, "y": TERA + size}) == 0, "adjacent is not overlapping"
    assert launcher.launch({**CALL, "w": TERA}) == 0, "inputs may overlap each other"
    in_workspace = {**SPLIT, "x": WORKSPACE + 256}
    where = refused(launcher, "TEXPR_E_OVERLAP", in_workspace, workspace=WORKSPACE, workspace_bytes=1 << 30)
    assert where == (X, -1, -1)
    alias = {**ODD, "z": TERA, "a_stride_0": 64, "z_stride_0": 64}
    assert odd_launcher.launch(alias) == 0, "z may be a"
    assert refused(odd_launcher, "TEXPR_E_OVERLAP", {**alias, "z": TERA + 4}) == (10, 0, -1), "but not part of it"
    assert refused(odd_launcher, "TEXPR_E_OVERLAP", {**alias, "z_stride_0": 32}) == (10, 0, -1), (
        "nor laid out differently"
    )
    assert refused(odd_launcher, "TEXPR_E_OVERLAP", {**ODD, "top": 3 * TERA + 8}) == (10, 11, -1)


def test_range(launcher: Launcher, odd_launcher: Launcher) -> None:
    assert refused(launcher, "TEXPR_E_RANGE", {**CALL, "M": 2**20, "N": 2**12, "K": 8}) == (-1, -1, -1), (
        "M*N needs 64 bits"
    )
    assert refused(launcher, "TEXPR_E_RANGE", {**CALL, "x": 2**64 - 16}) == (X, -1, -1), "runs past the address space"
    wide_stride = {**ODD, "a_stride_0": 2**33, "z": TERA, "z_stride_0": 2**33}
    assert refused(odd_launcher, "TEXPR_E_RANGE", wide_stride) == (-1, -1, -1), "the kernel takes an i32"


def test_scalars(odd_launcher: Launcher) -> None:
    assert refused(odd_launcher, "TEXPR_E_SCALAR", {**ODD, "shift": 4}) == (6, -1, -1)
    assert refused(odd_launcher, "TEXPR_E_SCALAR", {**ODD, "shift": -4, "S": 20}) == (6, -1, -1)
    assert refused(odd_launcher, "TEXPR_E_SCALAR", {**ODD, "step": 10}) == (7, -1, -1), "at most B*G*R + 1"
    assert refused(odd_launcher, "TEXPR_E_SCALAR", {**ODD, "mask": 2**63 + 1}) == (8, -1, -1)
    assert refused(odd_launcher, "TEXPR_E_SCALAR", {**ODD, "flag": 2}) == (5, -1, -1)


def test_strides(odd_launcher: Launcher) -> None:
    assert refused(odd_launcher, "TEXPR_E_STRIDE", {**ODD, "a_stride_2": -1}) == (0, -1, 2)
    assert refused(odd_launcher, "TEXPR_E_STRIDE", {**ODD, "z_stride_0": 31}) == (10, -1, 0)
    assert refused(odd_launcher, "TEXPR_E_STRIDE", {**ODD, "a_stride_2": 3}) == (0, -1, 0), "rows of 4 * 8 * 3"


def test_workspace(launcher: Launcher) -> None:
    status, info = launcher.query(SPLIT)
    assert status == 0 and info.workspace_bytes == 4 * 64 * 512 * 8 + 4 * 64 + 4
    needed = info.workspace_bytes
    assert refused(launcher, "TEXPR_E_WORKSPACE", SPLIT) == (-1, -1, -1) and launcher.error.needed == needed
    refused(launcher, "TEXPR_E_WORKSPACE", SPLIT, workspace=WORKSPACE, workspace_bytes=needed - 1)
    assert launcher.error.needed == needed
    refused(launcher, "TEXPR_E_WORKSPACE_ALIGN", SPLIT, workspace=WORKSPACE + 128, workspace_bytes=needed)
    assert launcher.launch(SPLIT, workspace=WORKSPACE, workspace_bytes=needed) == 0 and launcher.error.needed == 0


def test_no_variant(odd_launcher: Launcher) -> None:
    nothing_fits = {
        **ODD,
        "a_stride_2": 2,
        "z": 3 * TERA + 4,
        "side": 6 * TERA,
        "free": 2001,
        "S": 8,
        "G": 1000,
        "z_stride_0": 2**15,
    }
    nothing_fits |= {"a_stride_0": 2**15}
    assert refused(odd_launcher, "TEXPR_E_NO_VARIANT", nothing_fits) == (-1, -1, -1)


def test_no_kernel_image(fresh: Launcher) -> None:
    fresh.fake.capability = 75
    assert fresh.init() == STATUS["TEXPR_E_NO_KERNEL_IMAGE"] and fresh.error.capability == 75
    fresh.library.linear_architectures.restype = ctypes.c_char_p
    assert fresh.library.linear_architectures() == b"sm_80 sm_86 sm_90a"


def test_wrong_context(launcher: Launcher) -> None:
    bound = launcher.fake.context
    for other in (None, 0xBAD):
        launcher.fake.context = other
        refused(launcher, "TEXPR_E_WRONG_CONTEXT", CALL)
        assert launcher.close() == STATUS["TEXPR_E_WRONG_CONTEXT"]
        assert launcher.fake.modules == 4
    launcher.fake.context = bound
    assert launcher.launch(CALL) == 0


def test_init_without_a_context(fresh: Launcher) -> None:
    fresh.fake.context = None
    assert fresh.init() == STATUS["TEXPR_E_WRONG_CONTEXT"] and fresh.fake.modules == 0


def test_not_initialised(fresh: Launcher) -> None:
    refused(fresh, "TEXPR_E_NOT_INITIALISED", CALL)
    assert fresh.query(CALL)[0] == fresh.close() == STATUS["TEXPR_E_NOT_INITIALISED"]
    assert fresh.init() == fresh.close() == 0
    refused(fresh, "TEXPR_E_NOT_INITIALISED", CALL)
    assert fresh.close() == STATUS["TEXPR_E_NOT_INITIALISED"]


def test_contexts_of_different_entries_are_told_apart(launcher: Launcher) -> None:
    args, info = ctypes.byref(launcher.args(CALL)), ctypes.byref(launcher.info())
    query = launcher.library.linear_bf16_query
    assert query(launcher.context, args, info, ctypes.byref(launcher.error)) == STATUS["TEXPR_E_NOT_INITIALISED"]


def test_capturing(launcher: Launcher) -> None:
    launcher.fake.capturing = 1
    assert launcher.launch(CALL) == 0, "launches may be captured"
    assert launcher.close() == STATUS["TEXPR_E_CAPTURING"] and launcher.fake.modules == 4
    assert launcher.init() == STATUS["TEXPR_E_CAPTURING"] and launcher.fake.modules == 4


def test_capture_of_another_stream_is_recognised_by_the_drivers_answer(fresh: Launcher) -> None:
    fresh.fake.fail_at, fresh.fake.fail_result = 2, 906  # CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
    assert fresh.init() == STATUS["TEXPR_E_CAPTURING"] and fresh.error.cuda_result == 906


def test_no_driver(fresh: Launcher) -> None:
    fresh.driver.module_unload = None
    assert fresh.init() == STATUS["TEXPR_E_NO_DRIVER"]


def test_cu_func_load_is_optional(fresh: Launcher) -> None:
    fresh.driver.func_load = None
    assert fresh.init() == 0 and fresh.fake.functions_loaded == 0


def test_driver_failures(launcher: Launcher) -> None:
    launcher.fake.fail_at, launcher.fake.fail_result = launcher.fake.calls + 2, 719
    refused(launcher, "TEXPR_E_DRIVER", CALL)
    assert launcher.error.cuda_result == 719
    assert launcher.launch(CALL) == 0 and launcher.error.cuda_result == 0


def test_a_second_launch_that_fails_is_reported(launcher: Launcher) -> None:
    launcher.fake.fail_at, launcher.fake.fail_result = launcher.fake.calls + 5, 2
    assert launcher.launch(SPLIT, workspace=WORKSPACE, workspace_bytes=1 << 30) == STATUS["TEXPR_E_DRIVER"]
    assert launcher.error.cuda_result == 2 and [launch[0] for launch in launcher.launched()] == [
        "fill", "linear_part", "fill"
    ]  # fmt: skip


@pytest.mark.parametrize("fact", ["registers_off", "local_bytes_off", "threads_off"])
def test_resources(fresh: Launcher, fact: str) -> None:
    setattr(fresh.fake, fact, -1 if fact == "threads_off" else 17)
    assert fresh.init() == STATUS["TEXPR_E_RESOURCES"] and fresh.fake.modules == 0
    setattr(fresh.fake, fact, 0)
    assert fresh.init() == 0


def test_a_driver_that_is_shutting_down_has_closed_everything(launcher: Launcher) -> None:
    launcher.fake.fail_at, launcher.fake.fail_result = launcher.fake.calls + 1, 4  # CUDA_ERROR_DEINITIALIZED
    assert launcher.close() == 0
    assert launcher.close() == STATUS["TEXPR_E_NOT_INITIALISED"]


def test_nothing_to_do(launcher: Launcher) -> None:
    nothing = {**CALL, "M": 0, "x": 0, "y": 0, "K": 2**20, "N": 2**20}
    status, info = launcher.query(nothing)
    assert status == 0 and (info.variant, info.variant_name, info.launches, info.workspace_bytes) == (
        -1,
        b"nothing to do",
        0,
        0,
    )
    assert launcher.launch(nothing) == 0 and launcher.fake.launches == 0


def test_query_describes_every_launch(launcher: Launcher) -> None:
    status, info = launcher.query(SPLIT)
    assert (status, info.variant, info.variant_name, info.launches) == (0, 1, b"split", 2)
    assert (list(info.grid), list(info.block), list(info.shared_bytes)) == ([8, 32], [128, 128], [49152, 0])
    status, info = launcher.query(CALL)
    assert (info.variant, info.launches, list(info.grid), list(info.block)) == (0, 1, [6, 0], [256, 0])
