# expect: TX015B
# try: .to('i32')
import texpr as te


@te.algorithm("x: f32[N] -> y: i32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i] * 2  # here
