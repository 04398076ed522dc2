# expect: TX0163
# try: drop commutative=True
import texpr as te


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    left = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), commutative=True)  # here
    y[i], _ = te.reduce(left, (x[i, j], x[i, j]), over=j)
