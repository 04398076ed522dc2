# expect: TX0161
# try: a second axis
import texpr as te


@te.algorithm("x: i32[M, N] -> y: i32[M, N]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.sort(x[i, j], over=j, into=j)  # here
