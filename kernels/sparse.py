"""Convolution of sparse points: each output point meets, for every filter point, at most one input point.

    sparse_conv   y[i, k] = relu(scale[k] sum_{v, c} x[map[v, i], c] w[v, c, k] + res[i, k])   over the v with a point

``map[v, i]`` is the input row that output row i meets at filter point v, negative where there is none.
"""

import texpr as te


@te.algorithm(
    "x: T[P, C], w: T[V, C, K], map: i32[V, N] in [-1, P), scale: f32[K]?, res: T[N, K]? -> y: T[N, K]",
    T=("f16", "bf16"),
)
def sparse_conv(x, w, map, scale, res, y):
    """A sparse convolution given its map, with scale, residual and relu."""
    i, v, c, k = te.axes(i="N", v="V", c="C", k="K")
    acc = te.func("acc")
    acc[i, k] = te.sum(x[map[v, i], c] * w[v, c, k], over=(v, c), where=map[v, i] >= 0)
    y[i, k] = te.relu(acc[i, k] * scale.get(k, 1) + res.get((i, k), 0))
