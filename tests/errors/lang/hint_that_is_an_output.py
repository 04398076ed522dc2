# expect: TX0115
# try: drop 'hint'
import texpr as te


@te.algorithm("x: i32[N] -> y: hint i32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
