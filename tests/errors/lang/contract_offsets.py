# expect: TX0102
# try: leave it out
import texpr as te


@te.algorithm("x: i32[N] offsets(M) -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
