# expect: TX0132
# try: did you mean 'N'
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")
def bad(x, y):
    (i,) = te.axes(i="NN")  # here
    y[i] = x[i]
