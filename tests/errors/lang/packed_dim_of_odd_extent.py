# expect: TX0115
# try: 8
import texpr as te


@te.algorithm("x: u4[7] packed(0), z: u8[N] -> y: u8[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i].to("u8")
