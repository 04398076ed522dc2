# expect: TX0134
# try: x[., (., .)]
import texpr as te


@te.algorithm("x: f32[N, (G, C)] -> y: f32[N]")
def bad(x, y):
    n, g, c = te.axes(n="N", g="G", c="C")
    y[n] = te.sum(x[n, g, c], over=(g, c))  # here
