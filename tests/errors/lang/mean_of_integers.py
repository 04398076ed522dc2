# expect: TX0142
# try: .to('f32')
import texpr as te


@te.algorithm("x: i32[M, N] -> y: f32[M]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i] = te.mean(x[i, j], over=j)  # here
