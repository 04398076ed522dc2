# expect: TX0147
# try: te.ptx(
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = te.ptx("abs.f32 $0, $1;", x[i], dtype="f32", reference=abs, constraints="f,f")  # here
