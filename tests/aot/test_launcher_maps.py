"""Tensor maps that the launcher encodes for every call."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tests.aot.launcher_build import WARNINGS, Launcher, build_library, run, write_sources
from tests.aot.launcher_packages import fake_image, kernel, param
from tests.aot.test_launcher_status import STATUS
from texpr.aot.ir import Entry, IntValue, Launch, Package, TensorArgument, TensorMap, TensorPointer, Variant
from texpr.dtypes import DType
from texpr.math.expr import TRUE, const, sym

M, K, STRIDE = sym("M"), sym("K"), sym("x_stride_0")
ADDRESS = 1 << 40


def _package() -> Package:
    """A kernel that is passed an integer and a map of rows at a free distance."""
    arguments = (
        TensorArgument("x", DType.BF16, (M, K), (1, 1), output=False, strided=((0, "x_stride_0"),)),
        TensorArgument("y", DType.F32, (const(1),), (1,), output=True),
    )
    mapped = TensorMap(TensorPointer("x"), DType.BF16, (M, K), (STRIDE, const(1)), (64, 32), 64)
    source = kernel(
        "boxes",
        param("K", "i32", IntValue(K)),
        param("x_map", "tensordesc<bf16[64,32],NVMMASharedLayout(64,16,2,False)>", mapped),
        param("y", "*fp32", TensorPointer("y")),
    )
    variant = Variant("only", ("sm_90a",), TRUE, (Launch("boxes", const(3)),))
    entry = Entry("boxes", (), (), arguments, ("M", "K"), (), (), (variant,))
    return Package("boxes", (entry,), (source,), "texpr: 1\n", "")


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    package, images = _package(), (fake_image("boxes", "sm_90a"),)
    made = Launcher(build_library(package, images, tmp_path), package.entries[0], images)
    made.fake.capability = 90
    return made


def _call(**changed: int) -> dict[str, int]:
    return {"x": ADDRESS, "y": 1 << 20, "M": 1000, "K": 800, "x_stride_0": 808} | changed


def _launched(launcher: Launcher, call: dict[str, int]) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """The integer before the map, the map's words, and what follows it: shape, strides, y and two scratch pointers."""
    launcher.fake.launches = 0
    assert launcher.launch(call) == 0, launcher.error.status
    ((_, _, _, raw),) = launcher.launched()
    number, words, rest = raw[:4], raw[4:132], raw[132:]
    return struct.unpack("<i", number)[0], struct.unpack("<16Q", words), struct.unpack("<iiqqQQQ", rest)


def test_a_map_says_where_the_tensor_is_and_what_a_box_is(launcher: Launcher) -> None:
    assert launcher.init() == 0
    number, words, rest = _launched(launcher, _call())
    assert number == 800
    assert words[0] == ADDRESS
    assert words[1] == 1 << 21 | 9 << 8 | 2  # bf16, two dims
    assert words[2] == 2 << 8 | 2  # swizzled over 64 bytes, promoted to 128 bytes in L2
    assert words[3:5] == (800 << 16 | 32, 1000 << 16 | 64)  # innermost first
    assert words[8] == 2 * 808
    assert rest == (1000, 800, 808, 1, 1 << 20, 0, 0)


def test_older_drivers_are_helped_with_small_tensors_only(launcher: Launcher) -> None:
    assert launcher.init() == 0
    for version, rows, bit in ((13000, 80, 0), (13000, 82, 1), (13010, 80, 0), (13020, 80, 1)):
        launcher.fake.driver_version = version
        _, words, _ = _launched(launcher, _call(M=rows))
        assert words[1] >> 21 & 1 == bit, (version, rows)


@pytest.mark.parametrize("standard", ["c89", "c++98"])
@pytest.mark.parametrize("ctas", [1, 2])
def test_the_oldest_standards_do(standard: str, ctas: int, tmp_path: Path) -> None:
    """With maps, clusters and early starts."""
    package = _package()
    (variant,) = package.entries[0].variants
    variant = replace(variant, launches=(replace(variant.launches[0], early=True),))
    entry = replace(package.entries[0], variants=(variant,))
    package = replace(package, entries=(entry,), kernels=(replace(package.kernels[0], ctas=ctas),))
    source = write_sources(package, (fake_image("boxes", "sm_90a"),), tmp_path)
    compiler = ["g++", "-x", "c++"] if standard.startswith("c++") else ["gcc"]
    run([*compiler, f"-std={standard}", *WARNINGS, f"-I{tmp_path}", "-c", source, "-o", "/dev/null"])


@pytest.mark.parametrize("empty", [{"M": 0}, {"K": 0}, {"K": 0, "x": 0, "x_stride_0": 0}])
def test_an_empty_tensor_has_no_map(launcher: Launcher, empty: dict[str, int]) -> None:
    assert launcher.init() == 0
    _, words, _ = _launched(launcher, _call(**empty))
    assert set(words) == {0}


def test_a_pitch_that_no_map_can_hold_is_out_of_range(launcher: Launcher) -> None:
    assert launcher.init() == 0
    assert launcher.launch(_call(M=2, x_stride_0=(1 << 39) - 8)) == 0
    assert launcher.launch(_call(M=2, x_stride_0=1 << 39)) == STATUS["TEXPR_E_RANGE"]
    assert launcher.error.argument == 0


def test_what_the_driver_says_of_a_map_is_reported(launcher: Launcher) -> None:
    assert launcher.init() == 0
    launcher.fake.fail_at, launcher.fake.fail_result = launcher.fake.calls + 2, 1
    assert launcher.launch(_call()) == STATUS["TEXPR_E_DRIVER"]
    assert launcher.error.cuda_result == 1 and launcher.fake.launches == 0


def test_a_driver_that_encodes_no_maps_is_none(launcher: Launcher) -> None:
    launcher.driver.tensor_map_encode_tiled = None
    assert launcher.init() == STATUS["TEXPR_E_NO_DRIVER"]


def test_query_encodes_nothing(launcher: Launcher) -> None:
    assert launcher.init() == 0
    calls = launcher.fake.calls
    assert launcher.query(_call())[0] == 0
    assert launcher.fake.calls == calls
