# expect: TX0133
# try: reserved
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (part,) = te.axes(part="N")  # here
    y[part] = x[part]
