# expect: TX0164
# try: te.axes
import texpr as te


@te.algorithm("x: f32[Z], off: i32[R + 1] offsets(Z) -> y: f32[R]")
def bad(x, off, y):
    (r,) = te.axes(r="R")
    p = te.ragged("p", off, 0)  # here
    y[r] = te.sum(x[p], over=p)
