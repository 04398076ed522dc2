"""Convolution of sparse points: each output point meets, for every filter point, at most one input point.

    sparse_keys   key[i] = the place of {v: map[v, i] >= 0} in the sequence of sets that differ in one point at a time
    sparse_lists  live[t] = the filter points that any of the rows perm[64 t .. 64 t + 63] meets, their count first
    sparse_conv   y[i, k] = relu(scale[k] sum_{v, c} x[map[v, i], c] w[v, c, k] + res[i, k])   over the v with a point

``map[v, i]`` is the input row that output row i meets at filter point v, negative where there is none.

Rows that meet the same filter points are best taken together: ``perm`` is an order of the rows, and ``live`` lists, for
each 64 rows in that order, the filter points that any of them meets. Both may be absent and change no result. They
are made of the map alone, once for all layers that share it: ``sparse_keys``, ``radix_sort`` of the keys with the
numbers of the rows, whose values are ``perm``, and ``sparse_lists``.
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


@te.algorithm("map: i32[V, N] -> key: u32[N]", require=["V <= 32"])
def sparse_keys(map, key):
    """Sort keys of rows: the rank in Gray code of the set of filter points that a row meets."""
    i, v = te.axes(i="N", v="V")
    bits = te.func("bits")
    bits[i] = te.reduce("or", te.u32(1) << v, over=v, where=map[v, i] >= 0)
    rank = bits[i]
    for shift in (1, 2, 4, 8, 16):
        rank = rank ^ (rank >> shift)
    key[i] = rank


@te.algorithm(
    "map: i32[V, N], perm: i32[N] permutation(N) -> live: i32[NT, V + 1]", dims=dict(NT="ceil(N / 64)")
)
def sparse_lists(map, perm, live):
    """The filter points that the rows of each tile meet: how many, and they in ascending order; then zeros."""
    t, q, v, s = te.axes(t="NT", q=64, v="V", s="V + 1")
    there, number, point = te.funcs("there number point", "i32")
    row = t * 64 + q
    there[t, v] = te.where(te.any(map[v, perm[row]] >= 0, over=q, where=row < te.dim("N")), te.i32(1), te.i32(0))
    number[t, v] = te.scan("+", there[t, v], along=v)
    point[t, s] = te.sum(v.to("i32"), over=v, where=(there[t, v] != 0) & (number[t, v] == s))
    live[t, s] = te.where(s == 0, te.sum(there[t, v], over=v), point[t, s])
