# expect: TX0163
# try: identity
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    product = te.monoid(lambda p, q: p * q, identity=0.0)  # here
    y[i] = te.reduce(product, x[i, j], over=j)
