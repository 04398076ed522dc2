# expect: TX011A
# try: define count first
import texpr as te


@te.algorithm("x: f32[M] -> count: i32[], y: f32[N]", dims=dict(N="count[] <= M"))
def bad(x, count, y):
    i, n = te.axes(i="M", n="N")
    y[n] = x[n]  # here
    count[()] = te.sum(te.where(x[i] > 0, te.i32(1), 0), over=i)
