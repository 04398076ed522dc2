"""Gluon functions over tiles that ``test_gluon_op.py`` uses."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def _greater(a, b):
    return gl.where((a >= b) | (a != a), a, b)


@gluon.jit
def below_the_top(x, s, w):
    """(the running maximum of each line times its s) less w: rows, one number per row, one per element."""
    return gl.associative_scan(x, 1, _greater) * s[:, None] - w[None, :]


@gluon.jit
def butterfly(x, sign: gl.constexpr):
    """x[k] + sign * x[k ^ 1] along lines that each lie in one warp, element k in lane k % 32: a shuffle."""
    other = gl.inline_asm_elementwise(
        "shfl.sync.bfly.b32 $0, $1, 1, 31, 0xffffffff;", "=r,r", [x], dtype=x.dtype, is_pure=True, pack=1
    )
    return x + sign * other


@gluon.jit
def compacted(x, keep):
    """The kept elements of a line side by side, zeros after them, and how many stand before each place."""
    layout: gl.constexpr = x.type.layout
    flags = keep.to(gl.int32)
    before = gl.associative_scan(flags, 1, _plus) - flags
    count = gl.sum(flags, 1)
    places = gl.allocate_shared_memory(x.dtype, x.shape, gl.SwizzledSharedLayout(1, 1, 1, [1, 0]))
    at = gl.where(keep, before, x.shape[1] - 1 - (_column(x, layout) - before))
    places.scatter(x, at, 1)
    line = places.load(layout)
    return gl.where(_column(x, layout) < count[:, None], line, 0), before


@gluon.jit
def _plus(a, b):
    return a + b


@gluon.jit
def _column(x, layout: gl.constexpr):
    column = gl.arange(0, x.shape[1], gl.SliceLayout(0, layout))
    return gl.full(x.shape, 0, gl.int32, layout) + column[None, :]


@gluon.jit
def sorted_line(x):
    """A line of x in ascending order: a bitonic network in the registers of one thread would do as well."""
    n: gl.constexpr = x.shape[0]
    rank = gl.sum(_before(x, n).to(gl.int32), 0)
    line = gl.allocate_shared_memory(x.dtype, [n], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    line.scatter(x, gl.convert_layout(rank, x.type.layout), 0)
    return line.load(x.type.layout)


@gluon.jit
def _before(x, n: gl.constexpr):
    """[j, i]: whether x[j] comes before x[i], the lower position first among equals."""
    layout: gl.constexpr = gl.BlockedLayout([1, 1], [1, 32], [1, gl.num_warps()], [1, 0])
    down = gl.convert_layout(x, gl.SliceLayout(1, layout))[:, None]
    across = gl.convert_layout(x, gl.SliceLayout(0, layout))[None, :]
    j = gl.arange(0, n, gl.SliceLayout(1, layout))[:, None]
    i = gl.arange(0, n, gl.SliceLayout(0, layout))[None, :]
    return (down < across) | ((down == across) & (j < i))


@gluon.jit
def quantised(x):
    """x in steps of its line's largest magnitude / 127, that step, and whether the line has large numbers."""
    top = gl.max(gl.abs(x), 1)
    step = gl.where(top > 0, top / 127, 1.0)
    return gl.inline_asm_elementwise(
        "{ .reg .s32 n; cvt.rni.s32.f32 n, $1; cvt.sat.s8.s32 n, n; mov.b32 $0, n; }",
        "=r,f", [x / step[:, None]], dtype=gl.int32, is_pure=True, pack=1,
    ).to(gl.int8), step, (top > 100)  # fmt: skip


@gluon.jit
def extent_of(x):
    """How far the greatest and the least number of one line are apart."""
    return gl.max(x, 0) - gl.min(x, 0)
