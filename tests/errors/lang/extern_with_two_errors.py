# expect: TX0149
# try: exact=True, ulps=1, or error=
import numpy as np

import texpr as te

total = te.extern("total", "x: f32[N] -> y: f32[N]", reference=np.cumsum, exact=True, ulps=2)  # here
