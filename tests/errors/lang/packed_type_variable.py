# expect: TX0102
# try: u4
import texpr as te


@te.algorithm("x: T[N] packed(0) -> y: u8[N]", T=("u4", "i4"))  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i].to("u8")
