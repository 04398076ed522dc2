# expect: TX0114
# try: another name
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    te.funcs("a a")  # here
    y[i] = x[i]
