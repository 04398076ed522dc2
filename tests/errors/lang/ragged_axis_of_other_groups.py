# expect: TX0164
# try: an axis of extent R
import texpr as te


@te.algorithm("x: f32[Z], off: i32[R + 1] offsets(Z) -> y: f32[Z]")
def bad(x, off, y):
    (r,) = te.axes(r="Z")
    p = te.ragged("p", off, r)  # here
    y[r] = te.sum(x[p], over=p)
