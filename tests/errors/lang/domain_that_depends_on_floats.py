# expect: TX0115
# try: i32 for it
import texpr as te


@te.algorithm("x: i32[N] in [0, N) where i < n[i], n: f32[N] -> y: i32[N]")  # here
def bad(x, n, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
