# expect: TX0135
# try: .to('i32')
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x.clamped()[x[i]]  # here
