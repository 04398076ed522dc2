# expect: TX0171
# try: a guard
import texpr as te


@te.algorithm("x: f32[N], count: i32[] -> y: f32[CAP]", dims=dict(N="count[] <= CAP"))
def bad(x, count, y):
    (i,) = te.axes(i="CAP")
    y[i] = x[i]  # here
