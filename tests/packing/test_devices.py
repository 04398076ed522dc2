"""Devices: which target serves a capability, the GPU's code on a stand-in driver, and the timing loop."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from tests.packing.packs import ROOT, records_of, results_of
from texpr.checking.execute import MULTIPROCESSORS
from texpr.dtypes import DType
from texpr.emulator.images import KernelImage
from texpr.packing.runner import main as runner
from texpr.packing.runner.devices import serving_target
from texpr.packing.runner.peers import peer_of
from texpr.packing.runner.records import Fill, Input, Layout, Style
from texpr.packing.runner.timing import measure
from texpr.targets import TARGETS


def _no_source() -> NoReturn:
    raise AssertionError("whether an image runs is not in its PTX")


@pytest.mark.parametrize("capability", [75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121])
def test_targets_run_where_their_cubins_do(capability: int) -> None:
    for name in TARGETS:
        image = KernelImage("k", name, (), {}, _no_source, 0, 0, 0, 0, 0, Path())
        assert (serving_target(capability, [name]) is not None) == image.runs_on(capability), name


def test_the_latest_target_that_runs_serves() -> None:
    assert serving_target(89, ["sm_80", "sm_86", "sm_90a"]) == "sm_86"
    assert serving_target(90, ["sm_80", "sm_90a"]) == "sm_90a"
    assert serving_target(70, ["sm_80"]) is None


def test_bits_are_made_and_compared_on_the_same_simulated_gpu() -> None:
    assert runner._EMULATED_MULTIPROCESSORS == MULTIPROCESSORS


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_driver_path_on_a_stand_in(pack: Path) -> None:
    """The code for GPUs, unchanged, on a libcuda.so.1 that emulates; it has no events, which is no failure."""
    bundles = [word for name in ("copy", "sum_rows") for word in ("--bundle", str(pack / "bundles" / name))]
    program = [sys.executable, str(pack / "run.py"), "--only", "sum_rows/*"]
    command = [sys.executable, "-m", "texpr.cli", "emulate", *bundles, "--sm", "80", "--", *program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = results_of(pack)
    assert all(result["failures"] == [] for result in results.values())
    large = [result for name, result in results.items() if name.endswith("large")]
    assert large
    assert all(result["compared"] > 0 and result["timing"] is not None for result in large)
    assert records_of(pack)[0]["run"]["device"]["capability"] == 80


class FakeGpu:
    """Counts what the timing loop does; a call of ``work`` takes 50 microseconds."""

    def __init__(self) -> None:
        self.works, self.flushes, self.freed = 0, 0, 0

    def l2_bytes(self) -> int:
        return 1 << 20

    def allocate(self, size: int) -> int:
        return 4096

    def free(self, address: int) -> None:
        self.freed += 1

    def fill(self, address: int, value: int, size: int) -> None:
        self.flushes += 1

    def elapsed(self, work: Callable[[], None], between: Callable[[], None], count: int) -> list[float]:
        for _ in range(count):
            between()
            work()
        return [50.0] * (count - 1) + [70.0]


@pytest.mark.parametrize(("seconds", "samples"), [(1.0, 100), (0.01, 31), (1e-9, 10)])
def test_the_cache_is_flushed_before_every_sample(seconds: float, samples: int) -> None:
    gpu: Any = FakeGpu()

    def work() -> None:
        gpu.works += 1
        assert gpu.flushes == gpu.works

    times = measure(gpu, work, seconds)
    assert len(times.samples) == samples
    assert times.median == 50.0
    assert (gpu.works, gpu.freed) == (samples + 3, 1)


def test_a_peer_sees_arguments_dims_and_what_is_absent() -> None:
    layout = Layout("x", DType.F16, (4, 8), (16, 1), 0)
    case: Any = SimpleNamespace(
        dims={"M": 4},
        statics={"R": 3},
        scalars={"eps": 0.5},
        absent=("b",),
        inputs=(Input(layout, Fill(Style.NORMAL, 1)),),
    )
    wrapped: list[Any] = []

    class Raw:
        def view(self, dtype: str) -> Raw:
            wrapped.append(dtype)
            return self

        def as_strided(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> str:
            return f"x{shape}{strides}"

    def as_tensor(memory: Any, device: str) -> Raw:
        wrapped.append(memory.__cuda_array_interface__["shape"])
        return Raw()

    torch: Any = SimpleNamespace(
        float16="f16", as_tensor=as_tensor, device=lambda *words: "cuda", nn=SimpleNamespace(functional=None)
    )
    sys.modules.setdefault("torch", torch)
    try:
        peer = peer_of("(x, b is None, M + R + eps)", case, {"x": 512}, 0, torch)
    finally:
        if sys.modules.get("torch") is torch:
            del sys.modules["torch"]
    assert peer.outputs() == ("x(4, 8)(16, 1)", True, 7.5)
    assert wrapped == [(2 * (3 * 16 + 8),), "f16"]


