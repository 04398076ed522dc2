# expect: TX0115
# try: 0 to 0
import texpr as te


@te.algorithm("x: u4[N] packed(1) -> y: u8[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i].to("u8")
