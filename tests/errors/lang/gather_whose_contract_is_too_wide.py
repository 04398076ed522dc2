# expect: TX0171
# try: guard
import texpr as te


@te.algorithm("x: f32[P], map: i32[N] in [-1, P) -> y: f32[N]")
def bad(x, map, y):
    (i,) = te.axes(i="N")
    y[i] = x[map[i]]  # here
