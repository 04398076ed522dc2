# expect: TX0171
# try: a guard
import texpr as te


@te.algorithm("x: f32[P], t: i32[N, 4] in [0, P) where [i, j]: j < 2 -> y: f32[N]")
def bad(x, t, y):
    i, j = te.axes(i="N", j=3)
    y[i] = te.sum(x[t[i, j]], over=j)  # here
