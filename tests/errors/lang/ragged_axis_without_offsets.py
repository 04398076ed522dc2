# expect: TX0164
# try: offsets(M)
import texpr as te


@te.algorithm("x: f32[Z], off: i32[R + 1] in [0, Z] -> y: f32[R]")
def bad(x, off, y):
    (r,) = te.axes(r="R")
    p = te.ragged("p", off, r)  # here
    y[r] = te.sum(x[p], over=p)
