# expect: TX014A
# try: its signature is 'x: f32[j] -> y: f32[j]'
import numpy as np

import texpr as te

FILE = "../../integration/tile_functions.py"
sort = te.gluon_op("nowhere.py:sort", "x: f32[j] -> y: f32[j]", reference=np.sort, exact=True)  # here
