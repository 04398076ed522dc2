"""Faults of a shipped kernel whose PTX was broken: each report leads to the func, the Gluon line and the line of the
schedule, for both sides of a race."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import find_schedule, load_algorithm, package_of
from texpr.emulator import Fault, FaultKind
from texpr.runtime import load

ROOT = Path(__file__).parents[2]
SOURCE = f"{ROOT}/kernels/linear.py:linear_gelu"
SCHEDULE = (ROOT / "schedules/linear_gelu.yaml").read_text().splitlines()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = "sm_80"
    definition = load_algorithm(SOURCE)
    schedule = find_schedule(SOURCE, definition, None, (target,), {})
    package = package_of(definition, schedule, (target,), {"T": "f16"}, {}, with_example=False)
    folder = tmp_path_factory.mktemp(target) / "linear_gelu"
    write_bundle(package, folder, BuildOptions(targets=(target,)))
    return folder


def fault_of(shipped: Path, folder: Path, change: Callable[[str], str], rows: int = 64) -> Fault:
    shutil.copytree(shipped, folder)
    for file in (folder / "ptx").glob("*.ptx"):
        file.write_text(change(file.read_text()))
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=shape).astype(np.float16) for shape in ((rows, 256), (256, 136), (136,)))
    kernel = load(folder, sm=80)
    with pytest.raises(Fault) as caught:
        kernel(x, w, b)
    return caught.value


def without(pattern: str, instead: str = "") -> Callable[[str], str]:
    return lambda text: re.sub(pattern, instead, text)


def assert_leads_home(fault: Fault, folder: Path) -> None:
    """The report names func, Gluon line and schedule line, and quotes both as they are in their files."""
    report = str(fault)
    assert fault.func in {"acc", "x", "w", "b", "y", "x.shared", "w.shared"}, report
    assert fault.source is not None and Path(fault.source.file).name == "kernel.py"
    gluon = (folder / "kernel.py").read_text().splitlines()[fault.source.line - 1].strip()
    assert f"{fault.source.line:>6} | {gluon}" in report
    (line, text) = re.findall(r"--> linear_gelu\.yaml:(\d+)\n +\d+ \| (.*)", report)[0]
    assert SCHEDULE[int(line) - 1].strip() == text
    assert f"{fault.ptx_line:>6} | {fault.ptx_text}" in report
    assert re.search(r"by: program \(\d+, 0, 0\), thread \(\d+, 0, 0\), in a grid of \(\d+, 1, 1\)", report)


BROKEN = [
    (FaultKind.RACE, without(r"bar\.sync\s+0;")),
    (FaultKind.ASYNC_NOT_WAITED, without(r"cp\.async\.wait_group\s+\d+;")),
    (FaultKind.OUT_OF_BOUNDS, without(r"@%p\d+ (st\.global)", r"\1")),
    (FaultKind.DEADLOCK, without(r"bar\.sync\s+0;", "barrier.sync 1, 1024;")),
    (FaultKind.MISALIGNED, without(r"st\.global\.v4\.b32 \[ (%rd\d+) \+ 0 \]", r"st.global.v4.b32 [ \1 + 2 ]")),
    (FaultKind.UNINITIALISED, without(r"cp\.async\.c[ga]\.shared\.global[^;]*;")),
]


@pytest.mark.parametrize(("kind", "change"), BROKEN, ids=[kind.value for kind, _ in BROKEN])
def test_a_broken_kernel_is_led_back_to_its_source(
    kind: FaultKind, change: Callable[[str], str], shipped: Path, tmp_path: Path
) -> None:
    fault = fault_of(shipped, tmp_path / "linear_gelu", change, rows=70)
    assert fault.kind is kind, str(fault)
    assert_leads_home(fault, tmp_path / "linear_gelu")
    if kind is FaultKind.RACE:
        (other,) = fault.others
        assert other.source in fault.origins and str(fault).count("linear_gelu.yaml:") == 2
    if kind is FaultKind.OUT_OF_BOUNDS:
        assert "this is y[" in fault.message and "(y is 70 x 136)" in fault.message
