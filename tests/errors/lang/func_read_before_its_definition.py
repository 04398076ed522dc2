# expect: TX0156
# try: move its definition up
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    a = te.func("a")
    y[i] = a[i]  # here
    a[i] = x[i]
