# expect: TX0115
# try: a range of n that always holds
import texpr as te


@te.algorithm("x: i32[N] in [0, N) where i < n[i], n: i32[N] in [0, 4) where i < 2 -> y: i32[N]")  # here
def bad(x, n, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
