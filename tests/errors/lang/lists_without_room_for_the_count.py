# expect: TX0115
# try: i32[NT, V + 1] lists(V)
import texpr as te


@te.algorithm("x: i32[N], live: hint i32[N, V] lists(V) -> y: i32[N]")  # here
def bad(x, live, y):
    (i,) = te.axes(i="N")
    y[i] = x[i]
