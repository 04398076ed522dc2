# expect: TX014B
# try: (...).to('u32')
import numpy as np

import texpr as te

twice = te.op("twice", "add.u32 $0, $1, $1;", operands=["u32"], dtype="u32", reference=np.add, exact=True)


@te.algorithm("x: i32[N] -> y: u32[N]")
def bad(x, y):
    (i,) = te.axes(i="N")
    y[i] = twice(x[i])  # here
