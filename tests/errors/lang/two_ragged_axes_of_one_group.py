# expect: TX015A
# try: reduce it
import texpr as te


@te.algorithm("x: f32[Z], s: f32[R], off: i32[R + 1] offsets(Z) -> y: f32[Z, Z]")
def bad(x, s, off, y):
    (r,) = te.axes(r="R")
    p, q = te.ragged("p", off, r), te.ragged("q", off, r)
    y[p, q] = x[p] * x[q] * s[r]  # here
