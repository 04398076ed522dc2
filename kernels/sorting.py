"""Sorting arrays of any length.

    radix_sort   keys, values = the pairs (k0[i], v0[i]) in ascending order of the key, equal keys in the order they
                 had. A stable pass for every 8 bits of the key's word (the number whose unsigned order is the keys':
                 the sign bit flipped, all bits of negative floats), the lowest first: so -0.0 comes before 0.0, NaN
                 last (with its sign set: first). Keys of 32 bits take four passes, those of 64 bits eight.
"""

import numpy as np

import texpr as te


def _bits(key):
    """The bits of a float as a number."""
    wide = te.type("K") is te.DType.F64
    size, number = (64, np.uint64) if wide else (32, np.uint32)
    float_type = np.float64 if wide else np.float32
    return te.ptx(
        f"mov.b{size} $0, $1;", key, dtype=f"u{size}", reference=lambda v: np.asarray(v, float_type).view(number)
    )


def _word(key):
    """The number of a key."""
    kind = te.type("K")
    word = _bits(key) if kind.is_float else key.to(f"u{kind.bits}")
    if kind in (te.DType.U32, te.DType.U64):
        return word
    flipped = word ^ (1 << kind.bits - 1)
    return te.where(word >> kind.bits - 1 != 0, ~word, flipped) if kind.is_float else flipped


@te.algorithm(
    "k0: K[N], v0: u32[N] -> keys: K[N], values: u32[N]",
    K=("u32", "i32", "f32", "u64", "i64", "f64"),
    require=["N < 1073741824"],
)
def radix_sort(k0, v0, keys, values):
    """Sort pairs by key."""
    passes = te.type("K").bits // 8
    i, r, d, b = te.axes(i="N", r="N", d=passes, b=256)
    counts = te.func("counts", "u32")
    digit = _word(k0[i]) >> (8 * d).to(f"u{8 * passes}")
    counts[d, b] = te.sum(te.u32(1), over=i, where=(digit & 255).to("u32") == b.to("u32"))
    before, carried = k0, v0
    for t in range(passes):
        order = te.func(f"p{t + 1}", "i32")
        after, moved = keys, values
        if t + 1 < passes:
            after, moved = te.func(f"k{t + 1}", te.type("K")), te.func(f"v{t + 1}", "u32")
        order[r] = te.argsort(((_word(before[i]) >> (8 * t)) & 255).to("u32"), over=i, into=r)
        after[r] = before.clamped()[order[r]]
        moved[r] = carried.clamped()[order[r]]
        before, carried = after, moved
