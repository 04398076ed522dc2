# expect: TX0159
# try: delete
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    te.func("a")  # here
    y[i] = x[i]
