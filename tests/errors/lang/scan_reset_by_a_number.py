# expect: TX0144
# try: != 0
import texpr as te


@te.algorithm("x: f32[N], f: i32[N] -> y: f32[N]")
def bad(x, f, y):
    (i,) = te.axes(i="N")
    y[i] = te.scan("+", x[i], along=i, reset=f[i])  # here
