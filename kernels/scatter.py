"""Reductions by key: what is added up where data says.

    histogram     h[b] = number of i with x[i] = b
    segment_sum   y[s, c] = sum of v[i, c] over the i with seg[i] = s
    scatter_mean  mean[v, c] = mean of f[i, c] over the i with vox[i] = v, 0 where there is none

Keys outside of the range contribute nowhere. Float sums by atomic operations come in any order, and their schedules say
so, or every program takes a part of the points in order, as for ``segment_sum``.
"""

import texpr as te


@te.algorithm("x: T[N] -> h: u32[NB]", T=("u8", "i16"), static=dict(NB=256))
def histogram(x, h):
    """How often every value occurs."""
    i, b = te.axes(i="N", b="NB")
    h[b] = te.sum(te.u32(1), over=i, where=x[i] == b)


@te.algorithm("v: T[N, C], seg: i32[N] in [-1, S), like: T[S] -> y: T[S, C]", T=("f32", "i32"))
def segment_sum(v, seg, like, y):
    """The sum of the rows of each segment; of ``like`` only the length matters."""
    i, s, c = te.axes(i="N", s="S", c="C")
    y[s, c] = te.sum(v[i, c], over=i, where=seg[i] == s)


@te.algorithm("vox: i32[N] in [-1, V), f: f32[N, C], like: f32[V] -> mean: f32[V, C]")
def scatter_mean(vox, f, like, mean):
    """The mean of the rows of each voxel; of ``like`` only the length matters."""
    i, v, c = te.axes(i="N", v="V", c="C")
    s = te.func("s")
    n = te.func("n", "i32")
    s[v, c] = te.sum(f[i, c], over=i, where=vox[i] == v)
    n[v] = te.sum(te.i32(1), over=i, where=vox[i] == v)
    mean[v, c] = te.where(n[v] > 0, s[v, c] / te.maximum(n[v], 1).to("f32"), 0.0)
