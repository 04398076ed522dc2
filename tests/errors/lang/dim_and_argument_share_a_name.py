# expect: TX0114
# try: another name
import texpr as te


@te.algorithm("N: f32[N] -> y: f32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
