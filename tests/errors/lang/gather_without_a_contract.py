# expect: TX0171
# try: map: i32[...] in [0, P)
import texpr as te


@te.algorithm("x: f32[P], map: i32[N] -> y: f32[N]")
def bad(x, map, y):
    (i,) = te.axes(i="N")
    y[i] = x[map[i]]  # here
