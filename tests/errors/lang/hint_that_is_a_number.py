# expect: TX0115
# try: drop 'hint'
import texpr as te


@te.algorithm("x: i32[N], n: hint i32 -> y: i32[N]")  # here
def bad(x, n, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
