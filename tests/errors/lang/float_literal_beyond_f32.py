# expect: TX0143
# try: float('inf')
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i] * 1e39  # here
