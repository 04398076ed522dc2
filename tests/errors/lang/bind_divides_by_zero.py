# expect: TX0121
# try: other statics
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[P]", static=dict(s=0), dims=dict(P="N // s"))  # here
def bad(x, y):
    (i,) = te.axes(i="P")
    y[i] = x.clamped()[i]
