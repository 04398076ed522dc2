# expect: TX015A
# try: over=j
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i] = x[i, j]  # here
