# expect: TX0115
# try: y: f32[]
import texpr as te


@te.algorithm("x: f32[N] -> y: f32")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
