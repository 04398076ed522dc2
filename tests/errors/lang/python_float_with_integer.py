# expect: TX0141
# try: .to('f32')
import texpr as te


@te.algorithm("a: i32[N] -> y: i32[N]")
def bad(a, y):
    (i,) = te.axes(i="N")
    y[i] = a[i] + 0.5  # here
