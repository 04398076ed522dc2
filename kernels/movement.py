"""Kernels that only move data: exact by definition.

    copy         y[i, j] = x[i, j]            rows of x may be strided
    transpose    y[j, i] = x[i, j]
    gather_rows  y[i, j] = x[at[i], j]
"""

import texpr as te


@te.algorithm("x: T[M*, N] -> y: T[M, N]", T=("f16", "bf16", "f32", "u8"))
def copy(x, y):
    """Copy a matrix; the rows of x may be further apart than N."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j]


@te.algorithm("x: T[M, N] -> y: T[N, M]", T=("f16", "bf16", "f32"))
def transpose(x, y):
    """The transposed matrix."""
    i, j = te.axes(i="M", j="N")
    y[j, i] = x[i, j]


@te.algorithm("x: T[P, N], at: i32[M] in [0, P) -> y: T[M, N]", T=("f16", "bf16", "f32"))
def gather_rows(x, at, y):
    """Rows of x picked by index."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[at[i], j]
