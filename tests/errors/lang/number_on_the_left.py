# expect: TX0151
# try: te.where
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[0] = x[i]  # here
