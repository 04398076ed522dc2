# expect: TX0111
# try: did you mean 'Tx'
import texpr as te


@te.algorithm("x: TX[N] -> y: Tx[N]", Tx=("f16", "f32"))  # here
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
