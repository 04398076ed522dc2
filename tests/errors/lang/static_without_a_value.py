# expect: TX0121
# try: statics={'D': 64}
import texpr as te


@te.algorithm("x: f32[D] -> y: f32[D]", static=["D"])  # here
def bad(x, y):
    (i,) = te.axes(i="D")
    y[i] = x[i]
