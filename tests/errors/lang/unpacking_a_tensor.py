# expect: TX0139
# try: axes
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    a, b = x  # here
    y[i] = a + b
