# expect: TX0161
# try: reset=
import texpr as te


@te.algorithm("x: f32[Z], off: i32[R + 1] offsets(Z) -> y: f32[Z]")
def bad(x, off, y):
    (r,) = te.axes(r="R")
    p = te.ragged("p", off, r)
    y[p] = te.scan("+", x[p], along=p)  # here
