"""The instruction table as such: every row can be reached, unknown opcodes are not."""

from __future__ import annotations

import pytest

from texpr.emulator.isa import TABLE, find_row
from texpr.emulator.rows import Row, expansions


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.pattern)
def test_a_row_is_not_hidden_by_an_earlier_one(row: Row) -> None:
    assert any((found := find_row(opcode)) is not None and found[0] is row for opcode in expansions(row.pattern))


def test_patterns_are_not_repeated() -> None:
    patterns = [row.pattern for row in TABLE]
    assert len(set(patterns)) == len(patterns)


@pytest.mark.parametrize("opcode", [
    "add", "add.u8", "add.u32.u32", "addx.u32", "mul.u32", "cvt.f16.f32.f32", "ld", "ld.global", "ld.global.v3.b32",
    "mma.sync.aligned.m16n8k16.row.row.f32.f16.f16.f32", "wgmma.fence", "mbarrier.init.shared::cta.b32",
    "cp.async.bulk.tensor.6d.shared::cta.global.mbarrier::complete_tx::bytes", "tcgen05.alloc", "shfl.bfly.b32",
    "nosuch.thing",
])
def test_forms_that_do_not_exist_are_not_matched(opcode: str) -> None:
    assert find_row(opcode) is None


def test_modifiers_are_captured() -> None:
    found = find_row("fma.rz.ftz.sat.f32")
    assert found is not None
    _, modifiers = found
    assert (modifiers["rnd"], modifiers["type"], "ftz" in modifiers, "sat" in modifiers) == ("rz", "f32", True, True)
    found = find_row("ld.relaxed.gpu.global.L1::evict_last.v2.b32")
    assert found is not None
    assert found[1].bag("words") == ("relaxed", "gpu", "global", "L1::evict_last") and found[1]["vec"] == "v2"
