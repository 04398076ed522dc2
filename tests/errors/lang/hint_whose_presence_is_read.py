# expect: TX013A
# try: name it in a schedule
import texpr as te


@te.algorithm("x: f32[N], perm: hint i32[N]? permutation(N) -> y: f32[N]")
def bad(x, perm, y):
    (i,) = te.axes(i="N")
    y[i] = te.where(te.present(perm), x[i], 0)  # here
