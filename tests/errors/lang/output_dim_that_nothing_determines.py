# expect: TX0113
# try: dims=dict(B='...')
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N, B]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
