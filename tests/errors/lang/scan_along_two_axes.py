# expect: TX0161
# try: along=i, one axis
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M, N]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.scan("+", x[i, j], along=(i, j))  # here
