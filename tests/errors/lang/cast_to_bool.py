# expect: TX0145
# try: != 0
import texpr as te


@te.algorithm("x: i32[N] -> y: bool[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i].to("bool")  # here
