# expect: TX0141
# try: neither holds the other
import texpr as te


@te.algorithm("a: i32[N], b: u32[N] -> y: i32[N]")
def bad(a, b, y):
    (i,) = te.axes(i="N")
    y[i] = a[i] + b[i]  # here
