# expect: TX015C
# try: v[i], a[i]
import texpr as te


@te.algorithm("x: f32[N, N] -> v: f32[N], a: i32[N]")
def bad(x, v, a):
    i, j, k = te.axes(i="N", j="N", k="N")
    v[i], a[k] = te.argmax(x[i, j], over=j)  # here
