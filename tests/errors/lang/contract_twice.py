# expect: TX0101
# try: inputs, then
import texpr as te


@te.algorithm("x: i32[N] unique unique -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
