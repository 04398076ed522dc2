# expect: TX0115
# try: drop 'finite'
import texpr as te


@te.algorithm("x: i32[N] finite -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
