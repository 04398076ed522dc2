# expect: TX0137
# try: b.get(
import texpr as te


@te.algorithm("x: f32[N], b: f32[N]? -> y: f32[N]")
def bad(x, b, y):
    (i,) = te.axes(i="N")
    y[i] = x[i] + b[i]  # here
