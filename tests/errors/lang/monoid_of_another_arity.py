# expect: TX0162
# try: tuple of 2
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    both = te.monoid(lambda p, q: (p[0] + q[0], p[1] + q[1]), identity=(0.0, 0.0))
    y[i] = te.reduce(both, x[i, j], over=j)  # here
