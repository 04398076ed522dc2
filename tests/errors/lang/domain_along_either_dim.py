# expect: TX0115
# try: where [i, j]: i < 4
import texpr as te


@te.algorithm("x: i32[N, M] in [0, N) where i < 4 -> y: i32[N, M]")  # here
def bad(x, y):
    i, j = te.axes(i="N", j="M")
    y[i, j] = x[i, j]
