"""Whole programs in C, C++, Rust and Python on the stand-in libcuda, with their bundles found by themselves."""

from __future__ import annotations

import ctypes
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
from texpr.emulator.libcuda_build import standin_directory
from texpr.emulator.linked import driver_symbols, missing_functions
from texpr.emulator.search import bundles_of_process, find_bundles, is_bundle
from texpr.emulator.standin import run_program

PROGRAMS = Path(__file__).with_name("programs")
LIBRARY = "lib/x86_64-linux-gnu"
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
WARNINGS = ("-Wall", "-Wextra", "-Werror")


@cache
def built(source: str) -> Path:
    """A program of the folder `programs`, linked against the stand-in."""
    target = bundle("affine").parent / Path(source).stem
    library = standin_directory()
    command = ["cc", "-std=c99", *WARNINGS] if source.endswith(".c") else ["g++", "-std=c++17", *WARNINGS]
    link = [f"-L{library}", "-lcuda", "-pthread", "-o", str(target)]
    subprocess.run([*command, str(PROGRAMS / source), *link], check=True)
    return target


def run(*argv: str | Path, bundles: tuple[Path, ...] = ()) -> tuple[int, str]:
    """On sm_80: other bundles that lie beside the program could make another the default."""
    report = io.StringIO()
    return run_program([str(word) for word in argv], bundles, sm=80, errors=report), report.getvalue()


@pytest.mark.parametrize("source", ["driver_api.c", "capture.c"])
def test_calls_of_the_driver_api_do_as_in_cuda(source: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, report = run(built(source))
    output = capfd.readouterr()
    assert (status, output.out) == (0, "0 not as expected\n"), output.out
    assert "internal error" not in report
    if source == "driver_api.c":
        assert "CUDA_ERROR_INVALID_VALUE (1): 257 bytes at 0x" in report
        assert "the cluster is (2, 1, 1), and sm_80 has no clusters" in report
        assert "cuMemAddressReserve is asked for, and is not emulated" in output.err
        assert "uses the CUDA runtime API" in output.err


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_cpp_program_with_many_threads(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(built("threads.cpp")) == (0, "")
    assert capfd.readouterr().out == "0 wrong\n"


@cache
def rust_program() -> Path:
    target = bundle("affine").parent / "affine_rust"
    folder = bundle("affine") / LIBRARY
    command = ["rustc", "--edition", "2021", "-o", str(target), str(PROGRAMS / "affine.rs")]
    link = ["-L", str(standin_directory()), "-L", str(folder), "-C", f"link-arg=-Wl,-rpath,{folder}"]
    subprocess.run([*command, *link], check=True, capture_output=True)
    return target


def has_rust() -> bool:
    return shutil.which("rustc") is not None and subprocess.run(["rustc", "-V"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_rust(), reason="needs rustc")
def test_a_rust_program(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(rust_program()) == (0, "")
    assert capfd.readouterr().out == "0 wrong\n"
    status, report = run(rust_program(), "short")
    assert status == 4 and "affine_launch: -18" in capfd.readouterr().out
    assert "past the end of buffer 'y' (11200 bytes); this is y[4, 0]; the buffer holds 4 rows of 700" in report


def test_a_python_program_whose_bundle_is_found_by_its_library(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    library = bundle("affine") / LIBRARY / "libaffine.so"
    link = tmp_path / "elsewhere.so"  # nothing that the command line names lies near the bundle
    link.symlink_to(library)
    assert find_bundles([sys.executable, "x.py"], tmp_path).bundles == ()
    script = PROGRAMS / "affine.py"
    assert run(sys.executable, script, f"{link}") == (0, "")
    assert capfd.readouterr().out == "0 wrong\n"
    status, report = run(sys.executable, script, f"{link}", "short")
    assert status == 4 and "(in func y)" in report
    assert "affine_launch: -18" in capfd.readouterr().out


def test_a_cubin_of_no_bundle_is_refused_with_the_places_that_were_searched(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    stray = tmp_path / "libaffine.so"
    shutil.copy(bundle("affine") / LIBRARY / "libaffine.so", stray)
    script = tmp_path / "affine.py"
    shutil.copy(PROGRAMS / "affine.py", script)
    status, report = run(sys.executable, script, stray)
    assert status == 4 and "affine_init: -18" in capfd.readouterr().out
    lines = report.splitlines()
    unknown = r"no registered bundle contains the cubin of affine_f32_rows [0-9a-f]{16}\.\.\. of \d+ bytes"
    assert re.search(unknown, lines[0])
    assert "  no bundle was found" in lines
    assert "  looked in: . and two levels below" in lines
    assert "  looked in: the folders of the libraries that the program has loaded" in lines
    assert lines[-1] == "  try: name the folder that texpr aot wrote with --bundle DIR"


def test_a_bundle_from_another_build_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    shutil.copytree(bundle("affine_broken"), tmp_path / "build" / "affine")
    stray = tmp_path / "libaffine.so"
    shutil.copy(bundle("affine") / LIBRARY / "libaffine.so", stray)
    _, report = run(sys.executable, PROGRAMS / "affine.py", stray)
    assert "build/affine has affine_f32_rows from another build: rebuild the program, or the bundle" in report


def test_two_bundles_with_the_same_cubin_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        shutil.copytree(bundle("affine"), tmp_path / name)
    status, report = run(sys.executable, PROGRAMS / "affine.py", tmp_path / "first" / LIBRARY / "libaffine.so")
    assert status == 0
    assert report == (
        "texpr emulator: affine_f32_rows is in first and second: using first (choose with --bundle)\n"
    )
    status, report = run(
        sys.executable, PROGRAMS / "affine.py", tmp_path / "first" / LIBRARY / "libaffine.so",
        bundles=(tmp_path / "second",),
    )
    assert (status, report) == (0, "")


def test_where_bundles_are_looked_for(tmp_path: Path) -> None:
    work, project = tmp_path / "work", tmp_path / "home" / "project"
    for folder in (project / "bin", project / "data", work):
        folder.mkdir(parents=True)
    for place in ("home/project/bin/build/beside", "home/project/above", "work/build/here", "home/project/data/named"):
        shutil.copytree(bundle("affine"), tmp_path / place)
    hidden = work / ".cache" / "affine"
    shutil.copytree(bundle("affine"), hidden)
    (project / "bin" / "main").write_text("")
    found = {str(path.relative_to(tmp_path)) for path in find_bundles([str(project / "bin" / "main")], work).bundles}
    assert found == {"home/project/bin/build/beside", "home/project/above", "work/build/here"}
    by_argument = find_bundles(["sh", str(project / "data" / "named" / "kernel.py")], tmp_path / "work").bundles
    assert {path.name for path in by_argument} == {"named", "here"}
    assert not is_bundle(project)
    (work / "manifest.json").write_text('{"name": "a web site"}')
    assert not is_bundle(work)


def test_bundles_of_a_process_come_from_its_libraries() -> None:
    ctypes.CDLL(str(bundle("affine") / LIBRARY / "libaffine.so"))
    assert bundle("affine") in bundles_of_process(os.getpid()).bundles
    assert bundles_of_process(2**22 + 1).bundles == ()


def test_functions_that_a_program_is_linked_against_and_that_are_missing(tmp_path: Path) -> None:
    """Linked as on a machine with the real library."""
    real, source, target = tmp_path / "libcuda.so", tmp_path / "main.c", tmp_path / "main"
    (tmp_path / "real.c").write_text("int cuInit(int a) { return a; } int cuMemAddressReserve(void) { return 0; }")
    flags = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["cc", *flags, str(tmp_path / "real.c"), "-o", str(real)], check=True)
    source.write_text(
        "int cuMemAddressReserve(void); int cuInit(int);\n"
        "int main(void) { return cuInit(0) || cuMemAddressReserve(); }\n"
    )
    subprocess.run(["cc", "-Wl,-z,lazy", str(source), f"-L{tmp_path}", "-lcuda", "-o", str(target)], check=True)
    assert missing_functions(target, standin_directory() / "libcuda.so.1") == ("cuMemAddressReserve",)
    status, report = run(target)
    assert status == 127
    assert report == (
        f"texpr emulator: {target} is linked against functions that are not emulated: cuMemAddressReserve\n"
    )
    assert driver_symbols(source) == (frozenset(), frozenset())


def test_what_is_exported_is_what_can_be_looked_up() -> None:
    """Every function that the library defines is in the table of cuGetProcAddress, but for variants of a name."""
    exported = driver_symbols(standin_directory() / "libcuda.so.1")[1]
    text = (Path(__file__).parents[2] / "texpr/emulator/libcuda/lookup.c").read_text()
    listed = {symbol for _, symbol in re.findall(r"E\(\d+, (cu\w+), (cu\w+)\)", text)}
    plain = {name for name in exported if not name.endswith(("_ptsz", "_ptds"))}
    left = {name for name in plain - listed if f"{name}_v2" not in listed and name != "cuGetProcAddress"}
    assert listed <= exported
    assert left <= {"cuEventElapsedTime_v2", "cuGraphInstantiate"}, sorted(left)
