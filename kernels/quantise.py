"""Numbers brought to 8 bits.

    hadamard_quantise   rotated = H x / sqrt(G) for every group of G elements of a row, H the Hadamard matrix;
                        scale = max |rotated| / 127 over the row's group; q = rotated / scale, rounded to a whole number

The rotation spreads outliers over their group, so that less is lost to rounding (QuaRot, arXiv 2404.00456). As a sum of
G products it is G multiply-adds an element; the butterflies of ``gluon/hadamard.py`` are log2(G) additions.
"""

import numpy as np

import texpr as te


def _transform(x):
    """The same by the definition of the matrix."""
    n = x.shape[1]
    ones = np.array([[bin(h & k).count("1") & 1 for k in range(n)] for h in range(n)])
    return x @ (1.0 - 2.0 * ones)


def _error(values, bounds):
    """Every addition of every butterfly rounds what is at most the sum of all magnitudes."""
    (x,), (off,) = values, bounds
    rounds = np.log2(x.shape[1]) * 2.0**-24
    total = np.abs(x).sum(1, keepdims=True) * rounds + off.sum(1, keepdims=True) * (1 + rounds)
    return np.broadcast_to(total, x.shape)


hadamard = te.gluon_op(
    "gluon/hadamard.py:hadamard",
    "x: f32[i, j] -> y: f32[i, j]",
    reference=_transform,
    error=_error,
    layout="line_in_warp",
)


@te.algorithm("x: T[M, (KG, G)] -> q: i8[M, (KG, G)], scale: f32[M, KG]", T=("f16", "bf16"), static=dict(G=128))
def hadamard_quantise(x, q, scale, *, G):
    """Rotate every group of G, a power of two, and quantise it by its largest element."""
    i, g, j = te.axes(i="M", g="KG", j="G")
    rotated, top = te.funcs("rotated top")
    rotated[i, g, j] = hadamard(x[i, (g, j)].to("f32"), along=j) * G**-0.5
    top[i, g] = te.max(te.maximum(rotated[i, g, j], -rotated[i, g, j]), over=j)
    scale[i, g] = top[i, g] * (1 / 127)
    steps = te.where(top[i, g] > 0, rotated[i, g, j] * (127.0 / top[i, g]), 0.0)
    q[i, (g, j)] = te.floor(steps + 0.5).to("i8")
