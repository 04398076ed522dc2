# expect: TX0115
# try: permutation(N)
import texpr as te


@te.algorithm("x: i32[N] permutation(N + 1) -> y: i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
