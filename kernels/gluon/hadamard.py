"""The fast Walsh-Hadamard transform of lines that each lie in one warp, element k in lane k % 32."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.constexpr_function
def _exchange(distance):
    return f"shfl.sync.bfly.b32 $0, $1, {distance}, 0x1f, 0xffffffff;"


@gluon.jit
def hadamard(x):
    """The sum over h of (-1) ** popcount(h & k) * x[h], for every k: a butterfly for every bit of k. The elements that
    differ in one of the lower five bits are in other lanes, those that differ in a higher one in the same thread."""
    rows: gl.constexpr = x.shape[0]
    n: gl.constexpr = x.shape[1]
    column = gl.arange(0, n, gl.SliceLayout(0, x.type.layout))[None, :]
    for bit in gl.static_range(5):
        if 1 << bit < n:
            other = gl.inline_asm_elementwise(
                _exchange(1 << bit), "=f,f", [x], dtype=gl.float32, is_pure=True, pack=1
            )
            x = gl.where((column >> bit) & 1 != 0, other - x, x + other)
    for bit in gl.static_range(5, 13):
        if 1 << bit < n:
            pairs = gl.permute(gl.reshape(x, [rows, n >> (bit + 1), 2, 1 << bit]), (0, 1, 3, 2))
            low, high = gl.split(pairs)
            pairs = gl.permute(gl.join(low + high, low - high), (0, 1, 3, 2))
            x = gl.convert_layout(gl.reshape(pairs, [rows, n]), x.type.layout, assert_trivial=True)
    return x
