# expect: TX0115
# try: a name of its own for the index
import texpr as te


@te.algorithm("x: i32[N] in [0, N) where N < 4 -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
