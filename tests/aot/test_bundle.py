"""A bundle appears whole, byte for byte the same wherever it is built, and never in the place of something else."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.aot.gluon_samples import sample_package, scratch_kernel, softmax_kernel, softmax_package
from texpr.aot import bundle as bundle_module
from texpr.aot.bundle import BuildOptions, BundleReport, narrow, write_bundle
from texpr.aot.cache import Cache
from texpr.aot.cubin import CompiledKernel, CompileOptions, compile_kernels
from texpr.aot.errors import (
    BlockSizeError,
    CCompilerError,
    ClusterSizeError,
    GluonFrontEndError,
    NoTargetLeftError,
    OccupiedFolderError,
    OutputFolderError,
    RegisterGateError,
    SharedMemoryGateError,
    SharedMemoryLimitError,
    SpillError,
)
from texpr.aot.gates import Gates, check_gates
from texpr.aot.library import find_c_compiler
from texpr.aot.manifest import load_manifest, mark_checked
from texpr.cli import main
from texpr.runtime import load
from texpr.runtime.manifest import host_triple

pytest.importorskip("triton")
needs_c_compiler = pytest.mark.skipif(find_c_compiler() is None, reason="no C compiler on this machine")
needs_cmake = pytest.mark.skipif(
    find_c_compiler() is None or shutil.which("cmake") is None, reason="no CMake or C compiler on this machine"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cache: Cache) -> BundleReport:
    out = tmp_path_factory.mktemp("bundles") / "deep" / "sample"
    return write_bundle(sample_package(), out, BuildOptions(compile=CompileOptions(cache=cache)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_bundle_has_the_promised_files(built: BundleReport) -> None:
    files = set(contents(built.folder))
    expected = {"texpr_abi.h", "sample.h", "sample.c", "manifest.json", "kernel.py", "schedule.yaml", "CMakeLists.txt"}
    expected |= {f"cubin/{kernel.kernel}.{kernel.target}.cubin" for kernel in built.kernels}
    expected |= {f"ptx/{kernel.sha256}.{kind}" for kernel in built.kernels for kind in ("ptx", "lines.json")}
    expected |= {library.path for library in built.libraries}
    assert files == expected
    assert [(kernel.kernel, kernel.target) for kernel in built.kernels] == [
        ("copy_rows", "sm_80"),
        ("copy_rows", "sm_90a"),
        ("row_softmax", "sm_90a"),
    ]
    assert built.folder.stat().st_mode & 0o777 == 0o755


BUILD_AGAIN = """
from pathlib import Path
from tests.aot.gluon_samples import sample_package
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.cubin import CompileOptions
write_bundle(sample_package(), Path("other name"), BuildOptions(compile=CompileOptions(cache=None, jobs=3)))
"""


def test_second_build_elsewhere_without_the_cache_is_byte_identical(built: BundleReport, tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONHASHSEED": "4", "PYTHONPATH": str(root), "TRITON_DISABLE_LINE_INFO": "1"}
    subprocess.run([sys.executable, "-c", BUILD_AGAIN], cwd=tmp_path, env=environment, check=True)
    assert contents(tmp_path / "other name") == contents(built.folder)


def test_no_file_names_a_path_of_this_machine(built: BundleReport, tmp_path: Path) -> None:
    for path, data in contents(built.folder).items():
        for word in (built.folder.parent, tmp_path.parent, Path.home(), Path(sys.prefix)):
            assert str(word).encode() not in data or str(word) == "/", (path, word)


def test_line_map_leads_from_ptx_to_gluon_to_func_and_schedule(built: BundleReport) -> None:
    gluon = (built.folder / "kernel.py").read_text().splitlines()
    for kernel in built.kernels:
        value = json.loads((built.folder / f"ptx/{kernel.sha256}.lines.json").read_text())
        assert (value["version"], value["kernel"], value["target"]) == (1, kernel.kernel, kernel.target)
        assert value["gluon"] == "kernel.py"
        ptx = (built.folder / f"ptx/{kernel.sha256}.ptx").read_text().splitlines()
        lines = {ptx_line: gluon_line for ptx_line, gluon_line in value["lines"]}
        loads = [lines[number] for number, text in enumerate(ptx, 1) if "ld.global" in text]
        assert loads
        assert all("gl.load" in gluon[line - 1] for line in loads)
        if kernel.kernel == "row_softmax":
            assert {value["nodes"][str(line)]["node"] for line in loads} == {"x"}
            assert {value["nodes"][str(line)]["schedule"] for line in loads} == {"softmax.yaml:6"}


def test_kernel_file_is_python_that_compiles_to_the_same_cubins(built: BundleReport) -> None:
    compile((built.folder / "kernel.py").read_text(), "kernel.py", "exec")
    for kernel in built.kernels:
        assert (built.folder / f"cubin/{kernel.kernel}.{kernel.target}.cubin").read_bytes() == kernel.cubin


@needs_c_compiler
def test_library_exports_the_api_and_nothing_else(built: BundleReport) -> None:
    (library,) = built.libraries
    assert library.path == f"lib/{host_triple()}/libsample.so"
    loaded = ctypes.CDLL(str(built.folder / library.path))
    loaded.sample_status_string.restype = ctypes.c_char_p
    assert loaded.sample_status_string(0) == b"ok"
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(built.folder / library.path)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert names
    assert {name for name in names if not name.startswith(("sample_", "_init", "_fini"))} == set()


def cmake(source: Path, build: Path) -> None:
    for command in (["cmake", "-S", source, "-B", build], ["cmake", "--build", build]):
        subprocess.run(command, check=True, capture_output=True)


@needs_cmake
def test_cmake_builds_a_program_that_uses_the_bundle(built: BundleReport, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.15)\nproject(user C)\n"
        f'add_subdirectory("{built.folder}" sample)\n'
        "add_executable(user main.c)\ntarget_link_libraries(user PRIVATE sample)\n"
    )
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "sample.h"\nint main(void) { puts(sample_architectures()); return 0; }\n'
    )
    cmake(tmp_path, tmp_path / "build")
    printed = subprocess.run([tmp_path / "build" / "user"], check=True, capture_output=True, text=True).stdout
    assert "sm_80" in printed
    assert "sm_90a" in printed


@needs_cmake
def test_cmake_builds_the_demo_of_a_bundle_on_its_own(cache: Cache, tmp_path: Path) -> None:
    options = BuildOptions(compile=CompileOptions(cache=cache), library=False)
    folder = write_bundle(softmax_package(2, 8), tmp_path / "b", options).folder
    cmake(folder, tmp_path / "build")
    assert (tmp_path / "build" / "sample_demo").exists()


@needs_c_compiler
def test_demo_of_a_bundle_prints_pass_on_the_emulator(
    cache: Cache, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = BuildOptions(compile=CompileOptions(cache=cache))
    folder = write_bundle(softmax_package(5, 100), tmp_path / "b", options).folder
    assert {path.name for path in (folder / "demo").iterdir()} == {"x.bin", "y.expected.bin", "y.bound.bin"}
    compiler = [*(find_c_compiler() or []), "-Wall", "-Wextra", "-Werror"]
    sources = [folder / "demo.c", folder / "sample.c", "-ldl", "-lm"]
    subprocess.run([*compiler, *sources, "-o", tmp_path / "demo"], check=True)
    words = ["emulate", "--bundle", str(folder), "--", str(tmp_path / "demo")]
    assert main([*words, str(folder / "demo")]) == 0
    assert "PASS" in capfd.readouterr().out
    (folder / "demo" / "y.expected.bin").write_bytes(bytes(5 * 100 * 8))
    assert main([*words, str(folder / "demo")]) != 0


@needs_c_compiler
def test_bundle_loaded_in_python_gives_the_right_numbers(cache: Cache, tmp_path: Path) -> None:
    options = BuildOptions(compile=CompileOptions(cache=cache))
    report = write_bundle(softmax_package(5, 100), tmp_path / "b", options)
    x = np.random.default_rng(2).standard_normal((6, 64)).astype(np.float32)
    powers = np.exp(x)
    y = load(report.folder)(x)
    assert np.abs(y - powers / powers.sum(axis=1, keepdims=True)).max() < 1e-6


def test_without_a_c_compiler_the_library_is_left_out_with_a_warning(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "find_c_compiler", lambda: None)
    report = write_bundle(sample_package(), tmp_path / "b", BuildOptions(compile=CompileOptions(cache=cache)))
    assert report.libraries == ()
    assert "no C compiler" in report.warnings[0]
    assert load_manifest(report.folder)["libraries"] == []


def test_products_of_warpgroups_that_wait_for_each_other_are_a_warning(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*given: object, **options: object) -> tuple[CompiledKernel, ...]:
        compiled = compile_kernels(*given, **options)
        return tuple(replace(kernel, serialised="insufficient registers") for kernel in compiled)

    monkeypatch.setattr(bundle_module, "compile_kernels", slow)
    options = BuildOptions(compile=CompileOptions(cache=cache), library=False)
    warning = write_bundle(sample_package(), tmp_path / "b", options).warnings[0]
    assert "run one after the other, due to insufficient registers; use more warps or smaller tiles" in warning


def test_c_compiler_that_fails_is_reported_and_leaves_nothing(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(CCompilerError, match="status 1"):
        write_bundle(sample_package(), tmp_path / "b", BuildOptions(compile=CompileOptions(cache=cache)))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CCompilerError, match="no-such-compiler"):
        write_bundle(sample_package(), tmp_path / "b", BuildOptions(compile=CompileOptions(cache=cache)))
    assert list(tmp_path.iterdir()) == []


def test_existing_bundle_is_replaced_whole(built: BundleReport, cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "b"
    shutil.copytree(built.folder, out)
    (out / "stale").write_text("of an older build")
    write_bundle(sample_package(), out, BuildOptions(compile=CompileOptions(cache=cache)))
    assert contents(out) == contents(built.folder)
    assert list(tmp_path.iterdir()) == [out]


def test_replacing_works_where_the_exchange_of_folders_does_not(
    built: BundleReport, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module.ctypes, "CDLL", lambda *_, **__: object())
    test_existing_bundle_is_replaced_whole(built, cache, tmp_path)


def test_failed_build_leaves_the_old_bundle(built: BundleReport, cache: Cache, tmp_path: Path) -> None:
    out = tmp_path / "b"
    shutil.copytree(built.folder, out)
    package = sample_package()
    broken = replace(package.kernels[0], text=package.kernels[0].text.replace("1024", "1000"))
    with pytest.raises(GluonFrontEndError):
        write_bundle(replace(package, kernels=(broken, package.kernels[1])), out, BuildOptions())
    assert contents(out) == contents(built.folder)
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("three years of work")
    (tmp_path / "file").write_text("")
    for name in ("folder", "file"):
        with pytest.raises(OccupiedFolderError):
            write_bundle(sample_package(), tmp_path / name)
    assert (tmp_path / "folder" / "thesis.tex").exists()


def test_empty_folder_is_used(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    report = write_bundle(
        sample_package(), tmp_path / "b", BuildOptions(compile=CompileOptions(cache=cache), library=False)
    )
    assert (report.folder / "manifest.json").exists()


def test_parent_that_is_a_file_is_refused(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFolderError):
        write_bundle(sample_package(), tmp_path / "file" / "b", BuildOptions(compile=CompileOptions(cache=cache)))


def test_targets_can_be_narrowed() -> None:
    package = narrow(sample_package(), ["sm_90"])
    assert [variant.name for variant in package.entries[0].variants] == ["any"]
    assert {kernel.name: kernel.targets for kernel in package.kernels} == {
        "copy_rows": ("sm_90a",),
        "row_softmax": ("sm_90a",),
    }
    with pytest.raises(NoTargetLeftError, match="sm_120a"):
        narrow(sample_package(), ["sm_120a"])
    with pytest.raises(NoTargetLeftError, match="sm_80"):
        narrow(sample_package(), ["sm_80"])  # sample_softmax has no variant for it


def test_checked_flags_are_set_by_name_and_stay(built: BundleReport, tmp_path: Path) -> None:
    shutil.copytree(built.folder, tmp_path / "b")
    mark_checked(tmp_path / "b", [("copy_rows", "sm_80")])
    mark_checked(tmp_path / "b", [("row_softmax", "sm_90a")])
    flags = {
        (kernel["name"], image["target"]): image["checked"]
        for kernel in load_manifest(tmp_path / "b")["kernels"]
        for image in kernel["images"]
    }
    assert flags == {("copy_rows", "sm_80"): True, ("copy_rows", "sm_90a"): False, ("row_softmax", "sm_90a"): True}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


# ---- gates


def facts(**changes: int | str) -> CompiledKernel:
    (kernel,) = compile_kernels([softmax_kernel("sm_86")])
    return replace(kernel, **changes)


def test_shared_memory_limit_of_the_target_always_holds() -> None:
    body = (
        "    s = gl.allocate_shared_memory(gl.float32, [32768], gl.SwizzledSharedLayout(1, 1, 1, [0]))\n"
        "    i = gl.arange(0, 32768, VECTOR)\n"
        "    s.store(gl.load(x + i))\n"
        "    gl.store(x + 32767 - i, s.load(VECTOR))\n"
    )
    kernel = scratch_kernel(body, "sm_86", "sm_90a")
    small, large = compile_kernels([kernel])
    check_gates(kernel, large, Gates())
    with pytest.raises(SharedMemoryLimitError, match="131072") as caught:
        check_gates(kernel, small, Gates())
    assert "[32768]" in caught.value.excerpt
    assert caught.value.at is not None
    assert caught.value.at.line == 2


def test_gates_refuse_what_exceeds_them_and_nothing_else() -> None:
    source = softmax_kernel("sm_86")
    kernel = facts(registers=100, shared_bytes=5000, spill_store_bytes=0)
    check_gates(source, kernel, Gates(forbid_spills=True, max_registers=100, max_shared=5000))
    with pytest.raises(RegisterGateError, match="100"):
        check_gates(source, kernel, Gates(max_registers=99))
    with pytest.raises(SharedMemoryGateError, match="5000"):
        check_gates(source, kernel, Gates(max_shared=4999))
    check_gates(source, facts(spill_load_bytes=8), Gates())
    with pytest.raises(SpillError, match="8 bytes of loads"):
        check_gates(source, facts(spill_load_bytes=8), Gates(forbid_spills=True))
    with pytest.raises(BlockSizeError, match="64 warps"):
        check_gates(source, facts(warps=64), Gates())


def test_clusters_are_no_larger_than_every_gpu_of_the_target_allows() -> None:
    source = softmax_kernel("sm_86")
    for target, limit in (("sm_80", 1), ("sm_90a", 8), ("sm_120a", 1)):
        check_gates(replace(source, ctas=limit), facts(target=target), Gates())
        with pytest.raises(ClusterSizeError, match=f"clusters of 16 programs, {target} allows {limit}"):
            check_gates(replace(source, ctas=16), facts(target=target), Gates())
