# expect: TX0163
# try: associative
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    difference = te.monoid(lambda p, q: p - q, identity=0.0)  # here
    y[i] = te.reduce(difference, x[i, j], over=j)
