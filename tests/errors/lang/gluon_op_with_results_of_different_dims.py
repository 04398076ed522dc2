# expect: TX014A
# try: its signature is
import numpy as np

import texpr as te

FILE = "../../integration/tile_functions.py"
sort = te.gluon_op(f"{FILE}:sorted_line", "x: f32[i, j] -> y: f32[i, j], n: i32[j]", reference=np.sort, ulps=1)  # here
