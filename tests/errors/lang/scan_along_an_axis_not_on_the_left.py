# expect: TX0161
# try: y[i, j] = te.scan(...)
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i] = te.scan("+", x[i, j], along=j)  # here
