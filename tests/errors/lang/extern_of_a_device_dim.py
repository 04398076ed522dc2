# expect: TX0148
# try: its signature is
import numpy as np

import texpr as te

total = te.extern("total", "x: f32[N] -> s: f32[N]", reference=np.cumsum, ulps=64)


@te.algorithm("x: f32[N], count: i32[] -> y: f32[CAP]", dims=dict(N="count[] <= CAP"))
def bad(x, count, y):
    total(x, out=y)  # here
