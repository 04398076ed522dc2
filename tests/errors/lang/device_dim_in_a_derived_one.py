# expect: TX0116
# try: itself as the extent of an axis
import texpr as te


@te.algorithm("x: f32[N], count: i32[] -> y: f32[W]", dims=dict(N="count[] <= CAP", W="ceil(N / 32)"))  # here
def bad(x, count, y):
    (w,) = te.axes(w="W")
    y[w] = x[w * 32]
