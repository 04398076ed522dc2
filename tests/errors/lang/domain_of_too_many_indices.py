# expect: TX0112
# try: one of: N
import texpr as te


@te.algorithm("x: i32[N] in [0, N) where i < j -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
