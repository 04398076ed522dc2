# expect: TX0142
# try: .to('f32')
import texpr as te


@te.algorithm("a: i32[N] -> y: f32[N]")
def bad(a, y):
    (i,) = te.axes(i="N")
    y[i] = te.exp(a[i])  # here
