# expect: TX0142
# try: cast it
import texpr as te


@te.algorithm("x: i32[M, N] -> y: i32[M, N]")
def bad(x, y):
    i, j, r = te.axes(i="M", j="N", r="N")
    y[i, r] = te.sort(x[i, j] > 0, over=j, into=r)  # here
