# expect: TX0102
# try: host
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]", dims=dict(N="count[] <= CAP"))  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
