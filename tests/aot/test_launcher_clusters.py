"""Kernels whose programs share clusters: what the launcher asks the driver for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.aot.launcher_build import Launcher, build_library
from tests.aot.launcher_packages import fake_image, kernel, param
from tests.aot.test_launcher_status import STATUS
from texpr.aot.ir import Entry, IntValue, Launch, Package, TensorArgument, TensorPointer, Variant
from texpr.dtypes import DType
from texpr.math.expr import TRUE, IntExpr, ceildiv, const, minimum, sym

M, SMS = sym("M"), sym("sms")


def _package(*launches: Launch, ctas: int = 2) -> Package:
    arguments = (TensorArgument("y", DType.F32, (M,), (1,), output=True),)
    source = kernel("pairs", param("y", "*fp32", TensorPointer("y")), param("M", "i32", IntValue(M)))
    kernels = (replace(source, ctas=ctas), replace(source, name="single"))
    variant = Variant("only", ("sm_90a",), TRUE, launches)
    entry = Entry("pairs", (), (), arguments, ("M",), (), (), (variant,))
    return Package("pairs", (entry,), kernels, "texpr: 1\n", "")


def _launcher(folder: Path, *launches: Launch, ctas: int = 2) -> Launcher:
    package = _package(*launches, ctas=ctas)
    images = tuple(fake_image(name, "sm_90a") for name in dict.fromkeys(launch.kernel for launch in launches))
    made = Launcher(build_library(package, images, folder), package.entries[0], images)
    made.fake.capability, made.fake.sms = 90, 132
    assert made.init() == 0
    return made


def _call(m: int) -> dict[str, int]:
    return {"y": 1 << 20, "M": m}


def _asked(launcher: Launcher) -> list[tuple[int, int]]:
    """Blocks and blocks per cluster of each launch."""
    return [(one.grid, one.cluster) for one in launcher.fake.launch[: launcher.fake.launches]]


def _tiles(size: int) -> IntExpr:
    return ceildiv(M, size)


@pytest.mark.parametrize("ctas", [2, 4, 8])
def test_a_grid_counts_clusters_and_the_driver_blocks(tmp_path: Path, ctas: int) -> None:
    launcher = _launcher(tmp_path, Launch("pairs", _tiles(64)), ctas=ctas)
    assert launcher.launch(_call(1000)) == 0
    assert _asked(launcher) == [(16 * ctas, ctas)]
    status, info = launcher.query(_call(1000))
    assert status == 0 and info.grid[0] == 16 * ctas


def test_a_persistent_kernel_has_as_many_clusters_as_fit(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, Launch("pairs", minimum(SMS // 2, _tiles(64))))
    assert launcher.launch(_call(100)) == 0 and launcher.launch(_call(1 << 20)) == 0
    assert _asked(launcher) == [(4, 2), (132, 2)]


def test_only_kernels_with_clusters_ask_for_them(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, Launch("single", _tiles(64)), Launch("pairs", _tiles(64)))
    assert launcher.launch(_call(128)) == 0
    assert _asked(launcher) == [(2, 1), (4, 2)]
    assert launcher.fake.early_launches == 0


def test_a_kernel_with_clusters_may_start_early(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, Launch("single", _tiles(64)), Launch("pairs", _tiles(64), early=True))
    assert launcher.launch(_call(128)) == 0
    assert _asked(launcher) == [(2, 1), (4, 2)]
    assert launcher.fake.early_launches == 1 and launcher.fake.mistakes == 0


def test_nothing_is_launched_for_nothing(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, Launch("pairs", _tiles(64)))
    assert launcher.launch(_call(0)) == 0
    assert _asked(launcher) == []


def test_too_many_blocks_are_out_of_range(tmp_path: Path) -> None:
    launcher = _launcher(tmp_path, Launch("pairs", const(1 << 20) * _tiles(64)), ctas=4)
    assert launcher.launch(_call(64 * 511)) == 0
    assert launcher.launch(_call(64 * 512)) == STATUS["TEXPR_E_RANGE"]
    assert _asked(launcher) == [((511 << 20) * 4, 4)]
