"""Stencils on images.

    blur    a 3 x 3 box filter in two passes, each rounded down to whole grey levels; edges are repeated
"""

import texpr as te


@te.algorithm("x: u8[H, W] -> y: u8[H, W]")
def blur(x, y):
    """Horizontal then vertical mean of three, in integers."""
    i, j, r = te.axes(i="H", j="W", r=3)
    bx = te.func("bx", "u16")
    bx[i, j] = te.sum(x.clamped()[i, j + r - 1].to("u16"), over=r) // 3
    y[i, j] = (te.sum(bx.clamped()[i + r - 1, j], over=r) // 3).to("u8")
