"""Algorithms of every shape that the language has, for tests of the default schedule: small bodies, awkward axes."""

from __future__ import annotations

from typing import Any

import texpr as te
from texpr.lang.algorithm import AlgorithmDef

HALF = ("f16", "bf16")


@te.algorithm("x: T[N] -> y: T[N]", T=("f16", "f32", "f64", "i8", "i64", "u8"))
def double(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = x[i] + x[i]


@te.algorithm("a: f32[M], b: f32[N] -> y: f32[M, N]")
def outer_product(a: Any, b: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = a[i] * b[j]


@te.algorithm("x: f16[A, B, C, D, E] -> y: f16[E, C, A, D, B]")
def permute5(x: Any, y: Any) -> None:
    a, b, c, d, e = te.axes(a="A", b="B", c="C", d="D", e="E")
    y[e, c, a, d, b] = x[a, b, c, d, e]


@te.algorithm("x: T[M, N] -> y: T[M, N], z: T[N, M]", T=("f16", "f32"))
def both_ways(x: Any, y: Any, z: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j]
    z[j, i] = x[i, j]


@te.algorithm("x: T[M*, N], s: f32 -> y: T[M, N]", T=HALF)
def scale_strided(x: Any, s: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * s


@te.algorithm("x: f32[N, 3] -> y: f32[N, 3]")
def points(x: Any, y: Any) -> None:
    i, a, b = te.axes(i="N", a=3, b=3)
    y[i, a] = x[i, a] / te.sqrt(te.sum(x[i, b] * x[i, b], over=b))


@te.algorithm("x: f32[8, 16] -> y: f32[8, 16]")
def constant_sizes(x: Any, y: Any) -> None:
    i, j = te.axes(i=8, j=16)
    y[i, j] = x[i, j] + 1


@te.algorithm("x: T[M, N] -> y: f32[]", T=("f16", "f32"))
def sum_all(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[()] = te.sum(x[i, j], over=(i, j))


@te.algorithm("x: f32[N] -> mean: f32[], var: f32[]")
def moments(x: Any, mean: Any, var: Any) -> None:
    (i,) = te.axes(i="N")
    mean[()] = te.mean(x[i], over=i)
    var[()] = te.mean((x[i] - mean[()]) ** 2, over=i)


@te.algorithm("x: f32[N] -> y: f32[N]")
def softmax_of_a_vector(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    m, total = te.funcs("m total")
    m[()] = te.max(x[i], over=i)
    total[()] = te.sum(te.exp(x[i] - m[()]), over=i)
    y[i] = te.exp(x[i] - m[()]) / total[()]


@te.algorithm("x: T[M, N] -> y: f32[N]", T=("f16", "f32", "f64"))
def sum_columns(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[j] = te.sum(x[i, j].to("f32"), over=i)


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("f16", "f32"))
def softmax_of_columns(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    m, total = te.funcs("m total")
    m[j] = te.max(x[i, j], over=i)
    total[j] = te.sum(te.exp(x[i, j] - m[j]), over=i)
    y[i, j] = te.exp(x[i, j] - m[j]) / total[j]


@te.algorithm("x: i32[M, N] -> p: i32[M], lo: i32[M], hi: i32[M], odd: bool[M], even: bool[M], bits: i32[M]")
def all_operators(x: Any, p: Any, lo: Any, hi: Any, odd: Any, even: Any, bits: Any) -> None:
    i, j = te.axes(i="M", j="N")
    p[i] = te.prod(x[i, j], over=j)
    lo[i] = te.min(x[i, j], over=j)
    hi[i] = te.max(x[i, j], over=j)
    odd[i] = te.any(x[i, j] % 2 == 1, over=j)
    even[i] = te.all(x[i, j] % 2 == 0, over=j)
    bits[i] = te.reduce("xor", x[i, j], over=j)


@te.algorithm("x: f32[M, N] -> best: f32[], at: i64[]")
def argmax_all(x: Any, best: Any, at: Any) -> None:
    i, j = te.axes(i="M", j="N")
    best[()], at[()] = te.argmax(x[i, j], over=(i, j))


@te.algorithm("x: f16[M, N] -> best: f16[N], at: i32[N]")
def argmax_columns(x: Any, best: Any, at: Any) -> None:
    i, j = te.axes(i="M", j="N")
    best[j], at[j] = te.argmax(x[i, j], over=i)


@te.algorithm("a: f32[N], b: f32[N] -> re: f32[], im: f32[]")
def product_of_complex_numbers(a: Any, b: Any, re: Any, im: Any) -> None:
    """A user's monoid on pairs."""
    (t,) = te.axes(t="N")
    times = te.monoid(
        lambda p, q: (p[0] * q[0] - p[1] * q[1], p[0] * q[1] + p[1] * q[0]),
        identity=(1.0, 0.0),
        commutative=True,
        name="times",
    )
    re[()], im[()] = te.reduce(times, (a[t], b[t]), over=t)


@te.algorithm("dy: T[M, N], x: T[M, N], g: T[N], mu: f32[M], rs: f32[M] -> dx: T[M, N], dg: f32[N], db: f32[N]", T=HALF)
def layernorm_backward(dy: Any, x: Any, g: Any, mu: Any, rs: Any, dx: Any, dg: Any, db: Any) -> None:
    i, j = te.axes(i="M", j="N")
    h, c1, c2 = te.funcs("h c1 c2")
    h[i, j] = (x[i, j] - mu[i]) * rs[i]
    c1[i] = te.mean(dy[i, j] * g[j] * h[i, j], over=j)
    c2[i] = te.mean(dy[i, j] * g[j], over=j)
    dx[i, j] = (dy[i, j] * g[j] - c2[i] - h[i, j] * c1[i]) * rs[i]
    dg[j] = te.sum(dy[i, j] * h[i, j], over=i)
    db[j] = te.sum(dy[i, j], over=i)


@te.algorithm("x: T[N, H, W, C], eps: f32 -> y: T[N, H, W, C]", T=("f16", "f32"))
def batch_norm(x: Any, eps: Any, y: Any) -> None:
    n, p, q, c = te.axes(n="N", p="H", q="W", c="C")
    mu, var = te.funcs("mu var")
    mu[c] = te.mean(x[n, p, q, c], over=(n, p, q))
    var[c] = te.mean((x[n, p, q, c] - mu[c]) ** 2, over=(n, p, q))
    y[n, p, q, c] = (x[n, p, q, c] - mu[c]) * te.rsqrt(var[c] + eps)


@te.algorithm("x: T[N, P, (G, C)] -> y: T[N, P, (G, C)]", T=HALF, static=dict(C=16))
def group_norm(x: Any, y: Any) -> None:
    n, p, g, c = te.axes(n="N", p="P", g="G", c="C")
    ms = te.func("ms")
    ms[n, g] = te.mean(x[n, p, (g, c)] ** 2, over=(p, c))
    y[n, p, (g, c)] = x[n, p, (g, c)] * te.rsqrt(ms[n, g] + 1e-5)


@te.algorithm("a: T[M, K], v: T[K] -> y: f32[M]", T=("f16", "f32", "f64"))
def matrix_vector(a: Any, v: Any, y: Any) -> None:
    i, k = te.axes(i="M", k="K")
    y[i] = te.sum((a[i, k] * v[k]).to("f32"), over=k)


@te.algorithm("x: T[M, K] -> y: f32[M, M]", T=("f16", "f32"))
def gram(x: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="M", k="K")
    y[i, j] = te.sum(x[i, k] * x[j, k], over=k)


@te.algorithm("t: T[M, M], b: T[M, N] -> y: T[M, N]", T=("f16", "f32"))
def triangular_product(t: Any, b: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="M")
    y[i, j] = te.sum(t[i, k] * b[k, j], over=k, where=k <= i)


@te.algorithm("x: T[M, K], w1: T[K, F], w2: T[F, N] -> y: T[M, N]", T=HALF)
def mlp(x: Any, w1: Any, w2: Any, y: Any) -> None:
    i, j, f, k = te.axes(i="M", j="N", f="F", k="K")
    h = te.func("h", te.type("T"))
    a = te.func("a")
    a[i, f] = te.sum(x[i, k] * w1[k, f], over=k)
    h[i, f] = te.gelu(a[i, f])
    y[i, j] = te.sum(h[i, f] * w2[f, j], over=f)


@te.algorithm(
    "a: f8e4m3[M, (KG, 128)], b: f8e4m3[(NG, 128), (KG, 128)], sa: f32[M, KG], sb: f32[NG, KG] -> y: bf16[M, (NG, 128)]"
)
def block_scaled(a: Any, b: Any, sa: Any, sb: Any, y: Any) -> None:
    i, ng, nj, kg, kk = te.axes(i="M", ng="NG", nj=128, kg="KG", kk=128)
    block = te.func("block")
    block[i, ng, nj, kg] = te.sum(a[i, (kg, kk)] * b[(ng, nj), (kg, kk)], over=kk)
    y[i, (ng, nj)] = te.sum(block[i, ng, nj, kg] * sa[i, kg] * sb[ng, kg], over=kg)


@te.algorithm("x: f32[M, D], c: f32[N, D] -> best: f32[M], at: i32[M]")
def nearest(x: Any, c: Any, best: Any, at: Any) -> None:
    i, j, d = te.axes(i="M", j="N", d="D")
    far = te.func("far")
    far[i, j] = te.sum((x[i, d] - c[j, d]) ** 2, over=d)
    best[i], at[i] = te.argmin(far[i, j], over=j)


@te.algorithm(
    "x: T[B, I], h: T[B, H], c: f32[B, H], wi: T[I, (4, H)], wh: T[H, (4, H)], bias: f32[(4, H)]"
    " -> hn: T[B, H], cn: f32[B, H]",
    T=HALF,
)
def lstm_step(x: Any, h: Any, c: Any, wi: Any, wh: Any, bias: Any, hn: Any, cn: Any) -> None:
    b, q, j, k, m = te.axes(b="B", q=4, j="H", k="I", m="H")
    gx, gh, z = te.funcs("gx gh z")
    gx[b, q, j] = te.sum(x[b, k] * wi[k, (q, j)], over=k)
    gh[b, q, j] = te.sum(h[b, m] * wh[m, (q, j)], over=m)
    z[b, q, j] = gx[b, q, j] + gh[b, q, j] + bias[(q, j)]
    cn[b, j] = te.sigmoid(z[b, 1, j]) * c[b, j] + te.sigmoid(z[b, 0, j]) * te.tanh(z[b, 2, j])
    hn[b, j] = te.sigmoid(z[b, 3, j]) * te.tanh(cn[b, j])


@te.algorithm("x: T[M, K], w: T[K, N] -> y: T[M, N], scale: f32[M]", T=HALF)
def quantised_rows(x: Any, w: Any, y: Any, scale: Any) -> None:
    """A contraction whose rows are scaled by a reduction over the same operand."""
    i, j, k, l = te.axes(i="M", j="N", k="K", l="K")  # noqa: E741
    acc = te.func("acc")
    scale[i] = te.max(abs(x[i, l].to("f32")), over=l)
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j] / scale[i]


@te.algorithm("x: T[M, K], w: T[K, N] -> y: T[M, N]", T=HALF)
def normalised_product(x: Any, w: Any, y: Any) -> None:
    """Row norms of a product: the accumulator is read by a reduction and by the output."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc, norm = te.funcs("acc norm")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    norm[i] = te.sum(acc[i, j] * acc[i, j], over=j)
    y[i, j] = acc[i, j] * te.rsqrt(norm[i])


@te.algorithm("x: f32[M, N] -> y: f32[M]", require=["M >= 1"])
def difference_of_rows(x: Any, y: Any) -> None:
    """Row sums read at another row."""
    i, j = te.axes(i="M", j="N")
    s = te.func("s")
    s[i] = te.sum(x[i, j], over=j)
    y[i] = s.clamped()[i + 1] - s[i]


@te.algorithm("x: f32[M, N], r: f32[M, N]? -> y: f32[M, N], top: f32[M, N]")
def chained_outputs(x: Any, r: Any, y: Any, top: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] + r.get((i, j), 1)
    top[i, j] = y.clamped()[i, j + 1] * 2


@te.algorithm("x: T[B, N, S] -> y: T[B, S]", T=("f16", "f32"), static=["S"])
def static_size(x: Any, y: Any) -> None:
    b, n, s = te.axes(b="B", n="N", s="S")
    y[b, s] = te.max(x[b, n, s], over=n)


@te.algorithm("x: T[N, H, W, 3], w: T[3, 3, 3, K] -> y: T[N, H, W, K]", T=HALF)
def first_convolution(x: Any, w: Any, y: Any) -> None:
    """Too few channels for a matrix unit: 27 products written out."""
    n, p, q, k, r, s, c = te.axes(n="N", p="H", q="W", k="K", r=3, s=3, c=3)
    y[n, p, q, k] = te.sum(x.padded(0)[n, p + r - 1, q + s - 1, c] * w[r, s, c, k], over=(r, s, c))


@te.algorithm("a: U[M, K], b: V[K, N] -> y: f32[M, N]", U=("f16", "f32"), V=("f16", "i8"))
def mixed_product(a: Any, b: Any, y: Any) -> None:
    """Two type variables."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(a[i, k].to("f16") * b[k, j].to("f16"), over=k)


@te.algorithm("a: i8[M, K], b: i8[K, N] -> y: i32[M, N]")
def byte_product(a: Any, b: Any, y: Any) -> None:
    """Sums that wrap around for very long K, where a matrix unit's would stick."""
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(a[i, k].to("i32") * b[k, j].to("i32"), over=k)


@te.algorithm("x: f32[M, N] -> y: f32[M, N]", require=["N <= 512"])
def short_rows(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    top = te.func("top")
    top[i] = te.max(x[i, j], over=j)
    y[i, j] = x[i, j] - top[i]


@te.algorithm("x: f32[B, M, N] -> y: f32[B]")
def sum_of_matrices(x: Any, y: Any) -> None:
    b, i, j = te.axes(b="B", i="M", j="N")
    y[b] = te.sum(x[b, i, j], over=(i, j))


STATICS: dict[str, dict[str, int]] = {"static_size": {"S": 5}, "attention": {"D": 64}}

ALL = [value for value in list(globals().values()) if isinstance(value, AlgorithmDef)]
