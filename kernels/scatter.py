"""Reductions by key: what is added up where data says.

    histogram     h[b] = number of i with x[i] = b
    segment_sum   y[s, c] = sum of v[i, c] over the i with seg[i] = s
    scatter_mean  mean[v, c] = mean of f[i, c] over the i with vox[i] = v, 0 where there is none
    compact       y = the x[i] above a bound, in order; how many there are stays on the device
    voxelize_mean mean[n, c] = mean of f[i, c] over the points in the n-th voxel that has any

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


@te.algorithm("x: f32[M], low: f32 -> count: i32[], at: i32[N], y: f32[N]", dims=dict(N="count[] <= M"))
def compact(x, low, count, at, y):
    """The elements above ``low`` and their positions, in order; how many there are, only the device knows."""
    i, k, n = te.axes(i="M", k="M", n="N")
    rank = te.func("rank", "i32")
    found = te.func("found", "i32")
    kept = te.where(x[i] > low, te.i32(1), 0)
    rank[i] = te.scan("+", kept, along=i, exclusive=True)
    count[()] = te.sum(kept, over=i)
    found[k] = te.max(i.to("i32"), over=i, where=(rank[i] == k) & (x[i] > low))
    at[n] = found[n]
    y[n] = x.clamped()[found[n]]


@te.algorithm(
    "p: f32[P, 3], f: f32[P, C], low: f32[3], size: f32[3] -> count: i32[], cell: i32[N], num: i32[N], mean: f32[N, C]",
    static=dict(X=8, Y=8, Z=4, CAP=64),
    dims=dict(N="count[] <= CAP"),
)
def voxelize_mean(p, f, low, size, count, cell, num, mean, *, X, Y, Z, CAP):
    """The mean of the rows of ``f`` of the points in each voxel that has any, in the order of voxels, with the voxel's
    number and how many points it has. Voxels lie in a box of X x Y x Z of them from ``low`` on; points outside of it
    are in none. There is room for ``CAP`` voxels: those after it are left out."""
    i, c, v, k, n = te.axes(i="P", c="C", v=X * Y * Z, k=CAP, n="N")
    inside, total, slot, first = te.funcs("inside total slot first", "i32")
    sums = te.func("sums")
    x, y, z = (te.floor((p[i, a] - low[a]) / size[a]) for a in range(3))
    in_box = (x >= 0) & (x < X) & (y >= 0) & (y < Y) & (z >= 0) & (z < Z)
    inside[i] = te.where(in_box, (z.to("i32") * Y + y.to("i32")) * X + x.to("i32"), -1)
    total[v] = te.sum(te.i32(1), over=i, where=inside[i] == v)
    used = te.where(total[v] > 0, te.i32(1), 0)
    slot[v] = te.scan("+", used, along=v, exclusive=True)
    count[()] = te.sum(used, over=v)
    first[k] = te.max(v.to("i32"), over=v, where=(slot[v] == k) & (total[v] > 0))
    sums[k, c] = te.sum(f[i, c], over=i, where=(slot.clamped()[inside[i]] == k) & (inside[i] >= 0))
    cell[n] = first[n]
    num[n] = total.clamped()[first[n]]
    mean[n, c] = sums[n, c] / te.maximum(total.clamped()[first[n]], 1).to("f32")
