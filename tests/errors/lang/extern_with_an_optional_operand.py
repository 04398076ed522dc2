# expect: TX0148
# try: its signature is
import numpy as np

import texpr as te

total = te.extern("total", "x: f32[N]? -> y: f32[N]", reference=np.cumsum, ulps=2)  # here
