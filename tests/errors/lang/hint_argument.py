# expect: TX0102
# try: only change speed
import texpr as te


@te.algorithm("x: hint i32[N] -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
