"""Sorting arrays of any length.

    radix_sort   k4, v4 = the pairs (k0[i], v0[i]) in ascending order of the key, equal keys in the order they had. Four
                 stable passes, each by 8 bits of the key's word (the number whose unsigned order is the keys': the sign
                 bit flipped, all bits of negative floats), the lowest first: so -0.0 comes before 0.0, NaN last (with
                 its sign set: first).
"""

import numpy as np

import texpr as te


def _bits(key):
    """The 32 bits of a float."""
    return te.ptx(
        "mov.b32 $0, $1;", key, dtype="u32", reference=lambda values: np.asarray(values, np.float32).view(np.uint32)
    )


def _word(key):
    kind = te.type("K")
    if kind is te.DType.F32:
        bits = _bits(key)
        return te.where(bits >> 31 != 0, ~bits, bits ^ 0x80000000)
    return key if kind is te.DType.U32 else key.to("u32") ^ 0x80000000


@te.algorithm("k0: K[N], v0: u32[N] -> k4: K[N], v4: u32[N]", K=("u32", "i32", "f32"), require=["N < 1073741824"])
def radix_sort(k0, v0, k4, v4):
    """Sort pairs by key."""
    i, r, d, b = te.axes(i="N", r="N", d=4, b=256)
    counts = te.func("counts", "u32")
    counts[d, b] = te.sum(te.u32(1), over=i, where=((_word(k0[i]) >> (8 * d).to("u32")) & 255) == b.to("u32"))
    keys, values = k0, v0
    for t in range(4):
        order = te.func(f"p{t + 1}", "i32")
        next_keys, next_values = k4, v4
        if t < 3:
            next_keys, next_values = te.func(f"k{t + 1}", te.type("K")), te.func(f"v{t + 1}", "u32")
        order[r] = te.argsort((_word(keys[i]) >> (8 * t)) & 255, over=i, into=r)
        next_keys[r] = keys.clamped()[order[r]]
        next_values[r] = values.clamped()[order[r]]
        keys, values = next_keys, next_values
