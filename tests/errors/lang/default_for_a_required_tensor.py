# expect: TX0137
# try: x[...]
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x.get(i, 0)  # here
