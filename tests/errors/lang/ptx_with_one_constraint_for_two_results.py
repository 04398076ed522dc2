# expect: TX0147
# try: te.ptx(
import texpr as te


@te.algorithm("x: u32[N] -> y: u32[N], z: u32[N]")
def bad(x, y, z):
    (i,) = te.axes(i="N")
    copy = "mov.b32 $0, $2; mov.b32 $1, $2;"
    y[i], z[i] = te.ptx(copy, x[i], dtype=("u32", "u32"), constraints="=r,r,r", reference=lambda v: (v, v))  # here
