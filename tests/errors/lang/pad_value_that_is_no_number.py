# expect: TX0172
# try: Python number
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x.padded(x[i])[i]  # here
