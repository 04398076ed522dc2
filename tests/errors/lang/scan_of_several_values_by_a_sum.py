# expect: TX0162
# try: a te.monoid scans tuples
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = te.scan("+", (x[i], x[i]), along=i)  # here
