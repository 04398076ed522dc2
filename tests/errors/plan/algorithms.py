"""The algorithms that the schedules with mistakes are for. Bodies are as small as the mistake allows."""

from __future__ import annotations

from typing import Any

import numpy as np

import texpr as te
from texpr.lang.algorithm import AlgorithmDef


@te.algorithm("x: T[M, K], w: T[K, N], b: T[N]? -> y: T[M, N]", T=("f16", "f32"), require=["K % 8 == 0", "N % 8 == 0"])
def linear(x: Any, w: Any, b: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc, scaled = te.funcs("acc scaled")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    scaled[i, j] = acc[i, j] * 0.5
    y[i, j] = te.relu(scaled[i, j] + b.get(j, 0))


@te.algorithm("x: f32[M, N] -> y: f32[M, N]")
def softmax(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    m, total = te.funcs("m total")
    m[i] = te.max(x[i, j], over=j)
    total[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    y[i, j] = te.exp(x[i, j] - m[i]) / total[i]


@te.algorithm("q: f16[M, D], k: f16[N, D], v: f16[N, D] -> o: f32[M, D]", require=["M >= 1", "N >= 1", "D == 64"])
def attended(q: Any, k: Any, v: Any, o: Any) -> None:
    """Two products with a softmax between them."""
    i, j, d, e = te.axes(i="M", j="N", d="D", e="D")
    s, m, p, total, u = te.funcs("s m p total u")
    s[i, j] = te.sum(q[i, d] * k[j, d], over=d)
    m[i] = te.max(s[i, j], over=j)
    p[i, j] = te.exp(s[i, j] - m[i])
    total[i] = te.sum(p[i, j], over=j)
    u[i, e] = te.sum(p[i, j].to("f16") * v[j, e], over=j)
    o[i, e] = u[i, e] / total[i]


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def chained(x: Any, y: Any) -> None:
    """Reductions that read earlier ones, in ways that one pass can and cannot follow."""
    i, j, k = te.axes(i="M", j="N", k="N")
    m, rounded, curved, odd, other = te.funcs("m rounded curved odd other")
    m[i] = te.max(x[i, j], over=j)
    rounded[i] = te.sum(te.exp(x[i, j] - m[i]).to("f16").to("f32"), over=j)
    curved[i] = te.sum(te.tanh(x[i, j] - m[i]), over=j)
    odd[i] = te.sum(te.exp(x[i, j] - m[i]), over=j, where=x[i, j] > 0)
    other[i] = te.sum(x[i, k], over=k)
    y[i] = rounded[i] + curved[i] + odd[i] + other[i]


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def deviation(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    mu = te.func("mu")
    mu[i] = te.mean(x[i, j], over=j)
    y[i] = te.mean((x[i, j] - mu[i]) ** 2, over=j)


@te.algorithm("x: f32[M, N] -> y: f32[M]")
def sum_rows(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i] = te.sum(x[i, j], over=j)


@te.algorithm("x: f32[M, N] -> y: f32[M, N], z: f32[M]")
def two_outputs(x: Any, y: Any, z: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 2
    z[i] = te.sum(x[i, j], over=j)


@te.algorithm("x: u8[M, N] -> y: u8[M, N]")
def invert(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = ~x[i, j]


@te.algorithm("x: f32[M, N] -> y: f32[M]", require=["M >= 1"])
def differences(x: Any, y: Any) -> None:
    """A reduction that is read at a neighbour."""
    i, j = te.axes(i="M", j="N")
    s = te.func("s")
    s[i] = te.sum(x[i, j], over=j)
    y[i] = s.clamped()[i + 1] - s[i]


@te.algorithm("x: f16[N] -> y: f16[N]")
def smooth(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = x.clamped()[i - 1] + x.clamped()[i] + x.clamped()[i + 1]


@te.algorithm("x: f32[M, K], w: f32[K, N]? -> y: f32[M, N]")
def ones(x: Any, w: Any, y: Any) -> None:
    """An operand that is one where it is not given."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k] * w.get((k, j), 1), over=k)


@te.algorithm("x: f32[N], s: f32[N]? -> y: f32[N]")
def pool(x: Any, s: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    low = x.padded(float("-inf"))
    y[i] = te.maximum(low[i - 1], low[i + 1]) * te.minimum(s.clamped().get(i, 1), s.clamped().get(i + 1, 2))


@te.algorithm("x: f32[N] -> y: f32[N]")
def overlapping(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = x.padded(0)[i - 1] + x.padded(0)[i + 1]


@te.algorithm("t: f32[M, M], b: f32[M, N] -> y: f32[M, N]")
def triangular(t: Any, b: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="M")
    acc = te.func("acc")
    acc[i, j] = te.sum(t[i, k] * b[k, j], over=k, where=k <= i)
    y[i, j] = acc[i, j]


@te.algorithm("a: i32[M, K], b: i32[K, N] -> y: i32[M, N]")
def integers(a: Any, b: Any, y: Any) -> None:
    """A sum of products whose type no matrix unit takes."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(a[i, k] * b[k, j], over=k)


@te.algorithm("a: i8[M, K], b: i8[K, N] -> y: i32[M, N]")
def bytes_product(a: Any, b: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(a[i, k].to("i32") * b[k, j].to("i32"), over=k)


@te.algorithm("x: f16[M, K], w: f16[K, N], v: f16[K, N] -> y: f16[M, N]")
def two_products(x: Any, w: Any, v: Any, y: Any) -> None:
    i, j, k, l = te.axes(i="M", j="N", k="K", l="K")  # noqa: E741
    first, second = te.funcs("first second")
    first[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    second[i, j] = te.sum(x[i, l] * v[l, j], over=l)
    y[i, j] = first[i, j] * second[i, j]


@te.algorithm("x: f16[M, K], w: i8[K, N] -> y: f16[M, N]")
def dequantised(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * (w[k, j].to("f32") * 0.5).to("f16"), over=k)
    y[i, j] = acc[i, j]


@te.algorithm("a: f32[M, K], b: f32[K, N] -> y: f32[M, N]")
def greatest(a: Any, b: Any, y: Any) -> None:
    """A maximum of products."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.max(a[i, k] * b[k, j], over=k)


@te.algorithm("a: f32[M, K], b: f32[M]? -> y: f32[M]")
def squares(a: Any, b: Any, y: Any) -> None:
    """A sum of products that vary together."""
    i, k = te.axes(i="M", k="K")
    y[i] = te.sum(a[i, k] * a[i, k], over=k)


@te.algorithm("x: f32[P, N], at: i32[M] in [0, P) -> y: f32[M, N]", require=["N >= 1"])
def gather(x: Any, at: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[at[i], j] + x[at[i], 0]


@te.algorithm("x: f32[N] -> y: f32[N] alias(x)")
def shift(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = x.clamped()[i + 1]


@te.algorithm("x: f32[M, N] -> y: f32[]")
def total(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[()] = te.sum(x[i, j], over=(i, j))


@te.algorithm("x: f32[M, 3], w: f32[3] -> y: f32[]")
def triples(x: Any, w: Any, y: Any) -> None:
    i, r = te.axes(i="M", r=3)
    y[()] = te.sum(x[i, r] * w[r], over=(i, r))


@te.algorithm("x: f16[M, K], w: f16[K, (2, N)] -> y: f16[M, N]")
def gates(x: Any, w: Any, y: Any) -> None:
    """Two products side by side, which meet in the end."""
    i, j, q, k = te.axes(i="M", j="N", q=2, k="K")
    acc = te.func("acc")
    acc[i, q, j] = te.sum(x[i, k] * w[k, (q, j)], over=k)
    y[i, j] = acc[i, 0, j] * acc[i, 1, j]


@te.algorithm("x: f16[M, K], w: f16[K, (2, N)] -> y: f16[M, (2, N)]")
def two_halves(x: Any, w: Any, y: Any) -> None:
    i, j, q, k = te.axes(i="M", j="N", q=2, k="K")
    acc = te.func("acc")
    acc[i, q, j] = te.sum(x[i, k] * w[k, (q, j)], over=k)
    y[i, (q, j)] = acc[i, q, j]


@te.algorithm("x: f32[M, K], w: f32[K, 4] -> y: f32[M]")
def few_columns(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j=4, k="K")
    s = te.func("s")
    s[i, j] = te.max(x[i, k] * w[k, j], over=k)
    y[i] = s[i, 0] + s[i, 3]


@te.algorithm("a: f32[M, N] -> h: f32[]")
def recurrence(a: Any, h: Any) -> None:
    """A monoid that does not commute, over two axes."""
    i, j = te.axes(i="M", j="N")
    affine = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), name="affine")
    _, h[()] = te.reduce(affine, (a[i, j], a[i, j]), over=(i, j))


@te.algorithm("x: f32[M, K], n: i32[M] -> y: f32[M]", static={"R": 4})
def guarded(x: Any, n: Any, y: Any) -> None:
    """Guards of every kind: a bound, a bound that depends on another reduced axis, phases, and one that bounds
    nothing."""
    i, k, r = te.axes(i="M", k="K", r="R")
    y[i] = te.sum(x[i, k], over=(k, r), where=(k < n[i]) & ((i - r) % 2 == 0) & (r + k < i) & (r * r != i))


@te.algorithm("x: f32[M, K], n: i32[M, K] -> y: f32[M]")
def by_element(x: Any, n: Any, y: Any) -> None:
    """The guard's bound depends on the reduced axis itself."""
    i, k = te.axes(i="M", k="K")
    y[i] = te.sum(x[i, k], over=k, where=k < n[i, k])


@te.algorithm("x: f32[M, K], n: i32[M, K] -> y: f32[M]")
def by_loop(x: Any, n: Any, y: Any) -> None:
    """The guard's bound is found in the loop itself."""
    i, k, l = te.axes(i="M", k="K", l="K")  # noqa: E741
    last = te.func("last")
    last[i] = te.max(n[i, l], over=l)
    y[i] = te.sum(x[i, k], over=k, where=k < last[i])


@te.algorithm("x: f32[M, K, L] -> y: f32[M]")
def two_triangles(x: Any, y: Any) -> None:
    i, k, l = te.axes(i="M", k="K", l="L")  # noqa: E741
    y[i] = te.sum(x[i, k, l], over=(k, l), where=(k <= i) & (l <= i))


@te.algorithm("x: f32[M, K], r: f32[4] -> y: f32[M]")
def diagonal(x: Any, r: Any, y: Any) -> None:
    """A guard on two reduced axes together."""
    i, k, l = te.axes(i="M", k="K", l=4)  # noqa: E741
    y[i] = te.sum(x[i, k] * r[l], over=(k, l), where=(k + l) % 3 == 1)


@te.algorithm("x: f32[M, K], w: f32[K, N], key: i32[K, M] -> acc: f32[M, N]")
def masked_product(x: Any, w: Any, key: Any, acc: Any) -> None:
    """A guard that bounds nothing."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k, where=key[k, i] > 0)


@te.algorithm(
    "x: f32[M, K], key: i32[K, M], order: hint i32[M]? permutation(M), columns: hint i32[K] permutation(K),"
    " live: hint i32[MT, K + 1]? lists(K), every: hint i32[MT, K + 1] lists(K), odd: hint i32[MT, 3]"
    " -> y: f32[M]"
)
def hinted(x: Any, key: Any, order: Any, columns: Any, live: Any, every: Any, odd: Any, y: Any) -> None:
    """Hints of every kind; a sum that is read at the next row."""
    i, k = te.axes(i="M", k="K")
    s = te.func("s")
    s[i] = te.sum(x[i, k], over=k, where=key[k, i] > 0)
    y[i] = s.padded(0)[i + 1]


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("f32", "f64"))
def sorted_rows(x: Any, y: Any) -> None:
    i, j, r = te.axes(i="M", j="N", r="N")
    y[i, r] = te.sort(x[i, j], over=j, into=r)


@te.algorithm("x: f32[M, K], w: f32[K, N] -> acc: f32[M, N]")
def lower_product(x: Any, w: Any, acc: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k, where=j <= i)


@te.algorithm("x: f32[M, 64] -> y: f32[M, 8]")
def sorted_some(x: Any, y: Any) -> None:
    i, j, r = te.axes(i="M", j=64, r=8)
    y[i, r] = te.sort(x[i, j], over=j, into=r, where=i > 3)


@te.algorithm("x: f32[M, N] -> y: f32[M, N], z: f32[M, N]")
def scans(x: Any, y: Any, z: Any) -> None:
    i, j = te.axes(i="M", j="N")
    s = te.func("s")
    s[i, j] = te.scan("+", x[i, j], along=j)
    y[i, j] = s[i, j] * 2.0
    z[i, j] = te.scan("+", x[i, j], along=j, reverse=True)


@te.algorithm("x: i64[N] -> y: i64[N], u: i64[N], v: i64[N]")
def totals(x: Any, y: Any, u: Any, v: Any) -> None:
    """A scan of three numbers, each of which fills a word."""
    (i,) = te.axes(i="N")
    three = te.monoid(lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)), identity=(0, 0, 0), name="three")
    y[i], u[i], v[i] = te.scan(three, (x[i], x[i] * x[i], -x[i]), along=i)


@te.algorithm("x: f32[M, K], on: i32[K], live: hint i32[MT, K + 1] lists(K) -> y: f32[M]")
def same_everywhere(x: Any, on: Any, live: Any, y: Any) -> None:
    i, k = te.axes(i="M", k="K")
    y[i] = te.sum(x[i, k], over=k, where=on[k] > 0)


@te.algorithm("x: f32[M, N], order: hint i32[N] permutation(N) -> y: f32[M, N]")
def scanned_rows(x: Any, order: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.scan("+", x[i, j], along=j)


@te.algorithm("key: i32[N], x: f32[N] -> y: f32[8]")
def by_key(key: Any, x: Any, y: Any) -> None:
    """Floats added up by key."""
    i, b = te.axes(i="N", b=8)
    y[b] = te.sum(x[i], over=i, where=key[i] == b)


@te.algorithm("key: i32[N], x: f32[N] -> y: i32[8], z: f32[N]")
def counted(key: Any, x: Any, y: Any, z: Any) -> None:
    """A count and something else; nothing reads it."""
    i, b = te.axes(i="N", b=8)
    y[b] = te.sum(te.i32(1), over=i, where=key[i] == b)
    z[i] = x[i] + 1.0


@te.algorithm("key: i32[N] -> y: i32[8], z: i32[8]")
def count_that_is_read(key: Any, y: Any, z: Any) -> None:
    i, b = te.axes(i="N", b=8)
    y[b] = te.sum(te.i32(1), over=i, where=key[i] == b)
    z[b] = y[b] + 1


@te.algorithm("key: i32[N] -> y: i32[8]")
def product_by_key(key: Any, y: Any) -> None:
    i, b = te.axes(i="N", b=8)
    y[b] = te.prod(key[i], over=i, where=key[i] == b)


@te.algorithm("key: i32[N] -> y: i64[8]")
def widened_by_key(key: Any, y: Any) -> None:
    i, b = te.axes(i="N", b=8)
    y[b] = te.sum(key[i], over=i, where=key[i] == b)


@te.algorithm("key: i32[N], x: f16[N] -> y: f16[8]")
def halves_by_key(key: Any, x: Any, y: Any) -> None:
    i, b = te.axes(i="N", b=8)
    y[b] = te.sum(x[i], over=i, where=key[i] == b)


@te.algorithm("key: i32[N], like: u8[B] -> y: i32[B]")
def below_key(key: Any, like: Any, y: Any) -> None:
    i, b = te.axes(i="N", b="B")
    y[b] = te.sum(key[i], over=i, where=key[i] <= b)


@te.algorithm("key: i32[N], like: u8[B] -> y: i32[B]")
def sized_by_key(key: Any, like: Any, y: Any) -> None:
    i, b = te.axes(i="N", b="B")
    y[b] = te.sum(key[i], over=i, where=key[i] == b)


@te.algorithm("x: f32[P], ptr: i32[M+1] offsets(P) -> y: f32[M]")
def early_points(x: Any, ptr: Any, y: Any) -> None:
    """A guard on a ragged axis."""
    (i,) = te.axes(i="M")
    p = te.ragged("p", ptr, i)
    y[i] = te.sum(x[p], over=p, where=p <= 2 * i)


@te.algorithm("x: f32[P], ptr: i32[M+1] offsets(P) -> y: f32[M], low: f32[M]")
def two_in_groups(x: Any, ptr: Any, y: Any, low: Any) -> None:
    (i,) = te.axes(i="M")
    p = te.ragged("p", ptr, i)
    y[i] = te.sum(x[p], over=p)
    low[i] = te.min(x[p], over=p)


@te.algorithm("key: i32[P], ptr: i32[M+1] offsets(P) -> y: i32[M, 8]")
def counted_in_groups(key: Any, ptr: Any, y: Any) -> None:
    """A key on a ragged axis."""
    i, b = te.axes(i="M", b=8)
    p = te.ragged("p", ptr, i)
    y[i, b] = te.sum(te.i32(1), over=p, where=key[p] == b)


count_up = te.extern("count_up", "x: i32[N] -> y: i32[N]", reference=np.cumsum, exact=True)


@te.algorithm("x: i32[N] -> y: i32[N]")
def by_hand(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    more = te.func("more")
    count_up(x, out=more)
    y[i] = more[i] + 1


in_order = te.gluon_op(
    "../../integration/tile_functions.py:sorted_line",
    "x: f32[j] -> y: f32[j]",
    reference=np.sort,
    exact=True,
)


@te.algorithm("x: f32[M, N] -> y: f32[M, N]")
def ordered_lines(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = in_order(x[i, j], along=j)


@te.algorithm("x: f32[M] -> count: i32[], y: f32[N]", dims=dict(N="count[] <= M"))
def counted_rows(x: Any, count: Any, y: Any) -> None:
    """A count on the device, and rows of which there are so many."""
    i, n = te.axes(i="M", n="N")
    count[()] = te.sum(te.where(x[i] > 0, te.i32(1), 0), over=i)
    y[n] = x[n] * 2.0


@te.algorithm("x: f32[N], count: i32[] -> y: f32[CAP]", dims=dict(N="count[] <= CAP"))
def rows_not_counted(x: Any, count: Any, y: Any) -> None:
    """An extent that is less the more there are."""
    (i,) = te.axes(i="CAP")
    (j,) = te.axes(j="CAP - N")
    s = te.func("s")
    s[j] = x.padded(0)[j]
    y[i] = s.padded(0)[i]


@te.algorithm("p: i32[N] permutation(N) -> y: i32[N]")
def inverse(p: Any, y: Any) -> None:
    """Keys of which no two are the same."""
    i, k = te.axes(i="N", k="N")
    y[k] = te.sum(i.to("i32"), over=i, where=p[i] == k)


@te.algorithm(
    "x: f16[P, K], at: i32[M] in [0, P), w: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"]
)
def found_rows(x: Any, at: Any, w: Any, y: Any) -> None:
    """Rows of an operand that are found in an argument."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[at[i], k] * w[k, j], over=k)


@te.algorithm(
    "x: f16[P, K], at: i32[M] in [0, P), w: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"]
)
def product_of_rows(x: Any, at: Any, w: Any, y: Any) -> None:
    """Rows of an operand that are found by what is computed from data."""
    i, j, k = te.axes(i="M", j="N", k="K")
    row = te.func("row", "i32")
    row[i] = te.maximum(at[i], 0)
    y[i, j] = te.sum(x.padded(0)[row[i], k] * w[k, j], over=k)


@te.algorithm("x: f32[M, N] -> m: f32[M], z: f32[M]")
def extremes(x: Any, m: Any, z: Any) -> None:
    i, j = te.axes(i="M", j="N")
    m[i] = te.max(x[i, j], over=j)
    z[i] = te.min(x[i, j], over=j)


@te.algorithm("x: f16[M, N], r: f16[M, K] -> y: f16[M, K]", require=["N % 8 == 0", "K % 8 == 0"])
def scaled_rows(x: Any, r: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    s = te.func("s")
    s[i] = te.sum(x[i, j], over=j)
    y[i, k] = s[i] * r[i, k]


ALGORITHMS = {value.name: value for value in list(globals().values()) if isinstance(value, AlgorithmDef)}
