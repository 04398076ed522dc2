# expect: TX0148
# try: its signature is 'x: i32[N] -> y: i32[N]'
import numpy as np

import texpr as te

total = te.extern("total", "x: i32[N] -> y: i32[N]", reference=np.cumsum, exact=True)


@te.algorithm("x: u32[N] -> y: i32[N]")
def bad(x, y):
    total(x, out=y)  # here
