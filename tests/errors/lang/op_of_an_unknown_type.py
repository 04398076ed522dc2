# expect: TX014B
# try: te.op('popcount'
import numpy as np

import texpr as te

twice = te.op("twice", "add.u32 $0, $1, $1;", operands=["word"], dtype="u32", reference=np.add, exact=True)  # here
