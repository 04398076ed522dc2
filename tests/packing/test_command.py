"""``texpr pack`` on the command line, and the two errors that depend on the machine."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from tests.packing.packs import ROOT, small_request
from texpr.aot import bundle as aot
from texpr.cli import main
from texpr.packing import errors
from texpr.packing.pack import write_pack
from texpr.packing.runner.cuda import CudaDevice
from texpr.packing.runner.records import read_pack


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pack", "copy", "-o", str(tmp_path / "pack"), "--kernels", str(ROOT / "kernels"), "--target", "sm_80"]
    assert main([*words, "--type", "T=u8", "--calls", "1", "--seed", "3", "--max-size", "5MB"]) == 0
    assert "2 cases to check, 2 to time" in capsys.readouterr().out
    assert {case.entry for case in read_pack(tmp_path / "pack").cases} == {"copy"}


@pytest.mark.parametrize("size", ["60XB", "0MB", "MB", "-5"])
def test_sizes_of_packs(size: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["pack", "copy", "-o", str(tmp_path), f"--max-size={size}"])


def test_a_machine_without_a_c_compiler_makes_no_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aot, "find_c_compiler", lambda: None)
    with pytest.raises(errors.NoLauncher, match="no compiler"):
        write_pack(small_request(["copy"]), tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: no such file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(errors.NoGpu, match=r"libcuda\.so\.1"):
        CudaDevice(0)
