# expect: TX0161
# try: second axis
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = te.sum(x[i], over=i)  # here
