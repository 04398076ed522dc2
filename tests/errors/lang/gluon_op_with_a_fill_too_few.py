# expect: TX014A
# try: its signature is
import numpy as np

import texpr as te

FILE = "../../integration/tile_functions.py"
KINDS = "x: f32[i, j], s: f32[i], w: f32[j] -> y: f32[i, j]"
below = te.gluon_op(f"{FILE}:below_the_top", KINDS, reference=np.sort, ulps=1, fill={"x": 0})  # here
