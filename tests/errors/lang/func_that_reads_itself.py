# expect: TX0157
# try: reduction
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    a = te.func("a")
    a[i] = a[i] + x[i]  # here
    y[i] = a[i]
