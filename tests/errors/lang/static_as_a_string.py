# expect: TX0115
# try: static=['D']
import texpr as te


@te.algorithm("x: f32[D] -> y: f32[D]", static="D")  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
