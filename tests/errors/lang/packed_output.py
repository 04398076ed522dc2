# expect: TX0115
# try: u8
import texpr as te


@te.algorithm("x: u8[N] -> y: u4[N] packed(0)")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i].to("u8")
