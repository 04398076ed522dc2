# expect: TX0158
# try: y[<N>] = ...
import texpr as te


@te.algorithm("x: f32[N] -> y: f32[N]")  # here
def bad(x, y):
    pass
