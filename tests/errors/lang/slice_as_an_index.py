# expect: TX0135
# try: axis
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i] = x[i, :] + x[i, j]  # here
