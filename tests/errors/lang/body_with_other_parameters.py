# expect: TX0117
# try: def bad(x, y)
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")  # here
def bad(x, z):
    (i,) = te.axes(i="N")
    z[i] = x[i]
