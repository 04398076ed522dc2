# expect: TX0115
# try: .to('tf32')
import texpr as te


@te.algorithm("x: tf32[N] -> y: f32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
