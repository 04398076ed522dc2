"""Contractions: linear layers and matrix products.

    linear_gelu      y[i, j] = gelu(sum_k x[i, k] w[k, j] + b[j])
    matmul_nn/nt/tn  y = x w,  x w^T,  x^T w
    triangular_matmul  y[i, j] = sum_{k <= i} l[i, k] x[k, j]: what lies above the diagonal of l is never read
    matmul_lower     y[i, j] = sum_k x[i, k] w[k, j] for j <= i, else 0: tiles above the diagonal are not computed
    gemv             y[i] = sum_k w[i, k] x[k]
    batched_matmul   y[n] = x[n] w[n]
    w8a16_linear     y[i, j] = sum_k x[i, k] (w[k, j] s[j]) + b[j]         w in 8 bits, dequantised on the way in
    w4a16_linear     y[i, j] = sum_k x[i, k] ((w[k, j] - 8) s[k / 128, j])                 w in 4 bits, two to a byte
    matmul_tf32, matmul_i8, matmul_f8, matmul_f64: one product per operand type of the matrix units

Products of 16-bit operands accumulate in float32. ``gelu`` is the tanh form.
"""

import texpr as te


@te.algorithm(
    "x: T[M, K], w: T[K, N], b: T[N]? -> y: T[M, N]", T=("f16", "bf16"), require=["K % 8 == 0", "N % 8 == 0"]
)
def linear_gelu(x, w, b, y):
    """y = gelu(x @ w + b), accumulated in float32."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = te.gelu(acc[i, j] + b.get(j, 0))


@te.algorithm("x: T[M, K], w: T[K, N] -> y: T[M, N]", T=("f16", "bf16", "f32"))
def matmul_nn(x, w, y):
    """y = x @ w."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j]


@te.algorithm("x: T[M, K], w: T[N, K] -> y: T[M, N]", T=("f16", "bf16", "f32"))
def matmul_nt(x, w, y):
    """y = x @ w.T"""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[j, k], over=k)
    y[i, j] = acc[i, j]


@te.algorithm("x: T[K, M], w: T[K, N] -> y: T[M, N]", T=("f16", "bf16", "f32"))
def matmul_tn(x, w, y):
    """y = x.T @ w"""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[k, i] * w[k, j], over=k)
    y[i, j] = acc[i, j]


@te.algorithm("l: T[M, K], x: T[K, N] -> y: T[M, N]", T=("f16", "bf16", "f32"))
def triangular_matmul(l, x, y):  # noqa: E741 (the triangle's usual name)
    """y = tril(l) @ x."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(l[i, k] * x[k, j], over=k, where=k <= i)
    y[i, j] = acc[i, j]


@te.algorithm("x: T[M, K], w: T[K, N] -> y: T[M, N]", T=("f16", "bf16"))
def matmul_lower(x, w, y):
    """y = tril(x @ w)."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k, where=j <= i)
    y[i, j] = acc[i, j]


@te.algorithm("w: T[M, K], x: T[K] -> y: T[M]", T=("f16", "bf16", "f32"))
def gemv(w, x, y):
    """y = w @ x: a linear layer of one token. Its time is that of reading w once."""
    i, k = te.axes(i="M", k="K")
    acc = te.func("acc")
    acc[i] = te.sum(w[i, k] * x[k], over=k)
    y[i] = acc[i]


@te.algorithm("x: T[B, M, K], w: T[B, K, N] -> y: T[B, M, N]", T=("f16", "bf16"))
def batched_matmul(x, w, y):
    """y[n] = x[n] @ w[n]."""
    n, i, j, k = te.axes(n="B", i="M", j="N", k="K")
    acc = te.func("acc")
    acc[n, i, j] = te.sum(x[n, i, k] * w[n, k, j], over=k)
    y[n, i, j] = acc[n, i, j]


@te.algorithm(
    "x: T[M, K], w: i8[K, N], s: T[N], b: T[N]? -> y: T[M, N]",
    T=("f16", "bf16"),
    require=["K % 16 == 0", "N % 16 == 0"],
)
def w8a16_linear(x, w, s, b, y):
    """y = x @ (w * s) + b: 8-bit weights with a scale per column, dequantised to T (and rounded there) first."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * (w[k, j].to("f32") * s[j]).to(te.type("T")), over=k)
    y[i, j] = acc[i, j] + b.get(j, 0)


@te.algorithm(
    "x: T[M, (KG, 128)], w: u4[(KG, 128), N] packed(0), s: T[KG, N] -> y: T[M, N]",
    T=("f16", "bf16"),
    require=["N % 16 == 0"],
)
def w4a16_linear(x, w, s, y):
    """y = x @ ((w - 8) * s): 4-bit weights with a scale per 128 rows and column, dequantised to T first."""
    i, j, g, k = te.axes(i="M", j="N", g="KG", k=128)
    acc = te.func("acc")
    weight = ((w[(g, k), j].to("f32") - 8) * s[g, j]).to(te.type("T"))
    acc[i, j] = te.sum(x[i, (g, k)] * weight, over=(g, k))
    y[i, j] = acc[i, j]


@te.algorithm("x: f32[M, K], w: f32[K, N] -> y: f32[M, N]")
def matmul_tf32(x, w, y):
    """y = x @ w with operands rounded to tf32 (10 mantissa bits)."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k].to("tf32") * w[k, j].to("tf32"), over=k)
    y[i, j] = acc[i, j]


@te.algorithm("x: i8[M, K], w: i8[K, N] -> y: i32[M, N]", require=["K <= 131071"])
def matmul_i8(x, w, y):
    """y = x @ w in int32; K is bounded so that the matrix unit's saturation cannot be reached."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc", "i32")
    acc[i, j] = te.sum(x[i, k].to("i32") * w[k, j].to("i32"), over=k)
    y[i, j] = acc[i, j]


@te.algorithm("x: T[M, K], w: T[N, K] -> y: bf16[M, N]", T=("f8e4m3", "f8e5m2"))
def matmul_f8(x, w, y):
    """y = x @ w.T on 8-bit floats."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[j, k], over=k)
    y[i, j] = acc[i, j]


@te.algorithm("x: f64[M, K], w: f64[K, N] -> y: f64[M, N]")
def matmul_f64(x, w, y):
    """y = x @ w in float64."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j]
