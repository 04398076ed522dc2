"""A Gluon kernel that writes a tile to shared memory in one layout and reads it in another."""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def through_shared(
    x, y, ROWS: gl.constexpr, COLUMNS: gl.constexpr, WRITER: gl.constexpr, SHARED: gl.constexpr, READER: gl.constexpr,
    TURNED: gl.constexpr,
):  # fmt: skip
    i = gl.arange(0, ROWS, gl.SliceLayout(1, WRITER))
    j = gl.arange(0, COLUMNS, gl.SliceLayout(0, WRITER))
    values = gl.load(x + i[:, None] * COLUMNS + j[None, :])
    tile = gl.allocate_shared_memory(x.dtype.element_ty, [ROWS, COLUMNS], SHARED)
    tile.store(values)
    if TURNED:
        p = gl.arange(0, COLUMNS, gl.SliceLayout(1, READER))
        q = gl.arange(0, ROWS, gl.SliceLayout(0, READER))
        gl.store(y + p[:, None] * ROWS + q[None, :], tile.permute([1, 0]).load(READER))
    else:
        p = gl.arange(0, ROWS, gl.SliceLayout(1, READER))
        q = gl.arange(0, COLUMNS, gl.SliceLayout(0, READER))
        gl.store(y + p[:, None] * COLUMNS + q[None, :], tile.load(READER))
