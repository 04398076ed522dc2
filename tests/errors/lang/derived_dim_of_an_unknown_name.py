# expect: TX0116
# try: N
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[P]", dims=dict(P="H // 2"))  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
