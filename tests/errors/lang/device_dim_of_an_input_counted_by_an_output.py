# expect: TX011A
# try: M as the dim of w
import texpr as te


@te.algorithm("x: f32[M], w: f32[N] -> count: i32[], y: f32[N]", dims=dict(N="count[] <= M"))  # here
def bad(x, w, count, y):
    i, n = te.axes(i="M", n="N")
    count[()] = te.sum(te.where(x[i] > 0, te.i32(1), 0), over=i)
    y[n] = w[n]
