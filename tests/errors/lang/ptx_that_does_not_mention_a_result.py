# expect: TX0147
# try: te.ptx(
import texpr as te


@te.algorithm("x: u32[N] -> y: u32[N], z: u32[N]")
def bad(x, y, z):
    (i,) = te.axes(i="N")
    y[i], z[i] = te.ptx("not.b32 $0, $2;", x[i], dtype=("u32", "u32"), reference=lambda v: (~v, v))  # here
