"""Algorithms for the tests of the language: one of each construct."""

from __future__ import annotations

from typing import Any

import texpr as te

HALF = ("f16", "bf16")


@te.algorithm("x: T[M, K], w: T[K, N], b: T[N]? -> y: T[M, N]", T=HALF, require=["K % 8 == 0", "N % 8 == 0"])
def linear_gelu(x: Any, w: Any, b: Any, y: Any) -> None:
    """y = gelu(x @ w + b), accumulated in float32."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = te.gelu(acc[i, j] + b.get(j, 0))


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("f16", "bf16", "f32"))
def softmax(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    m, total = te.funcs("m total")
    m[i] = te.max(x[i, j], over=j)
    total[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    y[i, j] = te.exp(x[i, j] - m[i]) / total[i]


def softmax_of(e: Any, j: Any) -> Any:
    """A helper whose reductions become automatic funcs."""
    p = te.exp(e - te.max(e, over=j))
    return p / te.sum(p, over=j)


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("f16", "f32"))
def softmax_by_helper(x: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i, j] = softmax_of(x[i, j], j)


@te.algorithm("x: T[M, N], g: T[N], b: T[N], eps: f32 -> y: T[M, N], mu: f32[M], rs: f32[M]", T=HALF)
def layernorm(x: Any, g: Any, b: Any, eps: Any, y: Any, mu: Any, rs: Any) -> None:
    i, j = te.axes(i="M", j="N")
    var = te.func("var")
    mu[i] = te.mean(x[i, j], over=j)
    var[i] = te.mean((x[i, j] - mu[i]) ** 2, over=j)
    rs[i] = te.rsqrt(var[i] + eps)
    y[i, j] = (x[i, j] - mu[i]) * rs[i] * g[j] + b[j]


@te.algorithm(
    "q: T[B, (G, R), S, D], k: T[B, G, L, D], v: T[B, G, L, D], n: i32[B] in [0, L], scale: f32"
    " -> o: T[B, (G, R), S, D], lse: f32[B, (G, R), S]",
    T=HALF,
    static=["D"],
)
def attention(q: Any, k: Any, v: Any, n: Any, scale: Any, o: Any, lse: Any) -> None:
    b, g, r, i, j, d, e = te.axes(b="B", g="G", r="R", i="S", j="L", d="D", e="D")
    s, m, p, total, u = te.funcs("s m p total u")
    s[b, g, r, i, j] = te.sum(q[b, (g, r), i, d] * k[b, g, j, d], over=d) * scale
    keep = (j < n[b]) & (j <= i + n[b] - te.dim("S"))
    m[b, g, r, i] = te.max(s[b, g, r, i, j], over=j, where=keep)
    p[b, g, r, i, j] = te.exp(s[b, g, r, i, j] - m[b, g, r, i])
    total[b, g, r, i] = te.sum(p[b, g, r, i, j], over=j, where=keep)
    u[b, g, r, i, e] = te.sum(p[b, g, r, i, j].to(te.type("T")) * v[b, g, j, e], over=j, where=keep)
    o[b, (g, r), i, e] = te.where(total[b, g, r, i] > 0, u[b, g, r, i, e] / total[b, g, r, i], 0)
    lse[b, (g, r), i] = te.log(total[b, g, r, i]) + m[b, g, r, i]


@te.algorithm(
    "x: T[N, H, W, (G, C)], w: T[G, R, S, C, K], b: f32[(G, K)]? -> y: T[N, P, Q, (G, K)]",
    T=("f16", "bf16", "f32"),
    static=dict(R=3, S=3, sh=1, sw=1, dh=1, dw=1, ph=1, pw=1),
    dims=dict(P="(H + 2*ph - dh*(R-1) - 1)//sh + 1", Q="(W + 2*pw - dw*(S-1) - 1)//sw + 1"),
)
def conv2d(x: Any, w: Any, b: Any, y: Any, *, sh: int, sw: int, dh: int, dw: int, ph: int, pw: int) -> None:
    n, p, q, g, k, r, s, c = te.axes(n="N", p="P", q="Q", g="G", k="K", r="R", s="S", c="C")
    acc = te.func("acc")
    acc[n, p, q, g, k] = te.sum(
        x.padded(0)[n, p * sh + r * dh - ph, q * sw + s * dw - pw, (g, c)] * w[g, r, s, c, k], over=(r, s, c)
    )
    y[n, p, q, (g, k)] = te.relu(acc[n, p, q, g, k] + b.get((g, k), 0))


@te.algorithm(
    "x: f32[N, H, W, C], w: f32[R, S, C, K] -> y: f32[N, P, Q, K]",
    static=dict(R=4, S=4, s0=2, pad=1),
    dims=dict(P="(H-1)*s0 - 2*pad + R", Q="(W-1)*s0 - 2*pad + S"),
)
def conv2d_transposed(x: Any, w: Any, y: Any, *, s0: int, pad: int) -> None:
    n, p, q, k, r, s, c = te.axes(n="N", p="P", q="Q", k="K", r="R", s="S", c="C")
    y[n, p, q, k] = te.sum(
        x.padded(0)[n, (p + pad - r) // s0, (q + pad - s) // s0, c] * w[r, s, c, k],
        over=(r, s, c),
        where=((p + pad - r) % s0 == 0) & ((q + pad - s) % s0 == 0),
    )


@te.algorithm("x: T[N, H, W, C] -> y: T[N, H//2, W//2, C]", T=("f16", "f32"))
def maxpool2(x: Any, y: Any) -> None:
    n, p, q, c, r, s = te.axes(n="N", p="H//2", q="W//2", c="C", r=2, s=2)
    y[n, p, q, c] = te.max(x[n, 2 * p + r, 2 * q + s, c], over=(r, s))


@te.algorithm("x: u8[H, W] -> y: u8[H, W]")
def blur(x: Any, y: Any) -> None:
    i, j, r = te.axes(i="H", j="W", r=3)
    bx = te.func("bx", "u16")
    bx[i, j] = te.sum(x.clamped()[i, j + r - 1].to("u16"), over=r) // 3
    y[i, j] = (te.sum(bx.clamped()[i + r - 1, j], over=r) // 3).to("u8")


@te.algorithm("x: T[M, N], t: i32[M] in [-1, N), gout: f32[M] -> loss: f32[M], dx: T[M, N] alias(x)", T=("f16", "f32"))
def cross_entropy(x: Any, t: Any, gout: Any, loss: Any, dx: Any) -> None:
    i, j = te.axes(i="M", j="N")
    m, total, xt = te.funcs("m total xt")
    m[i] = te.max(x[i, j].to("f32"), over=j)
    total[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    xt[i] = te.where(t[i] >= 0, x[i, te.maximum(t[i], 0)], 0)
    loss[i] = te.where(t[i] >= 0, te.log(total[i]) + m[i] - xt[i], 0)
    shifted = te.exp(x[i, j] - m[i]) / total[i] - te.where(j == t[i], 1, 0)
    dx[i, j] = te.where(t[i] >= 0, shifted * gout[i], 0)


@te.algorithm("xyz: u32[N, 3] in [0, 1024) -> code: u32[N]")
def zorder(xyz: Any, code: Any) -> None:
    i, a = te.axes(i="N", a=3)
    s = te.func("s", "u32")

    def spread(v: Any) -> Any:
        for sh, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
            v = (v | (v << sh)) & mask
        return v

    s[i, a] = spread(xyz[i, a]) << a
    code[i] = te.reduce("or", s[i, a], over=a)


@te.algorithm("vox: i32[N] in [-1, V), f: f32[N, C], like: f32[V] -> mean: f32[V, C]")
def scatter_mean(vox: Any, f: Any, like: Any, mean: Any) -> None:
    i, v, c = te.axes(i="N", v="V", c="C")
    s, n = te.funcs("s n")
    s[v, c] = te.sum(f[i, c], over=i, where=vox[i] == v)
    n[v] = te.sum(1.0, over=i, where=vox[i] == v)
    mean[v, c] = te.where(n[v] > 0, s[v, c] / n[v], 0)


@te.algorithm("key: i32[N] -> h: u32[NB]", static=dict(NB=8))
def histogram(key: Any, h: Any) -> None:
    i, b = te.axes(i="N", b="NB")
    h[b] = te.sum(1, over=i, where=key[i] == b)


@te.algorithm(
    "x: T[P, C], w: T[V, C, K], map: i32[V, N] in [-1, P), scale: f32[K]?, res: T[N, K]? -> y: T[N, K]", T=HALF
)
def sparse_conv(x: Any, w: Any, map: Any, scale: Any, res: Any, y: Any) -> None:
    i, v, c, k = te.axes(i="N", v="V", c="C", k="K")
    acc = te.func("acc")
    acc[i, k] = te.sum(x[map[v, i], c] * w[v, c, k], over=(v, c), where=map[v, i] >= 0)
    y[i, k] = te.relu(acc[i, k] * scale.get(k, 1) + res.get((i, k), 0))


@te.algorithm("x: f32[M, N] -> value: f32[M], best: i32[M], worst: i32[M]")
def argmax_rows(x: Any, value: Any, best: Any, worst: Any) -> None:
    i, j = te.axes(i="M", j="N")
    value[i], best[i] = te.argmax(x[i, j], over=j)
    _, worst[i] = te.argmin(x[i, j], over=j)


@te.algorithm("a: f32[N, L], b: f32[N, L] -> h: f32[N]")
def last_of_recurrence(a: Any, b: Any, h: Any) -> None:
    """h = the last of h_t = a_t h_(t-1) + b_t, as a reduction by a user's monoid."""
    n, t = te.axes(n="N", t="L")
    affine = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), name="affine")
    _, h[n] = te.reduce(affine, (a[n, t], b[n, t]), over=t)


@te.algorithm("x: T[M, (KG, 128)], w: u8[(KG, 128), N], s: T[KG, N] -> y: T[M, N]", T=HALF)
def dequantised_linear(x: Any, w: Any, s: Any, y: Any) -> None:
    i, j, kg, kk = te.axes(i="M", j="N", kg="KG", kk=128)
    weight = ((w[(kg, kk), j].to("f32") - 8) * s[kg, j]).to("T")
    y[i, j] = te.sum(x[i, (kg, kk)] * weight, over=(kg, kk))


@te.algorithm("box: f32[N, 4], thr: f32 -> bits: u32[N, NW]", dims=dict(NW="ceil(N/32)"))
def nms_mask(box: Any, thr: Any, bits: Any) -> None:
    i, w, bit = te.axes(i="N", w="NW", bit=32)
    j = w * 32 + bit

    def overlap(a: Any, b: Any) -> Any:
        width = te.minimum(box[a, 2], box[b, 2]) - te.maximum(box[a, 0], box[b, 0])
        height = te.minimum(box[a, 3], box[b, 3]) - te.maximum(box[a, 1], box[b, 1])
        return te.relu(width) * te.relu(height)

    found = te.where(overlap(i, j) > thr, te.u32(1) << bit, 0)
    bits[i, w] = te.reduce("or", found, over=bit, where=(j > i) & (j < te.dim("N")))


ALL = [
    linear_gelu, softmax, softmax_by_helper, layernorm, attention, conv2d, conv2d_transposed, maxpool2, blur,
    cross_entropy, zorder, scatter_mean, histogram, sparse_conv, argmax_rows, last_of_recurrence,
    dequantised_linear, nms_mask,
]  # fmt: skip
