"""Integer instructions whose operands are constants; their semantics are in `conformance/integers.py`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import run_lanes


@pytest.mark.parametrize(("opcode", "expected"), [
    ("bfe.u32 %d, 0xABCD1234, 8, 8", 0x12), ("bfe.s32 %d, 0xABCD1234, 16, 12", 0xFFFF_FBCD),
    ("bfi.b32 %d, 0xFF, 0, 4, 8", 0xFF0), ("prmt.b32 %d, 0x33221100, 0x77665544, 0x7531", 0x77553311),
    ("lop3.b32 %d, 0xF0F0F0F0, 0xCCCCCCCC, 0xAAAAAAAA, 0x96", 0x96969696), ("popc.b32 %d, 0xFF00", 8),
    ("clz.b32 %d, 1", 31), ("brev.b32 %d, 1", 1 << 31), ("bfind.u32 %d, 16", 4), ("shl.b32 %d, 1, 5", 32),
    ("shf.l.wrap.b32 %d, 0x80000000, 1, 1", 3), ("shr.s32 %d, -8, 1", 0xFFFF_FFFC),
    ("mul.hi.u32 %d, 0x80000000, 6", 3), ("mul.hi.s32 %d, -2, 1", 0xFFFF_FFFF), ("div.s32 %d, -7, 2", 0xFFFF_FFFD),
    ("rem.s32 %d, -7, 2", 0xFFFF_FFFF), ("mad.lo.s32 %d, 3, 4, 5", 17), ("not.b32 %d, 0", 0xFFFF_FFFF),
    ("bmsk.clamp.b32 %d, 4, 4", 0xF0), ("szext.clamp.s32 %d, 0xF, 4", 0xFFFF_FFFF), ("sad.u32 %d, 3, 5, 1", 3),
    ("selp.b32 %d, 1, 2, 1", 1), ("set.lt.u32.s32 %d, -1, 0", 0xFFFF_FFFF), ("abs.s32 %d, -5", 5),
    ("dp4a.s32.s32 %d, 0x01020304, 0x01010101, 5", 15), ("mul24.lo.u32 %d, 3, 4", 12),
    ("cvt.sat.u8.s32 %d, 300", 255), ("cvt.pack.sat.u16.s32 %d, 1, 70000", 0x0001FFFF),
])
def test_operands_may_be_constants(opcode: str, expected: int) -> None:
    got = run_lanes(f"{opcode};", {"x": ("b32", np.zeros(2, np.uint32))}, {"d": "b32"})["d"]
    assert list(got) == [expected, expected]
