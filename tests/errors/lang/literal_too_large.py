# expect: TX0143
# try: wider type
import texpr as te


@te.algorithm("x: u8[N] -> y: u8[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i] + 256  # here
