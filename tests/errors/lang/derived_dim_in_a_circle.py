# expect: TX0116
# try: derived dim
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[P]", dims=dict(P="Q + 1", Q="P - 1"))  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
