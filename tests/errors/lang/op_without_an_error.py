# expect: TX014B
# try: exact=True, or ulps=1
import numpy as np

import texpr as te

twice = te.op("twice", "add.u32 $0, $1, $1;", operands=["u32"], dtype="u32", reference=np.add)  # here
