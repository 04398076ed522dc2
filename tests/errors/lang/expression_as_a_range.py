# expect: TX0146
# try: te.axes
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = sum(x[k] for k in range(te.dim("N")))  # here
