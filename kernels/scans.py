"""Scans: every prefix along one axis.

    cumsum             y[i, j] = x[i, 0] + ... + x[i, j]
    cumsum_exclusive   y[i, j] = x[i, 0] + ... + x[i, j - 1], 0 for j = 0
    cumsum_reverse     y[i, j] = x[i, j] + ... + x[i, N - 1]
    segmented_scan     y[i] = the sum of x from the last start of a segment at or before i up to x[i]
    linear_recurrence  h[n, t, d] = a[n, t, d] h[n, t - 1, d] + b[n, t, d],  h[n, -1, d] = h0[n, d] (0 if it is absent)
    equalise           y[i] = 255 c[x[i]] // N,   c[v] = how many of x are at most v: a histogram, its scan, a table
"""

import texpr as te


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("i32", "i64", "f32"))
def cumsum(x, y):
    """Inclusive prefix sums of each row."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.scan("+", x[i, j], along=j)


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("i32", "i64", "f32"))
def cumsum_exclusive(x, y):
    """Prefix sums of each row without the element itself."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.scan("+", x[i, j], along=j, exclusive=True)


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("i32", "i64", "f32"))
def cumsum_reverse(x, y):
    """Suffix sums of each row."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.scan("+", x[i, j], along=j, reverse=True)


@te.algorithm("x: T[N], start: bool[N] -> y: T[N]", T=("i32", "i64", "f32"))
def segmented_scan(x, start, y):
    """Prefix sums of segments of any length, which begin where ``start`` is true."""
    (i,) = te.axes(i="N")
    y[i] = te.scan("+", x[i], along=i, reset=start[i])


@te.algorithm("a: f32[B, L, D], b: f32[B, L, D], h0: f32[B, D]? -> h: f32[B, L, D]")
def linear_recurrence(a, b, h0, h):
    """A first-order linear recurrence along L: the maps h -> a h + b, composed in order."""
    n, t, d = te.axes(n="B", t="L", d="D")
    factor, rest = te.funcs("factor rest")
    compose = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), name="compose")
    factor[n, t, d], rest[n, t, d] = te.scan(compose, (a[n, t, d], b[n, t, d]), along=t)
    h[n, t, d] = rest[n, t, d] + factor[n, t, d] * h0.get((n, d), 0)


@te.algorithm("x: u8[N] -> y: u8[N]")
def equalise(x, y):
    """Histogram equalisation: every value is replaced by its rank, in 255ths."""
    i, k, b = te.axes(i="N", k="N", b=256)
    count, upto = te.funcs("count upto")
    count[b] = te.sum(te.u32(1), over=k, where=x[k] == b)
    upto[b] = te.scan("+", count[b], along=b)
    y[i] = (upto[x[i].to("i32")].to("u64") * 255 // te.dim("N").to("u64")).to("u8")
