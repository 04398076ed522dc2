# expect: TX0101
# try: alias(x)
import texpr as te


@te.algorithm("x: i32[N] below 4 -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
