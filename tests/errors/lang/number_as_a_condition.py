# expect: TX0144
# try: != 0
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = te.where(x[i], 1, 0)  # here
