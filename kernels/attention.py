"""Attention of queries over keys and values, with the heads in groups that share their keys (GQA).

    s[i, j] = scale sum_d q[i, d] k[j, d]           for the keys that query i may see: j < n and j <= i + n - S
    o[i]    = sum_j softmax_j(s[i, j]) v[j],        lse[i] = log sum_j exp(s[i, j])

    attention_decode      one query per sequence, the last one, which sees all n keys
    attention_paged       the keys and values of a sequence lie in pages of PS rows anywhere in memory: key j of entry b
                          is row j % PS of page tab[b, j // PS]
    attention_backward    from the gradient of o, those of q, k and v: with p[i, j] = exp(s[i, j] - lse[i]) and
                          delta[i] = sum_e do[i, e] o[i, e],
                              dv[j] = sum_i p[i, j] do[i],   ds[i, j] = p[i, j] (sum_e do[i, e] v[j, e] - delta[i]),
                              dk[j] = scale sum_i ds[i, j] q[i],   dq[i] = scale sum_j ds[i, j] k[j]

``n`` is the number of keys in use per batch entry; the last query sees all of them, earlier ones fewer (causal). The
probabilities are rounded to T before they are multiplied with the values. Exponentials are base 2 inside, which is what
the hardware has. A query that sees no key yields zeros, and lse is -inf.
"""

import math

import texpr as te


@te.algorithm(
    "q: T[B, (G, R), S, D], k: T[B, G, L, D], v: T[B, G, L, D], n: i32[B] in [0, L + 1), scale: f32"
    " -> o: T[B, (G, R), S, D], lse: f32[B, (G, R), S]",
    T=("f16", "bf16"),
    static={"D": 64, "causal": 1},
)
def attention(q, k, v, n, scale, o, lse, *, causal):
    """Attention, forward; each query sees all n keys where ``causal`` is 0."""
    b, g, r, i, j, d, e = te.axes(b="B", g="G", r="R", i="S", j="L", d="D", e="D")
    s, m, p, l, u = te.funcs("s m p l u")  # noqa: E741
    s[b, g, r, i, j] = te.sum(q[b, (g, r), i, d] * k[b, g, j, d], over=d)
    factor = scale * math.log2(math.e)
    keep = (j < n[b]) & (j <= i + n[b] - te.dim("S")) if causal else j < n[b]
    m[b, g, r, i] = te.max(s[b, g, r, i, j] * factor, over=j, where=keep)
    p[b, g, r, i, j] = te.exp2(s[b, g, r, i, j] * factor - m[b, g, r, i])
    l[b, g, r, i] = te.sum(p[b, g, r, i, j], over=j, where=keep)
    u[b, g, r, i, e] = te.sum(p[b, g, r, i, j].to(te.type("T")) * v[b, g, j, e], over=j, where=keep)
    o[b, (g, r), i, e] = te.where(l[b, g, r, i] > 0, u[b, g, r, i, e] / l[b, g, r, i], 0)
    lse[b, (g, r), i] = (te.log2(l[b, g, r, i]) + m[b, g, r, i]) * math.log(2)


@te.algorithm(
    "q: T[B, (G, R), D], k: T[B, G, L, D], v: T[B, G, L, D], n: i32[B] in [0, L + 1), scale: f32"
    " -> o: T[B, (G, R), D], lse: f32[B, (G, R)]",
    T=("f16", "bf16"),
    static={"D": 64},
)
def attention_decode(q, k, v, n, scale, o, lse):
    """Attention of one query per sequence."""
    b, g, r, j, d, e = te.axes(b="B", g="G", r="R", j="L", d="D", e="D")
    s, m, p, l, u = te.funcs("s m p l u")  # noqa: E741
    s[b, g, r, j] = te.sum(q[b, (g, r), d] * k[b, g, j, d], over=d)
    factor = scale * math.log2(math.e)
    m[b, g, r] = te.max(s[b, g, r, j] * factor, over=j, where=j < n[b])
    p[b, g, r, j] = te.exp2(s[b, g, r, j] * factor - m[b, g, r])
    l[b, g, r] = te.sum(p[b, g, r, j], over=j, where=j < n[b])
    u[b, g, r, e] = te.sum(p[b, g, r, j].to(te.type("T")) * v[b, g, j, e], over=j, where=j < n[b])
    o[b, (g, r), e] = te.where(l[b, g, r] > 0, u[b, g, r, e] / l[b, g, r], 0)
    lse[b, (g, r)] = (te.log2(l[b, g, r]) + m[b, g, r]) * math.log(2)


@te.algorithm(
    "q: T[B, (G, R), S, D], k: T[NB, PS, G, D], v: T[NB, PS, G, D], tab: i32[B, MB] in [0, NB) where jb*PS < n[b],"
    " n: i32[B] in [0, MB*PS + 1), scale: f32 -> o: T[B, (G, R), S, D], lse: f32[B, (G, R), S]",
    T=("f16", "bf16"),
    static={"D": 64, "PS": 16},
)
def attention_paged(q, k, v, tab, n, scale, o, lse, *, PS):
    """Causal attention over keys and values in pages."""
    b, g, r, i, jb, js, d, e = te.axes(b="B", g="G", r="R", i="S", jb="MB", js="PS", d="D", e="D")
    s, m, p, l, u = te.funcs("s m p l u")  # noqa: E741
    j = jb * PS + js
    key = k.padded(0)[tab[b, jb], js, g, d]  # of a page that is not in use: its score is not looked at
    s[b, g, r, i, jb, js] = te.sum(q[b, (g, r), i, d] * key, over=d)
    factor = scale * math.log2(math.e)
    keep = (j < n[b]) & (j <= i + n[b] - te.dim("S"))
    m[b, g, r, i] = te.max(s[b, g, r, i, jb, js] * factor, over=(jb, js), where=keep)
    p[b, g, r, i, jb, js] = te.exp2(s[b, g, r, i, jb, js] * factor - m[b, g, r, i])
    l[b, g, r, i] = te.sum(p[b, g, r, i, jb, js], over=(jb, js), where=keep)
    page = v[tab[b, jb], js, g, e]
    u[b, g, r, i, e] = te.sum(p[b, g, r, i, jb, js].to(te.type("T")) * page, over=(jb, js), where=keep)
    o[b, (g, r), i, e] = te.where(l[b, g, r, i] > 0, u[b, g, r, i, e] / l[b, g, r, i], 0)
    lse[b, (g, r), i] = (te.log2(l[b, g, r, i]) + m[b, g, r, i]) * math.log(2)


@te.algorithm(
    "q: T[B, (G, R), S, D], k: T[B, G, L, D], v: T[B, G, L, D], o: T[B, (G, R), S, D], do: T[B, (G, R), S, D],"
    " lse: f32[B, (G, R), S], n: i32[B] in [0, L + 1), scale: f32"
    " -> dq: T[B, (G, R), S, D], dk: T[B, G, L, D], dv: T[B, G, L, D]",
    T=("f16", "bf16"),
    static={"D": 64},
)
def attention_backward(q, k, v, o, do, lse, n, scale, dq, dk, dv):
    """The gradients of causal attention; heads that share keys add up in dk and dv."""
    b, g, r, i, j, d, e = te.axes(b="B", g="G", r="R", i="S", j="L", d="D", e="D")
    delta, s, dp, p, ds = te.funcs("delta s dp p ds")
    T = te.type("T")
    keep = (j < n[b]) & (j <= i + n[b] - te.dim("S"))
    delta[b, g, r, i] = te.sum(do[b, (g, r), i, e] * o[b, (g, r), i, e], over=e)
    s[b, g, r, i, j] = te.sum(q[b, (g, r), i, d] * k[b, g, j, d], over=d)
    dp[b, g, r, i, j] = te.sum(do[b, (g, r), i, e] * v[b, g, j, e], over=e)
    p[b, g, r, i, j] = te.exp2((s[b, g, r, i, j] * scale - lse[b, (g, r), i]) * math.log2(math.e))
    ds[b, g, r, i, j] = p[b, g, r, i, j] * (dp[b, g, r, i, j] - delta[b, g, r, i]) * scale
    dv[b, g, j, e] = te.sum(p[b, g, r, i, j].to(T) * do[b, (g, r), i, e], over=(r, i), where=keep)
    dk[b, g, j, d] = te.sum(ds[b, g, r, i, j].to(T) * q[b, (g, r), i, d], over=(r, i), where=keep)
    dq[b, (g, r), i, d] = te.sum(ds[b, g, r, i, j].to(T) * k[b, g, j, d], over=j, where=keep)
