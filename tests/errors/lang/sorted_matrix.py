# expect: TX0115
# try: x: i32[N] sorted
import texpr as te


@te.algorithm("x: i32[N, N] sorted -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
