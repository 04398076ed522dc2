# expect: TX0171
# try: require
import texpr as te


@te.algorithm("x: f32[M], z: f32[N] -> y: f32[N]")
def bad(x, z, y):
    (i,) = te.axes(i="N")
    y[i] = x[i] + z[i]  # here
