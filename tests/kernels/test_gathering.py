"""Kernels of which one role gathers: what the machine code of its warps and of those that multiply must look like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernels.sass import compiled, disassembled

KERNELS = Path(__file__).parents[2] / "kernels"


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_only_the_role_that_gathers_copies(dtype: str) -> None:
    """64 rows of 128 bytes are 512 pieces of 16, four of each of 128 threads, beside one box of the filter; every
    thread arrives. The other warps wait, fence and multiply."""
    kernel = compiled(f"{KERNELS}/sparse.py:sparse_conv", "gathered", "sm_90a", T=dtype)
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    registers = {int(count) for count in re.findall(r"setmaxnreg\.\w+\.sync\.aligned\.u32\s+(\d+)", kernel.ptx)}
    assert {64, 168} <= registers
    assert kernel.ptx.count("cp.async.mbarrier.arrive.noinc.shared") == 1
    assert len(re.findall(r"mbarrier\.init\S* \[%r\d+\], 129;", kernel.ptx)) == 4
    code = disassembled(kernel)
    multiplies, gathers = code.shortest_loop("HGMMA"), code.shortest_loop("LDGSTS")
    assert multiplies.count("HGMMA") == kernel.ptx.count("wgmma.mma_async.sync.aligned.m64n128k16.") == 4
    assert multiplies.count("LDGSTS") == multiplies.count("LDG") == multiplies.count("UTMALDG") == 0
    assert multiplies.count("FENCE") == 1 and multiplies.count("BAR") <= 1
    assert gathers.count("LDGSTS", "128") == gathers.count("LDGSTS") == code.count("LDGSTS") == 4
    assert gathers.count("HGMMA") == gathers.count("STS") == 0 and gathers.count("ARRIVES") == 1
