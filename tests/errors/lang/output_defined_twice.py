# expect: TX0155
# try: te.where
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
    y[i] = x[i] + 1  # here
