# expect: TX0152
# try: second axis
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N, N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i, i] = x[i]  # here
