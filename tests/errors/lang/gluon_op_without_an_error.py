# expect: TX0149
# try: exact=True, ulps=1, or error=
import numpy as np

import texpr as te

FILE = "../../integration/tile_functions.py"
sort = te.gluon_op(f"{FILE}:sorted_line", "x: f32[j] -> y: f32[j]", reference=np.sort)  # here
