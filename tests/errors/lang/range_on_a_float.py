# expect: TX0115
# try: drop the range
import texpr as te


@te.algorithm("x: f32[N] in [0, 4) -> y: f32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
