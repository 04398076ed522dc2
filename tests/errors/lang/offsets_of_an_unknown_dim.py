# expect: TX0112
# try: N
import texpr as te


@te.algorithm("x: i32[N + 1] offsets(Z) -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
