# expect: TX011A
# try: did you mean 'counts'
import texpr as te


@te.algorithm("x: f32[N], counts: i32[] -> y: f32[N]", dims=dict(N="count[] <= CAP"))  # here
def bad(x, counts, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
