"""From a package to a C program: ``demo.c`` and the launcher, compiled without warnings, run on the stand-in driver."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime.sample_bundles import bundle
from texpr.emulator.standin import run_program

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def compiled(folder: Path, out: Path, standard: str) -> Path:
    program = out / "demo"
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
    subprocess.run(
        ["cc", *flags, str(folder / "demo.c"), str(folder / "affine.c"), "-o", str(program), "-ldl", "-lm"], check=True
    )
    return program


@pytest.mark.parametrize("standard", ["c99", "c17"])
def test_demo_passes_on_the_emulator(standard: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = bundle("affine_demo")
    report = io.StringIO()
    status = run_program([str(compiled(folder, tmp_path, standard)), str(folder / "demo")], [folder], errors=report)
    output = capfd.readouterr()
    assert (status, report.getvalue()) == (0, ""), output.out + output.err
    assert "PASS" in output.out


def test_demo_fails_when_the_numbers_are_wrong(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = bundle("affine_demo")
    data = tmp_path / "data"
    shutil.copytree(folder / "demo", data)
    x = bytearray((data / "x.bin").read_bytes())
    x[7] ^= 0x40
    (data / "x.bin").write_bytes(x)
    status = run_program([str(compiled(folder, tmp_path, "c99")), str(data)], [folder], errors=io.StringIO())
    assert status == 1
    assert "FAIL" in capfd.readouterr().out


def test_demo_without_a_driver_says_so(tmp_path: Path) -> None:
    folder = bundle("affine_demo")
    if shutil.which("nvidia-smi") is not None:
        pytest.skip("this machine has a GPU driver")
    result = subprocess.run(
        [str(compiled(folder, tmp_path, "c99")), str(folder / "demo")], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "no CUDA driver on this machine" in result.stderr


def test_demo_on_a_gpu_it_has_no_code_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = bundle("affine_demo")
    status = run_program([str(compiled(folder, tmp_path, "c99")), str(folder / "demo")], [folder], sm=90)
    output = capfd.readouterr()
    assert status == 2
    assert "sm_80" in output.out + output.err
