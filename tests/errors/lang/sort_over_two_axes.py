# expect: TX0161
# try: over=j
import texpr as te


@te.algorithm("x: i32[M, N] -> y: i32[M, N]")
def bad(x, y):
    i, j, r = te.axes(i="M", j="N", r="N")
    y[i, j] = te.sort(x[i, j], over=(i, j), into=r)  # here
