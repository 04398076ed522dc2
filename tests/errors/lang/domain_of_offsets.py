# expect: TX0115
# try: drop 'sorted'
import texpr as te


@te.algorithm("x: i32[N] in [0, N) sorted where i < 4 -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
