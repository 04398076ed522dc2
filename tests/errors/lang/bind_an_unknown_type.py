# expect: TX0121
# try: T=f16
import texpr as te


@te.algorithm("x: T[N] -> y: T[N]", T=("f16", "bf16"))  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]


bad.bind({"T": "f32"})
