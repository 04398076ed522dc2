# expect: TX0161
# try: a value over j
import texpr as te


@te.algorithm("x: i32[M, N] -> y: i32[M, N]")
def bad(x, y):
    i, j, r = te.axes(i="M", j="N", r="N")
    y[i, r] = te.sort(x[i, j] + r, over=j, into=r)  # here
