# expect: TX0115
# try: when:
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]", require=["aligned(x, 16)"])  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
