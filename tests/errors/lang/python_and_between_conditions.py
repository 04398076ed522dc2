# expect: TX0138
# try: &
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = te.where(x[i] > 0 and x[i] < 1, x[i], 0)  # here
