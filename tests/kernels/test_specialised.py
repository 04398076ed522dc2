"""Kernels whose operands one role fetches by the copy engine: what the machine code must look like."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernels.sass import compiled, disassembled

KERNELS = Path(__file__).parents[2] / "kernels"


def _registers(ptx: str) -> set[int]:
    return {int(count) for count in re.findall(r"setmaxnreg\.\w+\.sync\.aligned\.u32\s+(\d+)", ptx)}


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_a_product_neither_copies_nor_loads_by_threads(dtype: str) -> None:
    """Two warpgroups multiply 128 x 256 by 64 a step in four instructions; one warp starts the copies, and the tile
    leaves by the copy engine as well."""
    kernel = compiled(f"{KERNELS}/linear.py:matmul_tn", "specialised", "sm_90a", T=dtype)
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    assert {232, 40} <= _registers(kernel.ptx)
    code = disassembled(kernel)
    step = code.shortest_loop("HGMMA")
    assert step.count("HGMMA") == kernel.ptx.count("wgmma.mma_async.sync.aligned.m64n256k16.") == 4
    assert step.count("LDGSTS") == step.count("LDSM") == step.count("STS") == step.count("LDG") == 0
    assert step.count("BAR") <= 2
    assert code.count("UTMALDG") > 0 and code.count("UTMASTG") > 0
