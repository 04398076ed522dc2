# expect: TX0132
# try: f32
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    a = te.func("a", "float32")  # here
    a[i] = x[i]
    y[i] = a[i]
