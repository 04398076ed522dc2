"""Convolution of sparse points: each output point meets, for every filter point, at most one input point.

    sparse_conv   y[i, k] = relu(scale[k] sum_{v, c} x[map[v, i], c] w[v, c, k] + res[i, k])   over the v with a point

``map[v, i]`` is the input row that output row i meets at filter point v, negative where there is none.

Rows that meet the same filter points are best taken together: ``perm`` is an order of the rows, and ``live`` lists, for
each 64 rows in that order, the filter points that any of them meets. Both may be absent and change no result.
"""

import texpr as te


@te.algorithm(
    "x: T[P, C], w: T[V, C, K], map: i32[V, N] in [-1, P), perm: hint i32[N]? permutation(N),"
    " live: hint i32[NT, V + 1]? lists(V), scale: f32[K]?, res: T[N, K]? -> y: T[N, K]",
    T=("f16", "bf16"),
    dims=dict(NT="ceil(N / 64)"),
)
def sparse_conv(x, w, map, perm, live, scale, res, y):
    """A sparse convolution given its map, with scale, residual and relu."""
    i, v, c, k = te.axes(i="N", v="V", c="C", k="K")
    acc = te.func("acc")
    acc[i, k] = te.sum(x[map[v, i], c] * w[v, c, k], over=(v, c), where=map[v, i] >= 0)
    y[i, k] = te.relu(acc[i, k] * scale.get(k, 1) + res.get((i, k), 0))
