# expect: TX0114
# try: another name
import texpr as te


@te.algorithm("x: f32[n] -> y: f32[n]")
def bad(x, y):
    (n,) = te.axes(n="n")  # here
    y[n] = x[n]
