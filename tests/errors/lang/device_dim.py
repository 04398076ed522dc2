# expect: TX011A
# try: count: i32[]
import texpr as te


@te.algorithm("x: f32[N], count: i32[1] -> y: f32[N]", dims=dict(N="count[] <= CAP"))  # here
def bad(x, count, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
