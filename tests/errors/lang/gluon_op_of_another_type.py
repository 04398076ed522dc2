# expect: TX014A
# try: (...).to('f32')
import numpy as np

import texpr as te

SORT = "../../integration/tile_functions.py:sorted_line"
sort = te.gluon_op(SORT, "x: f32[j] -> y: f32[j]", reference=np.sort, exact=True)


@te.algorithm("x: f32[M, N] -> y: f32[M, N]")
def bad(x, y):
    i, j = te.axes(i="M", j="N")
    y[i, j] = sort(x[i, j].to("f16"), along=j)  # here
