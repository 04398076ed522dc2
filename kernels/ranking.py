"""Sorting and selecting along rows, and sort keys of points.

    topk     the K largest elements of each row in descending order, and their positions (ties: the first; NaN counts as
             the greatest)
    zorder   code[i] = the bits of the three coordinates of point i, interleaved (bit 3 b + a is bit b of coordinate a):
             points near one another in space are near one another in the order of their codes (Morton, 1966)
"""

import texpr as te


@te.algorithm("x: T[M, N] -> val: T[M, K], idx: i32[M, K]", T=("f16", "bf16", "f32", "i32"), static=dict(K=8))
def topk(x, val, idx, *, K):
    """The K largest of each row; beyond N of them -inf (the least integer) and -1."""
    i, j, t = te.axes(i="M", j="N", t=K)
    val[i, t], idx[i, t] = te.topk(x[i, j], over=j, into=t)


@te.algorithm("xyz: u32[N, 3] -> code: u32[N]")
def zorder(xyz, code):
    """Of each coordinate the low 10 bits."""
    i, a = te.axes(i="N", a=3)
    s = te.func("s", "u32")
    spread = xyz[i, a] & 0x3FF
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        spread = (spread | (spread << shift)) & mask
    s[i, a] = spread << a.to("u32")
    code[i] = te.reduce("or", s[i, a], over=a)
