# expect: TX0173
# try: require=['N >= 1']
import texpr as te


@te.algorithm("x: f32[N], z: f32[M] -> y: f32[M]")
def bad(x, z, y):
    (i,) = te.axes(i="M")
    y[i] = x.clamped()[i] + z[i]  # here
