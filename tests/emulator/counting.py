"""Runs small kernels whose lanes access memory at chosen offsets, with counters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.emulator.snippets import kernel
from texpr.emulator import Device, load_ptx
from texpr.emulator.counters import Counters, InstructionCounters

DECLARATIONS = """
.reg .b32 %t, %o, %s, %r<8>; .reg .b64 %in, %data, %at, %x<8>; .reg .b16 %h<8>; .reg .pred %p, %q;
"""
PROLOGUE = """
ld.param.u64 %in, [in]; ld.param.u64 %data, [data]; mov.u32 %t, %tid.x;
mad.wide.u32 %in, %t, 4, %in; ld.global.u32 %o, [%in];
cvt.u64.u32 %at, %o; add.s64 %at, %at, %data;
mov.u32 %s, buffer; add.u32 %s, %s, %o;
"""


def count(
    body: str, offsets: Sequence[int], *, programs: int = 1, device: Device | None = None, target: str = "sm_120a"
) -> Counters:
    """Counters of a kernel one of whose threads finds `offsets[thread]` in `%o`, that place of 64 KiB of global memory
    in `%at`, and that place of 32 KiB of shared memory in `%s`; its number is in `%t`."""
    device = device or Device(sm=120, checks=False, counters=True)
    given = device.alloc(4 * len(offsets), "in")
    device.write(given, np.array(offsets, np.uint32))
    data = device.alloc(1 << 16, "data")
    device.fill(data, 0, 1 << 16)
    text = kernel(
        PROLOGUE + body, ".param .u64 in, .param .u64 data", declarations=DECLARATIONS,
        module=".extern .shared .align 128 .b8 buffer[];", threads=len(offsets), target=target,
    )
    params = [given.to_bytes(8, "little"), data.to_bytes(8, "little")]
    stats = device.launch(load_ptx(text), "test", [programs], [len(offsets)], shared=1 << 15, params=params)
    assert stats.counters is not None
    return stats.counters


def find(counters: Counters, opcode: str) -> InstructionCounters:
    """The last instruction of an opcode."""
    return next(entry for entry in reversed(counters.instructions) if entry.site.opcode == opcode)
