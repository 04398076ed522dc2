# expect: TX0115
# try: in [lo, hi) where
import texpr as te


@te.algorithm("x: i32[N] where i < 4 -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
