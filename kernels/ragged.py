"""Kernels over groups of different lengths. Group ``e`` holds the points ``off[e] .. off[e + 1]``; it may be empty.

    spmm_csr           y[r, n] = sum_p val[p] x[col[p], n]      p in ptr[r] .. ptr[r + 1]: the entries of row r
    sparse_conv_wgrad  dw[v, c, k] = sum_p x[I[p], c] dy[O[p], k]   p in seg[v] .. seg[v + 1]: the pairs at offset v
    jagged_softmax     y[p] = exp(x[p] - m[r]) / sum_q exp(x[q] - m[r]),   m[r] = max_q x[q]   q in off[r] .. off[r + 1]
    grouped_matmul     y[m, j] = sum_k x[m, k] w[e, k, j]       e: the group of row m
"""

import texpr as te


@te.algorithm(
    "val: f32[Z], col: i32[Z] in [0, K), ptr: i32[M + 1] offsets(Z), x: f32[K, N] -> y: f32[M, N]",
)
def spmm_csr(val, col, ptr, x, y):
    """A sparse matrix in compressed rows times a dense one."""
    r, n = te.axes(r="M", n="N")
    p = te.ragged("p", ptr, r)
    y[r, n] = te.sum(val[p] * x[col[p], n], over=p)


@te.algorithm(
    "x: T[P, C], dy: T[N, K], I: i32[Z] in [0, P), O: i32[Z] in [0, N), seg: i32[V + 1] offsets(Z)"
    " -> dw: f32[V, C, K]",
    T=("f16", "bf16"),
)
def sparse_conv_wgrad(x, dy, I, O, seg, dw):  # noqa: E741
    """The gradient of the weights of a sparse convolution: pairs (input point, output point), sorted by offset."""
    v, c, k = te.axes(v="V", c="C", k="K")
    p = te.ragged("p", seg, v)
    dw[v, c, k] = te.sum(x[I[p], c] * dy[O[p], k], over=p)


@te.algorithm("x: f32[Z], off: i32[R + 1] offsets(Z) -> y: f32[Z]")
def jagged_softmax(x, off, y):
    """Softmax of rows of different lengths that lie one after the other."""
    (r,) = te.axes(r="R")
    p = te.ragged("p", off, r)
    m, l = te.funcs("m l")  # noqa: E741
    m[r] = te.max(x[p], over=p)
    l[r] = te.sum(te.exp(x[p] - m[r]), over=p)
    y[p] = te.exp(x[p] - m[r]) / l[r]


@te.algorithm("x: T[M, K], w: T[E, K, N], off: i32[E + 1] offsets(M) -> y: T[M, N]", T=("f16", "bf16"))
def grouped_matmul(x, w, off, y):
    """Every group of rows times a matrix of its own: the experts of a mixture, rows sorted by expert."""
    e, j, k = te.axes(e="E", j="N", k="K")
    m = te.ragged("m", off, e)
    y[m, j] = te.sum(x[m, k] * w[e, k, j], over=k)
