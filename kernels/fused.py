"""Chained and joined contractions: what one product yields feeds the next, or shares its accumulator, in registers.

    mlp_fused         y = gelu(x w1) w2                               h = gelu(x w1) never leaves the registers
    swiglu_mlp        y = (silu(x wg) * x wu) wd                      both products of a tile of h share its x
    fp8_block_linear  y[i, j] = sum_g sx[i, g] sw[j / 128, g] sum_k x[i, g, k] w[j, g, k]        128 products at a time
    lstm_step         z = x wi + h wh + b;  c' = s(z1) c + s(z0) tanh(z2);  h' = s(z3) tanh(c')

``gelu`` is the tanh form, ``s`` the logistic function, ``silu(v) = v s(v)``. Products accumulate in float32.
"""

import texpr as te


@te.algorithm(
    "x: T[M, K], w1: T[K, F], w2: T[F, N] -> y: T[M, N]",
    T=("f16", "bf16"),
    require=["K % 8 == 0", "F % 8 == 0", "N % 8 == 0"],
)
def mlp_fused(x, w1, w2, y):
    """y = gelu(x @ w1) @ w2, the hidden values rounded to T: that is part of the algorithm, whatever the schedule."""
    i, j, f, k = te.axes(i="M", j="N", f="F", k="K")
    a, acc = te.funcs("a acc")
    h = te.func("h", te.type("T"))
    a[i, f] = te.sum(x[i, k] * w1[k, f], over=k)
    h[i, f] = te.gelu(a[i, f])
    acc[i, j] = te.sum(h[i, f] * w2[f, j], over=f)
    y[i, j] = acc[i, j]


@te.algorithm(
    "x: T[M, K], wg: T[K, F], wu: T[K, F], wd: T[F, N] -> y: T[M, N]",
    T=("f16", "bf16"),
    require=["K % 8 == 0", "F % 8 == 0", "N % 8 == 0"],
)
def swiglu_mlp(x, wg, wu, wd, y):
    """y = (silu(x @ wg) * (x @ wu)) @ wd, the hidden values rounded to T."""
    i, j, f, k = te.axes(i="M", j="N", f="F", k="K")
    gate, up, acc = te.funcs("gate up acc")
    h = te.func("h", te.type("T"))
    gate[i, f] = te.sum(x[i, k] * wg[k, f], over=k)
    up[i, f] = te.sum(x[i, k] * wu[k, f], over=k)
    h[i, f] = gate[i, f] * te.sigmoid(gate[i, f]) * up[i, f]
    acc[i, j] = te.sum(h[i, f] * wd[f, j], over=f)
    y[i, j] = acc[i, j]


@te.algorithm(
    "x: f8e4m3[M, (KG, 128)], w: f8e4m3[N, (KG, 128)], sx: f32[M, KG], sw: f32[NG, KG] -> y: bf16[M, N]",
    dims={"NG": "ceil(N / 128)"},
    require=["N % 16 == 0"],
)
def fp8_block_linear(x, w, sx, sw, y):
    """y = x @ w.T on 8-bit floats with scales per 1 x 128 block of x and per 128 x 128 block of w.

    The sum over a block is rescaled and added up in float32.
    """
    i, j, g, k = te.axes(i="M", j="N", g="KG", k=128)
    block, acc = te.funcs("block acc")
    block[i, j, g] = te.sum(x[i, (g, k)] * w[j, (g, k)], over=k)
    acc[i, j] = te.sum(block[i, j, g] * (sx[i, g] * sw[j // 128, g]), over=g)
    y[i, j] = acc[i, j]


@te.algorithm(
    "x: T[B, I], h: T[B, H], c: f32[B, H], wi: T[I, (4, H)], wh: T[H, (4, H)], b: f32[(4, H)]"
    " -> hn: T[B, H], cn: f32[B, H]",
    T=("f16", "bf16"),
    require=["I % 8 == 0", "H % 8 == 0"],
)
def lstm_step(x, h, c, wi, wh, b, hn, cn):
    """One step of an LSTM cell; the gates are input, forget, cell and output, in this order."""
    n, u, q, p, r = te.axes(n="B", u="H", q=4, p="I", r="H")
    gx, gh, z, cell = te.funcs("gx gh z cell")
    gx[n, q, u] = te.sum(x[n, p] * wi[p, (q, u)], over=p)
    gh[n, q, u] = te.sum(h[n, r] * wh[r, (q, u)], over=r)
    z[n, q, u] = gx[n, q, u] + gh[n, q, u] + b[(q, u)]
    cell[n, u] = te.sigmoid(z[n, 1, u]) * c[n, u] + te.sigmoid(z[n, 0, u]) * te.tanh(z[n, 2, u])
    cn[n, u] = cell[n, u]
    hn[n, u] = te.sigmoid(z[n, 3, u]) * te.tanh(cell[n, u])
