# expect: TX0153
# try: te.axes(j='M')
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[j] = te.max(x[i, j], over=i)  # here
