# expect: TX015A
# try: put it on the left
import texpr as te


@te.algorithm("x: i32[M, N] -> y: i32[M, N]")
def bad(x, y):
    i, j, k, r = te.axes(i="M", j="N", k="N", r="N")
    y[i, j] = te.sort(x[i, j], over=k, into=r)  # here
