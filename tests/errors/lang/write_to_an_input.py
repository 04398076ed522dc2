# expect: TX0154
# try: after '->'
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    x[i] = 0.0  # here
