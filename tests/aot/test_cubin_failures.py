"""A kernel that does not compile, however it fails, ends in an error that names kernel, target, line and origin."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.aot.gluon_samples import copy_kernel, scratch_kernel
from texpr.aot import cubin, toolchain
from texpr.aot.cache import Cache
from texpr.aot.cubin import CompileOptions, compile_kernels
from texpr.aot.diagnose import explain
from texpr.aot.driver_version import minimum_driver
from texpr.aot.errors import (
    AssemblerError,
    AssemblerTargetError,
    CompilerAbortError,
    CompilerPassError,
    CompileTimeoutError,
    GluonFrontEndError,
    KernelAbiError,
    KernelTextError,
    MissingAssemblerError,
    MissingCompilerError,
    ScratchMemoryError,
    WorkerStartError,
)
from texpr.aot.ir import KernelSource
from texpr.aot.pool import WorkerPool
from texpr.aot.protocol import CompileRequest, Died, Unusable
from texpr.errors import Location, TExprError
from texpr.targets import TARGETS

pytest.importorskip("triton")

NO_CACHE = CompileOptions(cache=None, jobs=1)
LAYOUTS = (
    "A: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])",
    "B: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])",
)


def failure(kernel: KernelSource, options: CompileOptions = NO_CACHE) -> TExprError:
    with pytest.raises(TExprError) as caught:
        compile_kernels([kernel], options=options)
    return caught.value


def test_front_end_error_names_the_line_of_the_kernel() -> None:
    error = failure(scratch_kernel("    i = gl.arange(0, 96, A)\n    gl.store(x + i, a)\n", preamble=LAYOUTS))
    assert isinstance(error, GluonFrontEndError)
    assert "power of 2" in error.message
    assert error.at == Location("s.yaml", 2, "kernel scratch, sm_80, line2")
    assert "> kernel.py" in error.excerpt
    assert "gl.arange(0, 96, A)" in error.excerpt.split(">")[1].splitlines()[0]


def test_front_end_error_in_a_helper_names_the_call() -> None:
    helper = "@gluon.jit\ndef helper(v):\n    return v + gl.arange(0, 256, B)"
    body = "    i = gl.arange(0, 128, A)\n    v = helper(i)\n    gl.store(x + i, v)\n"
    error = failure(scratch_kernel(body, preamble=(*LAYOUTS, helper)))
    assert isinstance(error, GluonFrontEndError)
    assert "inside helper" in error.message
    assert error.at is not None
    assert error.at.line == 3


def test_failed_static_assertion_shows_its_message() -> None:
    error = failure(scratch_kernel("    gl.static_assert(1 == 2, 'two-way bank conflict')\n"))
    assert isinstance(error, GluonFrontEndError)
    assert "two-way bank conflict" in error.message


def test_broken_preamble_is_a_front_end_error() -> None:
    error = failure(scratch_kernel("    pass\n", preamble=("VECTOR: gl.constexpr = gl.NoSuchLayout()",)))
    assert isinstance(error, GluonFrontEndError)
    assert "NoSuchLayout" in error.message


def test_text_that_is_no_python_is_refused_before_a_process_starts() -> None:
    error = failure(scratch_kernel("    i = = 3\n"))
    assert isinstance(error, KernelTextError)
    assert "line 3" in error.message


def test_pass_error_printed_on_stderr_is_located() -> None:
    error = failure(scratch_kernel("    i = gl.arange(0, 128)\n    gl.store(x + i, a)\n"))
    assert isinstance(error, CompilerPassError)
    assert "Failed to infer return type" in error.message
    assert error.at is not None
    assert (error.at.file, error.at.line) == ("s.yaml", 2)


def test_assembler_error_is_located_through_the_line_map() -> None:
    asm = "    v = gl.inline_asm_elementwise('frob.f32 $0, $1;', '=r,r', [v], dtype=gl.float32, is_pure=True, pack=1)\n"
    body = f"    i = gl.arange(0, 128, A)\n    v = gl.load(x + i)\n{asm}    gl.store(x + i, v)\n"
    error = failure(scratch_kernel(body, preamble=LAYOUTS))
    assert isinstance(error, AssemblerError)
    assert "frob" in error.message
    assert error.at is not None
    assert error.at.line == 4


def test_abort_of_the_compiler_becomes_an_error_and_the_next_kernel_compiles() -> None:
    wgmma = (
        "from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma",
        "S: gl.constexpr = gl.NVMMASharedLayout.get_default_for([64, 64], gl.float16)",
        "M: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16])",
    )
    body = (
        "    s = gl.allocate_shared_memory(gl.float16, [64, 64], S)\n"
        "    v = warpgroup_mma(s, s, gl.zeros([64, 64], gl.float32, M))\n"
        "    i = gl.arange(0, 64, gl.SliceLayout(1, M))[:, None] + gl.arange(0, 64, gl.SliceLayout(0, M))[None, :]\n"
        "    gl.store(x + i, v)\n"
    )
    error = failure(scratch_kernel(body, preamble=wgmma))
    assert isinstance(error, CompilerAbortError)
    assert "scratch" in error.message
    assert "sm_80" in error.message


def request(text: str, kernel: str = "f") -> CompileRequest:
    chain = toolchain.find_toolchain()
    assembler = chain.triton_folder / "backends" / "nvidia" / "bin" / "ptxas"
    return CompileRequest(text, kernel, (), 4, 80, "sm_80", True, str(assembler))


def test_pool_replaces_a_process_that_dies() -> None:
    dying = request(
        "import os, sys\nsys.stderr.write('LLVM ERROR: no\\n')\nsys.stderr.flush()\nos.kill(os.getpid(), 6)\n"
    )
    fine = request("from triton.experimental import gluon\n@gluon.jit\ndef f():\n    pass\n")
    with WorkerPool(1, None, 60.0) as pool:
        outcomes = {index: outcome for index, outcome, _ in pool.run([dying, fine, dying, fine])}
    assert isinstance(outcomes[0], Died)
    assert outcomes[0].cause == signal.SIGABRT.name
    assert "LLVM ERROR: no" in outcomes[0].output
    assert [type(outcomes[index]).__name__ for index in range(4)] == ["Died", "Compiled", "Died", "Compiled"]


def test_triton_that_does_not_import_is_no_fault_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = request("")
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text("raise ImportError('libcurious.so is missing')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with WorkerPool(1, None, 60.0) as pool:
        ((_, outcome, _),) = pool.run([fine])
    assert isinstance(outcome, Unusable)
    error = explain(outcome, copy_kernel(), TARGETS["sm_80"], fine)
    assert isinstance(error, WorkerStartError)
    assert "libcurious" in error.message


def test_process_killed_by_the_system_suggests_fewer_jobs() -> None:
    dying = request("import os\nos.kill(os.getpid(), 9)\n")
    with WorkerPool(1, None, 60.0) as pool:
        ((_, outcome, _),) = pool.run([dying])
    assert isinstance(outcome, Died)
    assert "--jobs" in explain(outcome, copy_kernel(), TARGETS["sm_80"], dying).hint


def test_kernel_that_takes_too_long_is_stopped() -> None:
    endless = scratch_kernel("    pass\n", preamble=("import time\ntime.sleep(60)",))
    error = failure(endless, CompileOptions(cache=None, jobs=1, timeout=1.5))
    assert isinstance(error, CompileTimeoutError)
    assert "1.5 s" in error.message


def test_scratch_memory_is_refused() -> None:
    tma = (
        "from triton.experimental.gluon.language.nvidia.hopper import tma",
        "T: gl.constexpr = gl.NVMMASharedLayout.get_default_for([64, 64], gl.float32)",
    )
    body = (
        "    d = tma.make_tensor_descriptor(x, [128, 128], [128, 1], [64, 64], T)\n"
        "    s = gl.allocate_shared_memory(gl.float32, [64, 64], T)\n"
        "    tma.async_store(d, [0, 0], s)\n"
        "    tma.store_wait(0)\n"
    )
    error = failure(scratch_kernel(body, "sm_90a", preamble=tma))
    assert isinstance(error, ScratchMemoryError)


def test_cubin_with_other_parameters_than_described_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = CompileOptions(cache=Cache(tmp_path))
    compile_kernels([copy_kernel()], options=options)
    monkeypatch.setattr(cubin, "parameter_bytes", lambda kind: (4,))
    with pytest.raises(KernelAbiError, match=r"parameters of \[8, 8, 4, 8, 8\] bytes"):
        compile_kernels([copy_kernel()], options=options)


def test_missing_triton_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise toolchain.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(toolchain.importlib.metadata, "version", absent)
    with pytest.raises(MissingCompilerError, match="not installed") as caught:
        compile_kernels([copy_kernel()])
    assert "texpr[compile]" in str(caught.value)


def test_other_triton_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.metadata, "version", lambda name: "3.6.0")
    with pytest.raises(MissingCompilerError, match=r"3\.6\.0"):
        compile_kernels([copy_kernel()])


def test_ptxas_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingAssemblerError, match="nothing here"):
        compile_kernels([copy_kernel()], options=CompileOptions(ptxas=tmp_path / "nothing here"))
    (tmp_path / "fake").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "fake").chmod(0o755)
    with pytest.raises(MissingAssemblerError, match="names no release"):
        compile_kernels([copy_kernel()], options=CompileOptions(ptxas=tmp_path / "fake"))


def stand_in(folder: Path, script: str) -> Path:
    """An assembler of release 12.3 that for the rest does what ``script`` says."""
    path = folder / "ptxas"
    said = "Cuda compilation tools, release 12.3, V12.3.107"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{said}"; exit 0; fi\n{script}\n')
    path.chmod(0o755)
    return path


def test_a_target_that_the_given_ptxas_does_not_know_is_refused_in_its_words(tmp_path: Path) -> None:
    says = "ptxas fatal   : Value 'sm_80' is not defined for option 'gpu-name'"
    path = stand_in(tmp_path, f'echo "{says}" >&2; exit 255')
    with pytest.raises(AssemblerTargetError) as caught:
        compile_kernels([copy_kernel()], options=CompileOptions(ptxas=path))
    assert says in caught.value.message and "release 12.3" in caught.value.message
    assert "sm_80" in caught.value.message


def test_a_ptxas_may_be_given_by_its_name_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stand_in(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    chain = toolchain.find_toolchain(Path("ptxas"))
    assert chain.assembler(TARGETS["sm_80"]).path == path
    monkeypatch.chdir(tmp_path)
    assert toolchain.find_toolchain(Path("./ptxas")).override == path


def test_the_oldest_driver_follows_the_major_version_of_the_assembler() -> None:
    assert minimum_driver("release 12.9, V12.9.86", TARGETS["sm_80"]) == 12000
    assert minimum_driver("release 13.4, V13.4.59", TARGETS["sm_90a"]) == 13000
    assert minimum_driver("release 12.9, V12.9.86", TARGETS["sm_120a"]) == 12080, "it came with CUDA 12.8"
    assert minimum_driver("release 11.4, V11.4.100", TARGETS["sm_80"]) == 11080, "launchers need cuLaunchKernelEx"
    with pytest.raises(ValueError, match="names no release"):
        minimum_driver("V13", TARGETS["sm_80"])


def test_every_target_has_a_first_driver() -> None:
    assert all(minimum_driver("release 11.0", target) >= 11000 for target in TARGETS.values())


def test_other_ptxas_is_used(tmp_path: Path) -> None:
    """A wrapper that records its calls stands for a ptxas of one's own."""
    real = toolchain.find_toolchain().triton_folder / "backends" / "nvidia" / "bin" / "ptxas"
    wrapper = tmp_path / "ptxas"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    compile_kernels([copy_kernel()], options=CompileOptions(cache=None, ptxas=wrapper))
    assert "--gpu-name=sm_80" in (tmp_path / "calls").read_text()
