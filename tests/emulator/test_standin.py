"""The stand-in libcuda.so.1, under an ordinary C program that looks its functions up by name."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.runtime.sample_bundles import bundle
from texpr.emulator.images import BundleError
from texpr.emulator.libcuda_build import CompilerError, standin_directory
from texpr.emulator.standin import Operation, run_program

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@cache
def program() -> Path:
    built = bundle("affine").parent / "standin_program"
    source = Path(__file__).with_name("standin_program.c")
    flags = ["-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, str(source), "-o", str(built), "-ldl"], check=True)
    return built


def run(capfd: pytest.CaptureFixture[str], mode: str, *, name: str = "affine", rows: int = 5) -> tuple[int, str, str]:
    """Exit status, the program's output, and what the emulator reported."""
    report = io.StringIO()
    cubin = bundle("affine") / "cubin" / "affine_f32_rows.sm_80.cubin"
    status = run_program([str(program()), str(cubin), str(rows), "700", mode], [bundle(name)], errors=report)
    return status, capfd.readouterr().out, report.getvalue()


def test_an_unmodified_program_computes_right_numbers(capfd: pytest.CaptureFixture[str]) -> None:
    status, output, report = run(capfd, "run", rows=17)
    assert (status, report) == (0, "")
    assert output == "1 device of capability 8.0\nregisters 1, capturing 0\n0 wrong\n"


def test_a_fault_is_printed_like_a_compiler_error(capfd: pytest.CaptureFixture[str]) -> None:
    status, output, report = run(capfd, "oob")
    assert status == 4
    assert "cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED" in output
    assert re.search(r"affine_f32_rows: fault: out of bounds: .* past the end of buffer 'y' \(11200 bytes\)", report)
    assert re.search(r"--> .*kernel\.py:\d+", report)
    assert "(in func y)" in report and "  --> affine.yaml:" in report


def test_after_a_fault_every_call_fails_as_on_a_gpu(capfd: pytest.CaptureFixture[str]) -> None:
    _, output, report = run(capfd, "sticky")
    for function in ("cuLaunchKernel", "cuStreamSynchronize", "cuMemcpyDtoH", "cuMemFree"):
        assert f"{function}: CUDA_ERROR_LAUNCH_FAILED" in output
    assert report.count("fault:") == 1


def test_a_bad_call_is_refused_and_explained(capfd: pytest.CaptureFixture[str]) -> None:
    status, output, _ = run(capfd, "null")
    assert (status, output.splitlines()[-1]) == (4, "cuLaunchKernel: CUDA_ERROR_INVALID_VALUE")
    status, output, report = run(capfd, "run", name="staged")
    assert output.splitlines()[-1] == "cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE"
    assert "module load: CUDA_ERROR_INVALID_IMAGE (200): no registered bundle contains the cubin" in report


def test_the_driver_does_not_survive_a_fork(capfd: pytest.CaptureFixture[str]) -> None:
    _, output, _ = run(capfd, "fork")
    assert "cuInit: CUDA_ERROR_NOT_INITIALIZED" in output
    assert output.endswith("child exited with 4\n")


def test_exit_status_and_signals_are_passed_on() -> None:
    def status(script: str) -> int:
        return run_program([sys.executable, "-c", script], [bundle("affine")])

    assert status("raise SystemExit(7)") == 7
    assert status("import os, signal; os.kill(os.getpid(), signal.SIGTERM)") == 128 + 15
    with pytest.raises(FileNotFoundError):
        run_program(["./no-such-program"], [bundle("affine")])
    with pytest.raises(BundleError):
        run_program(["true"], [Path("/no/such/bundle")])


def test_a_program_that_ignores_a_fault_still_fails() -> None:
    cubin = bundle("affine") / "cubin" / "affine_f32_rows.sm_80.cubin"
    report = io.StringIO()
    ignoring = ["sh", "-c", f"{program()} {cubin} 5 700 oob; exit 0"]
    assert run_program(ignoring, [bundle("affine")], errors=report) == 1


def test_two_processes_have_gpus_of_their_own() -> None:
    cubin = bundle("affine") / "cubin" / "affine_f32_rows.sm_80.cubin"
    one = f"{program()} {cubin} 3 700"
    report = io.StringIO()
    both = ["sh", "-c", f"{one} oob & {one} run; status=$?; wait; exit $status"]
    assert run_program(both, [bundle("affine")], errors=report) == 1
    assert report.getvalue().count("fault:") == 1


def test_simulated_capability(capfd: pytest.CaptureFixture[str]) -> None:
    cubin = bundle("affine") / "cubin" / "affine_f32_rows.sm_80.cubin"
    report = io.StringIO()
    assert run_program([str(program()), str(cubin), "2", "700", "run"], [bundle("affine")], sm=90, errors=report) == 4
    output = capfd.readouterr().out
    assert "capability 9.0" in output
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in output


def test_both_sides_list_the_same_operations() -> None:
    text = (ROOT / "texpr/emulator/libcuda/wire.h").read_text()
    listed = {name: int(number) for name, number in re.findall(r"OP_(\w+) = (\d+)", text)}
    assert listed == {operation.name: operation.value for operation in Operation}


def test_library_is_built_once_and_without_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXPR_CACHE_DIR", str(tmp_path))
    directory = standin_directory()
    first = (directory / "libcuda.so.1").stat().st_mtime_ns
    assert standin_directory() == directory
    assert (directory / "libcuda.so.1").stat().st_mtime_ns == first
    assert sorted(os.listdir(directory)) == ["libcuda.so", "libcuda.so.1"]
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CompilerError, match="'no-such-compiler' is not on PATH"):
        standin_directory()


def test_command_line(tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "texpr.emulator", "run", *arguments], capture_output=True, text=True, cwd=ROOT
        )

    result = command("--bundle", str(bundle("affine")), "--", "sh", "-c", "exit 3")
    assert (result.returncode, result.stderr) == (3, "")
    assert "no program given" in command("--bundle", str(tmp_path)).stderr
    assert "'sm_x' should be a compute capability" in command("--sm", "sm_x", "--", "true").stderr
    assert "should be at least 1" in command("--multiprocessors", "0", "--", "true").stderr
    assert command("--libcuda").stdout == f"{standin_directory()}\n"
    missing = command("--bundle", str(tmp_path), "--", "true")
    assert (missing.returncode, missing.stderr) == (2, f"error: {tmp_path} is not a bundle: it has no manifest.json\n")
    assert command("--bundle", str(bundle("affine")), "--", "./none").returncode == 127
