# expect: TX0142
# try: != 0
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i] = te.any(x[i, j], over=j)  # here
