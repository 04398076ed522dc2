# expect: TX0132
# try: R
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]", static=dict(R=3))  # here
def bad(x, y, *, S):
    (i,) = te.axes(i="N")
    y[i] = x[i]
