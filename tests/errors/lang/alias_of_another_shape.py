# expect: TX0115
# try: dims of x
import texpr as te


@te.algorithm("x: f32[N, 2] -> y: f32[N] alias(x)")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
