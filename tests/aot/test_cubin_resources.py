"""Facts are read from cubins, and from ptxas's log what cubins do not record."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.aot.gluon_samples import ALL_TARGETS, copy_kernel
from texpr.aot.cubin import compile_kernels
from texpr.aot.lines import strip_line_info
from texpr.aot.resources import CubinFormatError, Spills, cubin_facts, serialised_of, spills_of
from texpr.aot.toolchain import find_toolchain
from texpr.targets import TARGETS

pytest.importorskip("triton")


def test_facts_agree_with_cuobjdump_on_every_target(tmp_path: Path) -> None:
    tool = find_toolchain().triton_folder / "backends" / "nvidia" / "bin" / "cuobjdump"
    for kernel in compile_kernels([copy_kernel(*ALL_TARGETS)]):
        (facts,) = cubin_facts(kernel.cubin)
        assert facts.kernel == "copy_rows"
        assert facts.capability == TARGETS[kernel.target].capability
        assert facts.parameters == (8, 8, 4, 8, 8)
        assert facts.threads == 128
        (tmp_path / "cubin").write_bytes(kernel.cubin)
        printed = subprocess.run([tool, "--dump-resource-usage", "cubin"], cwd=tmp_path, capture_output=True, text=True)
        found = re.search(r"REG:(\d+) STACK:(\d+)", printed.stdout)
        assert found is not None
        assert (facts.registers, facts.stack_bytes) == (int(found.group(1)), int(found.group(2)))


def test_what_is_no_cubin_is_refused() -> None:
    (kernel,) = compile_kernels([copy_kernel("sm_80")])
    for damaged in (b"", b"\x7fELF", b"#!/bin/sh\n" * 20, kernel.cubin[:100], kernel.cubin[: len(kernel.cubin) // 2]):
        with pytest.raises(CubinFormatError):
            cubin_facts(damaged)


def test_spills_are_summed_over_functions() -> None:
    log = """
    0 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
    """
    assert spills_of(log) == Spills(16, 12)
    with pytest.raises(ValueError, match="does not mention"):
        spills_of("")


PTX_WITH_LINES = """\
.visible .entry k(
)
{
\t.loc\t1 5 0
$L__func_begin0:
\tmov.b32 %r1, 0;
$L__tmp0:
\t.loc\t1 9 4, function_name $L__info_string0, inlined_at 1 20 3
\t.loc\t2 100 1, function_name $L__info_string0, inlined_at 1 9 4
\tadd.s32 %r1, %r1, 1;
\t.loc\t1 22 3
\t// begin inline asm
\t.loc\t1 22 3
\tmov.b32 %r2, 0;
\t.loc\t1 23 3
\t@%p1 mov.b32 %r2, 1;

\t// end inline asm
\t.loc\t1 0 3
\tret;
}
\t.file\t1 "/some/where/kernel.py"
\t.file\t2 "/else/where/kernel.py"
\t.section\t.debug_str
\t{
.b8 0
\t}
\t.section\t.debug_macinfo\t{\t}
"""


def test_lines_of_helpers_and_inline_assembly_are_those_of_the_caller() -> None:
    stripped = strip_line_info(PTX_WITH_LINES, "/some/where/kernel.py")
    text = stripped.text.splitlines()
    assert [(text[ptx - 1].strip(), line) for ptx, line in stripped.lines] == [
        ("mov.b32 %r1, 0;", 5),
        ("add.s32 %r1, %r1, 1;", 20),
        ("mov.b32 %r2, 0;", 22),
        ("@%p1 mov.b32 %r2, 1;", 22),
    ]
    assert text[-1] == "}"
    assert "" not in text
def test_the_assembler_says_why_products_wait_for_each_other() -> None:
    log = (
        "ptxas-blackwell info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due "
        "to insufficient register resources for the wgmma pipeline in the function 'k' in line 786\n"
        "ptxas-blackwell info    : Used 171 registers\n"
    )
    assert serialised_of(log) == "insufficient register resources for the wgmma pipeline"
    assert serialised_of("ptxas info    : Used 171 registers") == ""
