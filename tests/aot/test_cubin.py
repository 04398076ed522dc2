"""Gluon text becomes the cubin that Triton itself would make, the same everywhere, with the right facts beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.aot.gluon_samples import ALL_TARGETS, copy_kernel, scratch_kernel, softmax_kernel
from texpr.aot.cache import Cache
from texpr.aot.cubin import CompiledKernel, CompileOptions, Progress, compile_kernels
from texpr.aot.errors import KernelTextError, UnknownTargetError
from texpr.aot.ir import KernelSource
from texpr.aot.kernel_text import kernel_module

pytest.importorskip("triton")

# What a Triton user would write; run with TRITON_DISABLE_LINE_INFO=1, from another folder than the kernel's.
TRITON_ITSELF = """
import importlib.util, sys, triton
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource
path, name, capability, output = sys.argv[1:]
spec = importlib.util.spec_from_file_location("kernels", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
signature = {"x": "*fp32", "y": "*fp32", "rows": "i32", "cols": "i32"}
attrs = {(i,): [["tt.divisibility", d]] for i, d in ((0, 16), (1, 16), (3, 4))}
source = GluonASTSource(getattr(module, name), signature, constexprs={}, attrs=attrs)
target = GPUTarget("cuda", int(capability), 32)
kernel = triton.compile(source, target=target, options={"num_warps": 4, "enable_fp_fusion": True})
open(output, "wb").write(kernel.asm["cubin"])
open(output + ".ptx", "w").write(kernel.asm["ptx"])
"""


def compiled(kernel: KernelSource, options: CompileOptions) -> CompiledKernel:
    (result,) = compile_kernels([kernel], options=options)
    return result


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> CompileOptions:
    return CompileOptions(cache=Cache(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize(("target", "capability"), [("sm_80", 80), ("sm_90a", 90)])
def test_cubin_and_ptx_are_those_of_triton_without_line_info(
    options: CompileOptions, tmp_path: Path, target: str, capability: int
) -> None:
    kernel = softmax_kernel(target)
    ours = compiled(kernel, options)
    (tmp_path / "elsewhere.py").write_text(kernel_module([kernel]).text)
    (tmp_path / "run.py").write_text(TRITON_ITSELF)
    environment = os.environ | {"TRITON_DISABLE_LINE_INFO": "1", "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    output = tmp_path / "out.cubin"
    command = [sys.executable, "run.py", str(tmp_path / "elsewhere.py"), kernel.name, str(capability), str(output)]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert ours.cubin == output.read_bytes()
    assert ours.ptx.split() == Path(f"{output}.ptx").read_text().split()


def test_bytes_do_not_depend_on_folder_hash_seed_or_line_position(
    options: CompileOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compiled(softmax_kernel("sm_80"), options)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "17")
    monkeypatch.setenv("TRITON_DISABLE_LINE_INFO", "1")
    monkeypatch.setenv("DISABLE_PTXAS_OPT", "1")
    monkeypatch.chdir(tmp_path)
    moved = softmax_kernel("sm_80")
    moved = KernelSource(moved.name, "\n\n" + moved.text, ("", *moved.preamble), moved.params, 4, moved.targets)
    second = compiled(moved, CompileOptions(cache=None))
    assert first.cubin == second.cubin
    assert first.ptx == second.ptx
    assert b"/" not in re.findall(rb"[ -~]{6,}kernel\.py", first.cubin)


def test_shipped_ptx_names_no_file_and_every_instruction_maps_to_its_line(options: CompileOptions) -> None:
    kernel = softmax_kernel("sm_80")
    result = compiled(kernel, options)
    assert not re.search(r"\.loc|\.file|\.section|\.debug|kernel\.py|\$L__tmp", result.ptx)
    gluon = kernel_module([kernel]).text.splitlines()
    ptx = result.ptx.splitlines()
    lines = dict(result.lines)
    for number, text in enumerate(ptx, 1):
        if "ld.global" in text:
            assert "gl.load" in gluon[lines[number] - 1]
        if "st.global" in text:
            assert "gl.store" in gluon[lines[number] - 1]
        if "ex2" in text:
            assert "shifted_exp(v)" in gluon[lines[number] - 1], "code of a helper belongs to the line that calls it"
    instructions = [number for number, text in enumerate(ptx, 1) if text.strip().endswith(";") and "." in text]
    body = [number for number in instructions if not ptx[number - 1].strip().startswith(".")]
    assert set(body) <= set(lines)


def test_line_map_refers_to_the_module_of_all_kernels(options: CompileOptions) -> None:
    kernels = [copy_kernel("sm_80"), softmax_kernel("sm_80")]
    gluon = kernel_module(kernels).text.splitlines()
    for result in compile_kernels(kernels, options=options):
        stores = [number for number, text in enumerate(result.ptx.splitlines(), 1) if "st.global" in text]
        assert stores
        assert all(gluon[dict(result.lines)[number] - 1].lstrip().startswith("gl.store") for number in stores)


def test_every_target_compiles_with_its_facts(options: CompileOptions) -> None:
    for result in compile_kernels([copy_kernel(*ALL_TARGETS)], options=options):
        assert f".target {result.target}" in result.ptx
        assert result.warps == 4
        assert 0 < result.registers <= 255
        assert result.stack_bytes == result.spill_store_bytes == result.spill_load_bytes == result.shared_bytes == 0


def test_spills_stack_and_shared_memory_are_reported(options: CompileOptions) -> None:
    body = (
        "    i = gl.arange(0, 16384, BIG)\n"
        "    v = gl.load(x + i)\n"
        "    s = gl.allocate_shared_memory(gl.float32, [4096], gl.SwizzledSharedLayout(1, 1, 1, [0]))\n"
        "    j = gl.arange(0, 4096, BIG)\n"
        "    s.store(gl.load(x + j))\n"
        "    gl.store(x + i, v * a)\n"
        "    gl.store(x + 4095 - j, s.load(BIG))\n"
        "    gl.store(x + i + 1, v + a)\n"
    )
    big = ("BIG: gl.constexpr = gl.BlockedLayout([4], [32], [1], [0])",)
    result = compiled(scratch_kernel(body, preamble=big, warps=1), options)
    assert result.registers >= 64
    assert result.shared_bytes == 16384
    assert result.stack_bytes > 0
    assert result.spill_store_bytes > 0
    assert result.spill_load_bytes > 0


def test_results_come_in_the_order_asked_for_and_progress_counts_them(options: CompileOptions) -> None:
    seen: list[Progress] = []
    kernels = [softmax_kernel("sm_90a", "sm_80"), copy_kernel("sm_80", "sm_89")]
    results = compile_kernels(kernels, ["sm_80", "sm_90"], options, seen.append)
    assert [(result.kernel, result.target) for result in results] == [
        ("row_softmax", "sm_90a"),
        ("row_softmax", "sm_80"),
        ("copy_rows", "sm_80"),
    ]
    assert [progress.done for progress in seen] == [1, 2, 3]
    assert {progress.total for progress in seen} == {3}


def test_unknown_target_is_refused() -> None:
    with pytest.raises(UnknownTargetError, match="sm_81"):
        compile_kernels([copy_kernel("sm_80")], ["sm_81"])


def test_parameters_must_be_those_of_the_text() -> None:
    kernel = copy_kernel()
    wrong = KernelSource(kernel.name, kernel.text, kernel.preamble, kernel.params[:2], 4, ("sm_80",))
    with pytest.raises(KernelTextError, match="takes"):
        compile_kernels([wrong])


def test_preambles_that_disagree_on_a_name_are_refused() -> None:
    other = scratch_kernel("    pass\n", preamble=("VECTOR: gl.constexpr = 3",))
    with pytest.raises(KernelTextError, match="VECTOR"):
        kernel_module([copy_kernel(), other])


def test_imports_of_all_kernels_come_first() -> None:
    other = scratch_kernel(
        "    pass\n", preamble=("import triton.language as tl", "@gluon.jit\ndef late(x):\n    return x")
    )
    lines = kernel_module([softmax_kernel(), other]).text.splitlines()
    assert (
        lines.index("import triton.language as tl") < lines.index("def shifted_exp(v):") < lines.index("def late(x):")
    )


def test_shared_preamble_is_written_once() -> None:
    module = kernel_module([copy_kernel(), scratch_kernel("    pass\n")])
    assert module.text.count("VECTOR: gl.constexpr") == 1
    for name, line in module.first_lines:
        assert module.text.splitlines()[line - 1 : line + 1][1].startswith(f"def {name}(")
