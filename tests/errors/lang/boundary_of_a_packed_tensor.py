# expect: TX0102
# try: te.where
import texpr as te


@te.algorithm("x: u4[N] packed(0) -> y: u8[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x.clamped()[i + 1]  # here
