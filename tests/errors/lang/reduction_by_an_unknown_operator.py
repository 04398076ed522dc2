# expect: TX0162
# try: te.monoid
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i] = te.reduce("avg", x[i, j], over=j)  # here
