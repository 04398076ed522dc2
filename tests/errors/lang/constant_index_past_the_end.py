# expect: TX0171
# try: .padded(0)
import texpr as te


@te.algorithm("x: f32[N, 4] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i, 4]  # here
