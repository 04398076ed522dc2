"""Machine code of attention that sees all keys: what is in flight while a softmax is computed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernels.sass import compiled, disassembled

ATTENTION = f"{Path(__file__).parents[2] / 'kernels'}/attention.py:attention"


@pytest.mark.parametrize("size", [64, 128])
def test_p_v_of_a_step_is_multiplied_while_the_softmax_of_the_next_is_computed(size: int) -> None:
    kernel = compiled(ATTENTION, f"d{size}_fetched", "sm_90a", statics={"D": size, "causal": 0}, T="bf16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.serialised) == (0, 0, "")
    step = disassembled(kernel).shortest_loop("HGMMA")
    waits = [n for n, opcode in enumerate(step.opcodes) if opcode.startswith("WARPGROUP.DEPBAR")]
    assert [re.findall(r"0x\w+", step.operands[n])[-1] for n in waits] == ["0x1", "0x0"]
    assert all(n < waits[0] for n, opcode in enumerate(step.opcodes) if opcode.startswith("HGMMA"))
    exponentials = [n for n, opcode in enumerate(step.opcodes) if opcode == "MUFU.EX2"]
    assert len(exponentials) >= 64 and all(waits[0] < n < waits[1] for n in exponentials)
