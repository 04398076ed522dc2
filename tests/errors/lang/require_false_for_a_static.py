# expect: TX0122
# try: other statics
import texpr as te


@te.algorithm("x: f32[N, D] -> y: f32[N]", static=dict(D=12), require=["D % 8 == 0"])  # here
def bad(x, y):
    i, j = te.axes(i="N", j="D")
    y[i] = te.sum(x[i, j], over=j)
