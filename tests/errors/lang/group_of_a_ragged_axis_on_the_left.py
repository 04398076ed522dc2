# expect: TX0164
# try: without r
import texpr as te


@te.algorithm("x: f32[Z], off: i32[R + 1] offsets(Z) -> y: f32[R, Z]")
def bad(x, off, y):
    (r,) = te.axes(r="R")
    p = te.ragged("p", off, r)
    y[r, p] = x[p]  # here
