# expect: TX0115
# try: i32
import texpr as te


@te.algorithm("x: f32[N + 1] offsets(N) -> y: f32[N]")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
