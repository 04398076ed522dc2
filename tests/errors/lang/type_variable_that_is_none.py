# expect: TX0132
# try: there are none
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i].to(te.type("T"))  # here
