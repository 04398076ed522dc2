"""What schedules with mistakes name as hand-written kernels."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def invert_by_hand(x, y, M, N, scale):
    at = gl.program_id(0) * 128 + gl.arange(0, 128, gl.BlockedLayout([1], [32], [4], [0]))
    gl.store(y + at, -gl.load(x + at, mask=at < M * N) * scale, mask=at < M * N)


@gluon.jit
def keeps_it(x, M):
    pass


def plain(x, y):
    pass


@gluon.jit
def with_defaults(x, y, M=1):
    pass
