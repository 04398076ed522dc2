# expect: TX0101
# try: packed(0)
import texpr as te


@te.algorithm("x: u4[N] packed(N) -> y: u8[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i].to("u8")
