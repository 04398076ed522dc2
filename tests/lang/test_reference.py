"""The reference agrees with independent NumPy code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.lang import examples
from texpr.errors import TExprError
from texpr.lang.arrays import decode, encode
from texpr.lang.errors import ReferenceArgumentError, ReferenceRangeError, ReferenceResultError

RNG = np.random.default_rng(7)


def halves(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float16)


def close(actual: Any, expected: Any, tolerance: float = 1e-3) -> None:
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=tolerance, atol=tolerance)


def test_linear_gelu_with_and_without_bias() -> None:
    x, w, b = halves(5, 16), halves(16, 8), halves(8)
    for bias in (None, b):
        z = x.astype(float) @ w.astype(float) + (0 if bias is None else bias.astype(float))
        expected = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        close(te.reference(examples.linear_gelu)(x=x, w=w, b=bias)["y"], expected)


def test_bf16_is_stored_as_bit_patterns() -> None:
    x, w = encode(RNG.standard_normal((4, 8)), te.DType.BF16), encode(RNG.standard_normal((8, 8)), te.DType.BF16)
    y = te.reference(examples.linear_gelu)(x=x, w=w)["y"]
    assert y.dtype == np.uint16
    z = decode(x, te.DType.BF16) @ decode(w, te.DType.BF16)
    expected = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    close(decode(y, te.DType.BF16), expected, 1e-2)


@pytest.mark.parametrize("algorithm", [examples.softmax, examples.softmax_by_helper], ids=lambda a: a.name)
def test_softmax(algorithm: Any) -> None:
    x = RNG.standard_normal((6, 33)).astype(np.float32)
    e = np.exp(x.astype(float) - x.max(1, keepdims=True))
    close(te.reference(algorithm)(x=x)["y"], e / e.sum(1, keepdims=True), 1e-6)


def test_layernorm_gives_all_outputs() -> None:
    x, g, b = halves(5, 40), halves(40), halves(40)
    result = te.reference(examples.layernorm)(x=x, g=g, b=b, eps=1e-5)
    wide = x.astype(float)
    rs = 1 / np.sqrt(wide.var(1) + 1e-5)
    close(result["mu"], wide.mean(1), 1e-6)
    close(result["rs"], rs, 1e-6)
    close(result["y"], (wide - wide.mean(1, keepdims=True)) * rs[:, None] * g + b, 3e-3)


def test_attention_with_lengths_and_grouped_heads() -> None:
    q, k, v = halves(2, 6, 4, 8), halves(2, 3, 7, 8), halves(2, 3, 7, 8)
    n = np.array([7, 2], np.int32)
    result = te.reference(examples.attention)(q=q, k=k, v=v, n=n, scale=0.35)
    for b in range(2):
        for h in range(6):
            s = q[b, h].astype(float) @ k[b, h // 2].astype(float).T * 0.35
            keep = (np.arange(7) < n[b]) & (np.arange(7)[None] <= np.arange(4)[:, None] + n[b] - 4)
            top = np.where(keep, s, -100.0).max(1, keepdims=True)
            p = np.where(keep, np.exp(np.minimum(s - top, 0)), 0)
            total = p.sum(1, keepdims=True)
            expected = np.where(total > 0, (p @ v[b, h // 2].astype(float)) / np.maximum(total, 1e-30), 0)
            close(result["o"][b, h], expected, 3e-3)
    assert np.isneginf(result["lse"][1, :, :2]).all()


@pytest.mark.parametrize("stride, dilation, pad", [(1, 1, 1), (2, 1, 0), (1, 2, 2)])
def test_conv2d_with_groups(stride: int, dilation: int, pad: int) -> None:
    x, w = RNG.standard_normal((2, 7, 6, 4)), RNG.standard_normal((2, 3, 3, 2, 5))
    x, w = x.astype(np.float32), w.astype(np.float32)
    statics = dict(sh=stride, sw=stride, dh=dilation, dw=dilation, ph=pad, pw=pad)
    y = te.reference(examples.conv2d, statics=statics)(x=x, w=w)["y"]
    padded = np.pad(x.astype(float), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    for p in range(y.shape[1]):
        for c in range(y.shape[2]):
            rows, columns = p * stride + dilation * np.arange(3), c * stride + dilation * np.arange(3)
            window = padded[:, rows][:, :, columns].reshape(2, 3, 3, 2, 2)
            expected = np.maximum(np.einsum("nrsgc,grsck->ngk", window, w.astype(float)), 0).reshape(2, -1)
            close(y[:, p, c], expected, 1e-5)


def test_transposed_convolution_is_the_adjoint_of_convolution() -> None:
    x, w = RNG.standard_normal((1, 3, 4, 2)).astype(np.float32), RNG.standard_normal((4, 4, 2, 3)).astype(np.float32)
    expected = np.zeros((1, 8, 10, 3))
    for h in range(3):
        for c in range(4):
            expected[0, 2 * h : 2 * h + 4, 2 * c : 2 * c + 4] += np.einsum("c,rsck->rsk", x[0, h, c], w)
    close(te.reference(examples.conv2d_transposed)(x=x, w=w)["y"], expected[:, 1:-1, 1:-1], 1e-5)


def test_maxpool_and_derived_output_shape() -> None:
    x = halves(1, 5, 4, 3)
    expected = x[:, :4].reshape(1, 2, 2, 2, 2, 3).max((2, 4))
    np.testing.assert_array_equal(te.reference(examples.maxpool2)(x=x)["y"], expected)


def test_blur_clamps_and_rounds_between_stages() -> None:
    x = RNG.integers(0, 256, (6, 7)).astype(np.uint8)
    wide = np.pad(x.astype(int), ((0, 0), (1, 1)), "edge")
    bx = (wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]) // 3
    tall = np.pad(bx, ((1, 1), (0, 0)), "edge")
    expected = ((tall[:-2] + tall[1:-1] + tall[2:]) // 3).astype(np.uint8)
    np.testing.assert_array_equal(te.reference(examples.blur)(x=x)["y"], expected)


def test_cross_entropy_ignores_negative_targets() -> None:
    x = RNG.standard_normal((4, 9)).astype(np.float32)
    t, gout = np.array([3, -1, 0, 8], np.int32), RNG.standard_normal(4).astype(np.float32)
    result = te.reference(examples.cross_entropy)(x=x, t=t, gout=gout)
    p = np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(1, keepdims=True)
    valid = t >= 0
    close(result["loss"], np.where(valid, -np.log(p[np.arange(4), t]), 0), 1e-6)
    close(result["dx"], np.where(valid, gout, 0)[:, None] * (p - (np.arange(9) == t[:, None])), 1e-6)


def test_zorder_interleaves_bits() -> None:
    xyz = RNG.integers(0, 1024, (20, 3)).astype(np.uint32)
    expected = [
        sum(((int(v) >> bit) & 1) << (3 * bit + a) for a, v in enumerate(row) for bit in range(10)) for row in xyz
    ]
    np.testing.assert_array_equal(te.reference(examples.zorder)(xyz=xyz)["code"], expected)


def test_scatter_as_a_guarded_reduction() -> None:
    vox, f = np.array([0, 2, -1, 2], np.int32), RNG.standard_normal((4, 3)).astype(np.float32)
    mean = te.reference(examples.scatter_mean)(vox=vox, f=f, like=np.zeros(4, np.float32))["mean"]
    close(mean, [f[0], [0] * 3, (f[1] + f[3]) / 2, [0] * 3], 1e-6)
    h = te.reference(examples.histogram)(key=np.array([1, 1, 7, 9, -3], np.int32))["h"]
    np.testing.assert_array_equal(h, [0, 2, 0, 0, 0, 0, 0, 1])


def test_sparse_convolution_skips_missing_neighbours_even_next_to_infinite_weights() -> None:
    x, w, map_ = halves(5, 4), halves(3, 4, 2), RNG.integers(-1, 5, (3, 6)).astype(np.int32)
    w[1, 0, 0] = np.inf
    map_[1] = -1
    expected = np.zeros((6, 2))
    for v in range(3):
        for i in range(6):
            if map_[v, i] >= 0:
                expected[i] += x[map_[v, i]].astype(float) @ w[v].astype(float)
    close(te.reference(examples.sparse_conv)(x=x, w=w, map=map_)["y"], np.maximum(expected, 0), 2e-3)


def test_argmax_ties_take_the_lowest_and_nan_wins() -> None:
    x = np.array([[1, 3, 3, 0], [np.nan, 5, np.nan, 1], [2, 2, 2, 2]], np.float32)
    result = te.reference(examples.argmax_rows)(x=x)
    np.testing.assert_array_equal(result["best"], [1, 0, 0])
    np.testing.assert_array_equal(result["worst"], [3, 0, 0])
    np.testing.assert_array_equal(result["value"], [3, np.nan, 2])


def test_argmax_of_nothing() -> None:
    result = te.reference(examples.argmax_rows)(x=np.zeros((2, 0), np.float32))
    np.testing.assert_array_equal(result["best"], [-1, -1])
    np.testing.assert_array_equal(result["value"], [-np.inf, -np.inf])


def test_monoid_keeps_order() -> None:
    a, b = (RNG.standard_normal((3, 11)).astype(np.float32) for _ in range(2))
    h = np.zeros(3)
    for t in range(11):
        h = a[:, t] * h + b[:, t]
    close(te.reference(examples.last_of_recurrence)(a=a, b=b)["h"], h, 1e-5)


def test_dequantising_prologue_rounds_where_the_cast_says() -> None:
    x, s = halves(3, 256), halves(2, 4)
    w = RNG.integers(0, 16, (256, 4)).astype(np.uint8)
    weight = ((w.reshape(2, 128, 4) - 8.0) * s[:, None].astype(float)).astype(np.float16).astype(float).reshape(256, 4)
    close(te.reference(examples.dequantised_linear)(x=x, w=w, s=s)["y"], x.astype(float) @ weight, 2e-3)


def test_bit_mask_over_pairs() -> None:
    box = np.sort(RNG.random((37, 2, 2)), axis=1).reshape(37, 4).astype(np.float32)
    bits = te.reference(examples.nms_mask)(box=box, thr=0.05)["bits"]
    for i in range(37):
        for j in range(37):
            w, h = (np.minimum(box[i, a + 2], box[j, a + 2]) - np.maximum(box[i, a], box[j, a]) for a in (0, 1))
            expected = j > i and max(w, 0) * max(h, 0) > 0.05
            assert bool(bits[i, j // 32] >> np.uint32(j % 32) & np.uint32(1)) == expected


def test_empty_dims_give_empty_outputs_and_identities() -> None:
    y = te.reference(examples.linear_gelu)(x=halves(0, 16), w=halves(16, 8))["y"]
    assert y.shape == (0, 8)
    y = te.reference(examples.linear_gelu)(x=halves(3, 0), w=halves(0, 8))["y"]
    assert (y == 0).all()


@te.algorithm("x: i32[N] -> wrap: i32[N], near: i32[N], reflect: i32[N], zero: i32[N]")
def boundaries(x: Any, wrap: Any, near: Any, reflect: Any, zero: Any) -> None:
    (i,) = te.axes(i="N")
    wrap[i] = x.wrapped()[i + 5]
    near[i] = x.clamped()[2 * i - 3]
    reflect[i] = x.mirrored()[i - 4]
    zero[i] = x.padded(-7)[i + 1]


def test_boundaries() -> None:
    result = te.reference(boundaries)(x=np.array([10, 20, 30, 40], np.int32))
    assert result["wrap"].tolist() == [20, 30, 40, 10]
    assert result["near"].tolist() == [10, 10, 20, 40]
    assert result["reflect"].tolist() == [30, 40, 30, 20]
    assert result["zero"].tolist() == [20, 30, 40, -7]


@te.algorithm("x: i8[N] -> a: i8[N], b: i8[N], c: i8[N], d: i8[N], e: i32[N]")
def integers(x: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> None:
    (i,) = te.axes(i="N")
    a[i] = x[i] + 100
    b[i] = x[i] // 3
    c[i] = x[i] % 3
    d[i] = x[i] << 9
    e[i] = x[i].to("u8").to("i32")


def test_integers_wrap_and_divide_toward_minus_infinity() -> None:
    result = te.reference(integers)(x=np.array([100, -7, -1], np.int8))
    assert result["a"].tolist() == [-56, 93, 99]
    assert result["b"].tolist() == [33, -3, -1]
    assert result["c"].tolist() == [1, 2, 2]
    assert result["d"].tolist() == [0, 0, 0]
    assert result["e"].tolist() == [100, 249, 255]


@te.algorithm(
    "x: f32[M, N], k: u8[M, N] -> p: f32[M], lo: f32[M], anyof: bool[M], allof: bool[M],"
    " mean: f32[M], a: u8[M], e: u8[M], total: f32[]"
)
def reductions(x: Any, k: Any, p: Any, lo: Any, anyof: Any, allof: Any, mean: Any, a: Any, e: Any, total: Any) -> None:
    i, j = te.axes(i="M", j="N")
    p[i] = te.prod(x[i, j], over=j)
    lo[i] = te.min(x[i, j], over=j)
    anyof[i] = te.any(x[i, j] > 1.5, over=j)
    allof[i] = te.all(x[i, j] > -1.5, over=j, where=k[i, j] > 100)
    mean[i] = te.mean(x[i, j], over=j, where=k[i, j] > 100)
    a[i] = te.reduce("and", k[i, j], over=j)
    e[i] = te.reduce("xor", k[i, j], over=j)
    total[()] = te.sum(x[i, j], over=(i, j))


def test_every_kind_of_reduction() -> None:
    x, k = RNG.standard_normal((4, 9)).astype(np.float32), RNG.integers(0, 256, (4, 9)).astype(np.uint8)
    result = te.reference(reductions)(x=x, k=k)
    wide, kept = x.astype(float), k > 100
    close(result["p"], wide.prod(1), 1e-6)
    close(result["lo"], wide.min(1), 0)
    close(result["mean"], np.where(kept, wide, 0).sum(1) / kept.sum(1), 1e-6)
    close(result["total"], wide.sum(), 1e-6)
    np.testing.assert_array_equal(result["anyof"], (x > 1.5).any(1))
    np.testing.assert_array_equal(result["allof"], ((x > -1.5) | ~kept).all(1))
    np.testing.assert_array_equal(result["a"], np.bitwise_and.reduce(k, axis=1))
    np.testing.assert_array_equal(result["e"], np.bitwise_xor.reduce(k, axis=1))


@te.algorithm("x: f32[N] -> i: i32[N], h: f16[N], q: f8e4m3[N], t: f32[N]")
def casts(x: Any, i: Any, h: Any, q: Any, t: Any) -> None:
    (n,) = te.axes(n="N")
    i[n] = x[n].to("i32")
    h[n] = x[n]
    q[n] = x[n]
    t[n] = x[n].to("tf32") * 1


def test_casts_round_saturate_and_truncate() -> None:
    result = te.reference(casts)(x=np.array([1e20, -1.9, np.nan, 1 + 2**-11], np.float32))
    assert result["i"].tolist() == [2**31 - 1, -1, 0, 1]
    np.testing.assert_array_equal(result["h"], np.array([np.inf, -1.9, np.nan, 1], np.float16))
    np.testing.assert_array_equal(decode(result["q"], te.DType.F8E4M3), [448, -1.875, np.nan, 1])
    assert result["t"][3] == 1 + 2**-10  # a tie: away from zero


@te.algorithm("x: i32[P], map: i32[N] -> y: i32[N]")
def badly_guarded(x: Any, map: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = te.where(map[i] > 0, x[map[i]], 0)


def test_a_wrong_guard_is_found_when_it_matters() -> None:
    x = np.arange(4, dtype=np.int32)
    run = te.reference(badly_guarded)
    assert run(x=x, map=np.array([3, -9], np.int32))["y"].tolist() == [3, 0]
    with pytest.raises(ReferenceRangeError):
        run(x=x, map=np.array([4], np.int32))


@te.algorithm("x: f32[N] -> y: f32[N]")
def by_inline_ptx(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = te.ptx("abs.f32 $0, $1;", x[i], dtype="f32", reference=np.abs)


def test_inline_ptx_uses_its_reference() -> None:
    assert te.reference(by_inline_ptx)(x=np.array([-2, 3], np.float32))["y"].tolist() == [2, 3]


@te.algorithm("x: u32[N] -> y: u32[N], z: u32[N]")
def two_results_from_one(x: Any, y: Any, z: Any) -> None:
    (i,) = te.axes(i="N")
    y[i], z[i] = te.ptx("not.b32 $0, $2; mov.b32 $1, $2;", x[i], dtype=("u32", "u32"), reference=np.invert)


def test_a_reference_must_return_as_many_results_as_there_are() -> None:
    with pytest.raises(ReferenceResultError, match="not a tuple of 2 arrays"):
        te.reference(two_results_from_one)(x=np.array([1], np.uint32))


@pytest.mark.parametrize(
    "arguments, fragment",
    [
        (dict(x=halves(2, 8)), "w: is missing"),
        (dict(x=halves(2, 8), w=halves(8, 8), c=1), "no such argument"),
        (dict(x=halves(2, 8), w=halves(9, 8)), "has shape"),
        (dict(x=halves(2, 7), w=halves(7, 8)), "require 'K % 8 == 0' is false"),
        (dict(x=halves(2, 8).astype(np.float32), w=halves(8, 8)), "does not say which"),
        (dict(x=halves(2, 8), w=halves(8, 8).astype(np.float32)), "expected f16"),
        (dict(x=halves(2, 8, 1), w=halves(8, 8)), "has 3 dims"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], fragment: str) -> None:
    with pytest.raises(TExprError) as caught:
        te.reference(examples.linear_gelu)(**arguments)
    assert fragment in str(caught.value)


def test_range_contract_is_checked() -> None:
    with pytest.raises(ReferenceArgumentError, match="the contract says"):
        te.reference(examples.zorder)(xyz=np.full((1, 3), 1024, np.uint32))


@te.algorithm("t: i32[P], m: i32[V], x: f32[N, V] -> y: f32[N]")
def guarded_table(t: Any, m: Any, x: Any, y: Any) -> None:
    n, v = te.axes(n="N", v="V")
    y[n] = te.sum(x[n, v] * t[m[v]].to("f32"), over=v, where=(m[v] >= 0) & (x[n, v] != 7))


def test_a_guard_over_more_axes_protects_an_integer_read() -> None:
    t, m = np.array([10, 20], np.int32), np.array([1, -5, 0], np.int32)
    x = np.array([[1, 2, 3], [7, 8, 9]], np.float32)
    assert te.reference(guarded_table)(t=t, m=m, x=x)["y"].tolist() == [50, 90]
