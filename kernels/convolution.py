"""Convolutions and pooling on tensors with the channels last.

    conv2d            y[n,p,q,(g,k)] = relu(b[(g,k)] + sum_{r,s,c} x[n, p sh + r dh - ph, q sw + s dw - pw, (g,c)]
                                                                     w[g,r,s,c,k])
    conv3d            the same in three dimensions, without groups: x[n, o sd + u dd - pd, p sh + .., q sw + .., c]
    depthwise_conv2d  y[n,p,q,c] = sum_{r,s} x[n, p + r - R/2, q + s - S/2, c] w[r,s,c]
    conv2d_transposed y[n,p,q,k] = sum_{r,s,c} x[n, (p + pad - r)/s0, (q + pad - s)/s0, c] w[r,s,c,k]
                      over the r and s for which the divisions leave nothing
    maxpool2d         y[n,p,q,c] = max_{r,s} x[n, p sh + r - ph, q sw + s - pw, c]

Reads outside of the image are zero (minus infinity for the maximum). Filter sizes, strides, dilations and padding are
compile-time.
"""

import texpr as te


@te.algorithm(
    "x: T[N, H, W, (G, C)], w: T[G, R, S, C, K], b: T[(G, K)]? -> y: T[N, P, Q, (G, K)]",
    T=("f16", "bf16"),
    static=dict(R=3, S=3, sh=1, sw=1, dh=1, dw=1, ph=1, pw=1),
    dims=dict(P="(H + 2*ph - dh*(R-1) - 1)//sh + 1", Q="(W + 2*pw - dw*(S-1) - 1)//sw + 1"),
    require=["H + 2*ph >= dh*(R-1) + 1", "W + 2*pw >= dw*(S-1) + 1"],
)
def conv2d(x, w, b, y, *, sh, sw, dh, dw, ph, pw):
    """Grouped 2-D convolution with bias and relu."""
    n, p, q, g, k, r, s, c = te.axes(n="N", p="P", q="Q", g="G", k="K", r="R", s="S", c="C")
    acc = te.func("acc")
    acc[n, p, q, g, k] = te.sum(
        x.padded(0)[n, p * sh + r * dh - ph, q * sw + s * dw - pw, (g, c)] * w[g, r, s, c, k], over=(r, s, c)
    )
    y[n, p, q, (g, k)] = te.relu(acc[n, p, q, g, k] + b.get((g, k), 0))


@te.algorithm(
    "x: T[N, D, H, W, C], w: T[U, R, S, C, K], b: T[K]? -> y: T[N, O, P, Q, K]",
    T=("f16", "bf16"),
    static=dict(U=3, R=3, S=3, sd=1, sh=1, sw=1, dd=1, dh=1, dw=1, pd=1, ph=1, pw=1),
    dims=dict(
        O="(D + 2*pd - dd*(U-1) - 1)//sd + 1",
        P="(H + 2*ph - dh*(R-1) - 1)//sh + 1",
        Q="(W + 2*pw - dw*(S-1) - 1)//sw + 1",
    ),
    require=["D + 2*pd >= dd*(U-1) + 1", "H + 2*ph >= dh*(R-1) + 1", "W + 2*pw >= dw*(S-1) + 1"],
)
def conv3d(x, w, b, y, *, sd, sh, sw, dd, dh, dw, pd, ph, pw):
    """3-D convolution with bias and relu."""
    n, o, p, q, k = te.axes(n="N", o="O", p="P", q="Q", k="K")
    u, r, s, c = te.axes(u="U", r="R", s="S", c="C")
    acc = te.func("acc")
    acc[n, o, p, q, k] = te.sum(
        x.padded(0)[n, o * sd + u * dd - pd, p * sh + r * dh - ph, q * sw + s * dw - pw, c] * w[u, r, s, c, k],
        over=(u, r, s, c),
    )
    y[n, o, p, q, k] = te.relu(acc[n, o, p, q, k] + b.get(k, 0))


@te.algorithm("x: T[N, H, W, C], w: T[R, S, C] -> y: T[N, H, W, C]", T=("f16", "bf16"), static=dict(R=3, S=3))
def depthwise_conv2d(x, w, y, *, R, S):
    """One filter per channel, same size as the input."""
    n, p, q, c, r, s = te.axes(n="N", p="H", q="W", c="C", r="R", s="S")
    y[n, p, q, c] = te.sum(x.padded(0)[n, p + r - R // 2, q + s - S // 2, c] * w[r, s, c], over=(r, s))


@te.algorithm(
    "x: T[N, H, W, C] -> y: T[N, P, Q, C]",
    T=("f16", "f32"),
    static=dict(R=2, S=2, sh=2, sw=2, ph=0, pw=0),
    dims=dict(P="(H + 2*ph - R)//sh + 1", Q="(W + 2*pw - S)//sw + 1"),
    require=["H + 2*ph >= R", "W + 2*pw >= S"],
)
def maxpool2d(x, y, *, sh, sw, ph, pw):
    """The maximum over windows of R x S."""
    n, p, q, c, r, s = te.axes(n="N", p="P", q="Q", c="C", r="R", s="S")
    y[n, p, q, c] = te.max(x.padded(float("-inf"))[n, p * sh + r - ph, q * sw + s - pw, c], over=(r, s))


@te.algorithm(
    "x: T[N, H, W, C], w: T[R, S, C, K] -> y: T[N, P, Q, K]",
    T=("f16", "bf16"),
    static=dict(R=4, S=4, s0=2, pad=1),
    dims=dict(P="(H - 1)*s0 - 2*pad + R", Q="(W - 1)*s0 - 2*pad + S"),
    require=["(H - 1)*s0 + R >= 2*pad", "(W - 1)*s0 + S >= 2*pad"],
)
def conv2d_transposed(x, w, y, *, s0, pad):
    """The transpose of a convolution with stride s0: every output point meets the filter points of its own phase."""
    n, p, q, k, r, s, c = te.axes(n="N", p="P", q="Q", k="K", r="R", s="S", c="C")
    acc = te.func("acc")
    acc[n, p, q, k] = te.sum(
        x.padded(0)[n, (p + pad - r) // s0, (q + pad - s) // s0, c] * w[r, s, c, k],
        over=(r, s, c),
        where=((p + pad - r) % s0 == 0) & ((q + pad - s) % s0 == 0),
    )
    y[n, p, q, k] = acc[n, p, q, k]
