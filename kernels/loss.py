"""Losses over classes, whose rows may be longer than what a program holds (a vocabulary).

    logsumexp      y[i] = log sum_j exp(x[i, j]),   shifted by the row's maximum
    cross_entropy  loss[i] = logsumexp_j x[i, j] - x[i, t[i]],   dx[i, j] = (softmax_j(x)[i, j] - [j = t[i]]) gout[i];
                   rows whose label is -1 are ignored: loss and gradient are 0
"""

import texpr as te


@te.algorithm("x: T[M, N] -> y: f32[M]", T=("f16", "bf16", "f32"))
def logsumexp(x, y):
    """The logarithm of the sum of exponentials of each row."""
    i, j = te.axes(i="M", j="N")
    m, l = te.funcs("m l")  # noqa: E741
    m[i] = te.max(x[i, j], over=j)
    l[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    y[i] = te.log(l[i]) + m[i]


@te.algorithm(
    "x: T[M, N], t: i32[M] in [-1, N), gout: f32[M] -> loss: f32[M], dx: T[M, N]", T=("f16", "bf16", "f32")
)
def cross_entropy(x, t, gout, loss, dx):
    """Cross entropy with labels, and its gradient with respect to the logits, from one reading of a row for the
    statistics and one for the gradient."""
    i, j = te.axes(i="M", j="N")
    m, l, label = te.funcs("m l label")  # noqa: E741
    m[i] = te.max(x[i, j], over=j)
    l[i] = te.sum(te.exp(x[i, j] - m[i]), over=j)
    label[i] = te.where(t[i] >= 0, x[i, te.maximum(t[i], 0)], 0)
    loss[i] = te.where(t[i] >= 0, te.log(l[i]) + m[i] - label[i], 0)
    hit = te.where(j == t[i], 1, 0)
    dx[i, j] = te.where(t[i] >= 0, (te.exp(x[i, j] - m[i]) / l[i] - hit) * gout[i], 0)
