# expect: TX0115
# try: comparisons of integers
import texpr as te


@te.algorithm("x: i32[N] in [0, N) where 1 -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
