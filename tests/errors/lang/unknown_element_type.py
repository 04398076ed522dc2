# expect: TX0111
# try: f16
import texpr as te


@te.algorithm("x: half[N] -> y: f32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
