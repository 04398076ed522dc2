"""The packed folder and its runner, over a libcuda that is the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.emulator.conformance import packing, portable
from tests.emulator.conformance.__main__ import main
from tests.emulator.conformance.case import Case
from tests.emulator.conformance.catalogue import all_cases
from tests.emulator.conformance.fake_driver import FakeLibrary
from tests.emulator.conformance.portable import Driver, DriverError, run_folder

NAMES = (
    "add.u32",
    "add.rn.f16x2",
    "ex2.approx.f32",
    "elect.sync",
    "elements of type 2",
    "swizzle of 64 bytes",
    "atom.global.add.u32",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16",
    "ld.shared.v2.b32",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def keep_text(text: str, target: str, assembler: str, path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    monkeypatch.setattr(packing, "assemble", keep_text)
    cases = [case for case in all_cases() if case.name in NAMES]
    assert packing.pack(cases, tmp_path, "sm_90a", "") == len(cases) == len(NAMES)
    return tmp_path


def test_a_gpu_that_agrees(folder: Path) -> None:
    results = run_folder(folder, Driver(FakeLibrary(90)))
    assert results["cases"] == results["same_bits"] == len(NAMES)
    assert not results["wrong"] and not results["unlike_emulator"]
    assert results["device"]["capability"] == 90 and results["target"] == "sm_90a"


def test_a_gpu_that_computes_something_else(folder: Path) -> None:
    results = run_folder(folder, Driver(FakeLibrary(90, flip=True)))
    names = {record["case"] for record in results["wrong"]}
    # One bit of an approximation is within its documented error, but not the emulator's.
    assert names == set(NAMES) - {"ex2.approx.f32"}
    assert [record["case"] for record in results["unlike_emulator"]] == ["ex2.approx.f32"]
    record = next(record for record in results["wrong"] if record["case"] == "add.u32")
    assert record["opcodes"] == ["add.u32"] and record["wrong"][0].startswith("d[0] of ")


def test_one_case_may_be_chosen(folder: Path) -> None:
    assert run_folder(folder, Driver(FakeLibrary(90)), "ex2")["cases"] == 1


def crashing() -> Case:
    case = next(case for case in all_cases() if case.name == "add.u32")
    return replace(case, name="crash", body=case.body + "mov.u64 %address, 0; st.global.b32 [%address], %d;")


def test_a_crash_spoils_only_its_own_case(folder: Path) -> None:
    described = json.loads((folder / "cases.json").read_text())
    text, _ = packing.together([crashing()], "sm_90a", "8.0")
    (folder / "crash.cubin").write_text(text)
    first = next(case for case in described["cases"] if case["name"] == "add.u32")
    described["cases"].insert(2, first | {"name": "crash", "image": "crash.cubin", "kernel": "test_0"})
    (folder / "cases.json").write_text(json.dumps(described))
    library = FakeLibrary(90)
    results = run_folder(folder, Driver(library))
    assert [(record["case"], record["wrong"]) for record in results["wrong"]] == [
        ("crash", ["cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED"])
    ]
    assert results["same_bits"] == len(NAMES) and library.resets == 1


def test_the_runner_imports_nothing_but_numpy(folder: Path) -> None:
    script = (
        "import sys, runpy; runpy.run_path('run.py'); "
        "print([m for m in sys.modules if m.split('.')[0] in ('texpr', 'triton')])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_driver_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(name: str) -> None:
        raise OSError("not found")

    monkeypatch.setattr(portable.ctypes, "CDLL", missing)
    with pytest.raises(DriverError, match="no NVIDIA driver"):
        Driver()
    assert portable.main([]) == 2 and "no NVIDIA driver" in capsys.readouterr().err


def test_the_command_assembles_real_cubins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    assert main(["pack", str(tmp_path), "--target", "sm_90a", "--only", "wgmma.mma_async.sync.aligned.m64n8k"]) == 0
    assert "cases for sm_90a" in capsys.readouterr().out
    assert (tmp_path / "cases_0.cubin").read_bytes()[:4] == b"\x7fELF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cases.json", "cases_0.cubin", "data.npz", "run.py"]


def test_formats_are_those_of_the_references() -> None:
    from tests.emulator.conformance.formats import FORMATS

    for form in FORMATS.values():
        shape = portable.Form(form.exponent, form.mantissa, form.infinity, form.dropped)
        assert shape.overflow == form.overflow and shape.bytes == max(form.width // 8, 1)
        assert shape.largest == float(form.decode(form.overflow - (1 << form.dropped)).exact)
    assert np.isnan(portable.Form(8, 7, True, 0).values(np.array([0x7FC0], np.uint16))[0])


def test_the_gpu_test_itself_runs_over_the_emulator() -> None:
    from tests.emulator.conformance.test_gpu import run_together

    cases = [case for case in all_cases() if case.name in NAMES]
    assert run_together(Driver(FakeLibrary(90)), cases, "sm_90a") == []
    flipped = run_together(Driver(FakeLibrary(90, flip=True)), cases, "sm_90a")
    assert {line.split(": ")[0] for line in flipped} == set(NAMES) - {"ex2.approx.f32"}
