"""Row kernels: each output row depends on one input row.

    softmax           y[i, j] = exp(x[i, j] - m[i]) / sum_j exp(x[i, j] - m[i]),   m[i] = max_j x[i, j]
    layernorm         y = (x - mu) rs g + b,   mu = mean_j x,   rs = 1 / sqrt(mean_j (x - mu)^2 + eps)
    layernorm_backward  its gradients: dx, and dg = sum_i dy h, db = sum_i dy with h = (x - mu) rs
    rmsnorm_residual  z = x + r,   y = z g / sqrt(mean_j z^2 + eps);  z is an output as well
    argmax_rows       the position of the largest element (ties: the first; NaN ranks highest), and its value
    sum_rows          y[i] = sum_j x[i, j]
"""

import texpr as te


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("f16", "bf16", "f32"))
def softmax(x, y):
    """Softmax over the last dim, shifted by the row's maximum."""
    i, j = te.axes(i="M", j="N")
    m, l = te.funcs("m l")  # noqa: E741
    m[i] = te.max(x[i, j], over=j)
    l[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    y[i, j] = te.exp(x[i, j] - m[i]) / l[i]


@te.algorithm(
    "x: T[M, N], g: T[N], b: T[N], eps: f32 -> y: T[M, N], mu: f32[M], rs: f32[M]", T=("f16", "bf16", "f32")
)
def layernorm(x, g, b, eps, y, mu, rs):
    """Layer normalisation; the statistics are outputs, for a backward pass."""
    i, j = te.axes(i="M", j="N")
    var = te.func("var")
    mu[i] = te.mean(x[i, j], over=j)
    var[i] = te.mean((x[i, j] - mu[i]) ** 2, over=j)
    rs[i] = te.rsqrt(var[i] + eps)
    y[i, j] = (x[i, j] - mu[i]) * rs[i] * g[j] + b[j]


@te.algorithm(
    "dy: T[M, N], x: T[M, N], g: T[N], mu: f32[M], rs: f32[M] -> dx: T[M, N], dg: f32[N], db: f32[N]",
    T=("f16", "bf16", "f32"),
)
def layernorm_backward(dy, x, g, mu, rs, dx, dg, db):
    """The gradients of layernorm from its input, its statistics and the gradient of its output."""
    i, j = te.axes(i="M", j="N")
    h, c1, c2 = te.funcs("h c1 c2")
    h[i, j] = (x[i, j] - mu[i]) * rs[i]
    c1[i] = te.mean(dy[i, j] * g[j] * h[i, j], over=j)
    c2[i] = te.mean(dy[i, j] * g[j], over=j)
    dx[i, j] = (dy[i, j] * g[j] - c2[i] - h[i, j] * c1[i]) * rs[i]
    dg[j] = te.sum(dy[i, j] * h[i, j], over=i)
    db[j] = te.sum(dy[i, j], over=i)


@te.algorithm("x: T[M, N], r: T[M, N], g: T[N], eps: f32 -> y: T[M, N], z: T[M, N]", T=("f16", "bf16"))
def rmsnorm_residual(x, r, g, eps, y, z):
    """Root-mean-square normalisation of x + r, which is also written back (the residual stream, rounded to T)."""
    i, j = te.axes(i="M", j="N")
    ms = te.func("ms")
    z[i, j] = x[i, j] + r[i, j]
    ms[i] = te.mean(z[i, j] ** 2, over=j)
    y[i, j] = z[i, j] * te.rsqrt(ms[i] + eps) * g[j]


@te.algorithm("x: T[M, N] -> best: T[M], at: i32[M]", T=("f16", "bf16", "f32"), require=["N >= 1"])
def argmax_rows(x, best, at):
    """The largest element of each row and its position."""
    i, j = te.axes(i="M", j="N")
    best[i], at[i] = te.argmax(x[i, j], over=j)


@te.algorithm("x: T[M, N] -> y: f32[M]", T=("f16", "bf16", "f32"))
def sum_rows(x, y):
    """The sum of each row in float32."""
    i, j = te.axes(i="M", j="N")
    y[i] = te.sum(x[i, j], over=j)
