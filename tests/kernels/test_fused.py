"""Fused contractions: what the loop nest and the machine code must look like, and what torch computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import halves
from tests.kernels.sass import compiled, disassembled
from texpr.compile import load_algorithm, show
from texpr.dtypes import DType
from texpr.lang.arrays import decode, encode
from texpr.lang.reference import reference

F8 = DType.F8E4M3
FUSED = Path(__file__).parents[2] / "kernels" / "fused.py"
CONVOLUTION = Path(__file__).parents[2] / "kernels" / "convolution.py"


def test_hidden_values_pass_from_product_to_product_in_registers() -> None:
    """Nothing is stored to shared memory but by asynchronous copies, up to the epilogue's change of layout."""
    nest = show(f"{FUSED}:mlp_fused", types={"T": "f16"}, targets=["sm_80"])
    assert "conversions: y: layout of acc -> rows of y, through shared memory" in nest
    kernel = compiled(f"{FUSED}:mlp_fused", "aligned", "sm_80", T="f16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    code = disassembled(kernel)
    products = [n for n, opcode in enumerate(code.opcodes) if opcode.startswith("HMMA")]
    stores = [n for n, opcode in enumerate(code.opcodes) if opcode.startswith("STS")]
    assert all(n < products[0] or n > products[-1] for n in stores)
    assert code.count("HMMA", "16816") >= 16 + 64  # a step of either product


def test_products_of_one_tile_share_it_and_their_epilogue() -> None:
    """Gate and up have one layout: their tile of x is read once, and only the product of both is moved."""
    nest = show(f"{FUSED}:swiglu_mlp", types={"T": "f16"}, targets=["sm_80"])
    assert nest.count("-> rows of h, through shared memory") == 2  # one in each variant
    kernel = compiled(f"{FUSED}:swiglu_mlp", "two_kernels", "sm_80", T="f16", kernel="hidden")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    code = disassembled(kernel)
    assert code.count("LDSM") == 8 + 4 + 4  # by four 8 x 8: operand A of 64 x 32 a warp, both operands B of 32 x 32


def test_the_gates_of_a_cell_share_their_inputs() -> None:
    nest = show(f"{FUSED}:lstm_step", types={"T": "f16"}, targets=["sm_80"])
    assert "4 accumulators along q" in nest
    assert "load wi  [p:32, u:64] f16 -> shared 2 x 4 along q x 4 KB" in nest
    kernel = compiled(f"{FUSED}:lstm_step", "aligned", "sm_80", T="f16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)


def test_mlp_reference_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w1, w2 = halves(rng, 9, 16), halves(rng, 16, 24), halves(rng, 24, 8)
    ours = reference(load_algorithm(f"{FUSED}:mlp_fused"))(x=x, w1=w1, w2=w2)["y"]
    a, b, c = (torch.from_numpy(array).double() for array in (x, w1, w2))
    theirs = torch.nn.functional.gelu(a @ b, approximate="tanh").half().double() @ c
    np.testing.assert_allclose(ours.astype(np.float64), theirs.numpy(), rtol=2e-3, atol=2e-3)


def test_swiglu_reference_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, wg, wu, wd = halves(rng, 9, 16), halves(rng, 16, 24), halves(rng, 16, 24), halves(rng, 24, 8)
    ours = reference(load_algorithm(f"{FUSED}:swiglu_mlp"))(x=x, wg=wg, wu=wu, wd=wd)["y"]
    a, g, u, d = (torch.from_numpy(array).double() for array in (x, wg, wu, wd))
    theirs = (torch.nn.functional.silu(a @ g) * (a @ u)).half().double() @ d
    np.testing.assert_allclose(ours.astype(np.float64), theirs.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("stride, dilation, padding", [(1, 1, 1), (2, 1, 0), (1, 2, 2)])
def test_conv3d_reference_agrees_with_torch(stride: int, dilation: int, padding: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w = halves(rng, 2, 6, 7, 5, 8), halves(rng, 3, 3, 3, 8, 16)
    values = [f"{name}{axis}" for name in "sdp" for axis in "dhw"]
    statics = dict(zip(values, [stride] * 3 + [dilation] * 3 + [padding] * 3, strict=True))
    ours = reference(load_algorithm(f"{CONVOLUTION}:conv3d"), statics=statics)(x=x, w=w)["y"]
    image = torch.from_numpy(x).double().permute(0, 4, 1, 2, 3)
    taps = torch.from_numpy(w).double().permute(4, 3, 0, 1, 2)
    theirs = torch.relu(torch.nn.functional.conv3d(image, taps, stride=stride, dilation=dilation, padding=padding))
    np.testing.assert_allclose(ours.astype(np.float64), theirs.permute(0, 2, 3, 4, 1).numpy(), rtol=2e-3, atol=2e-3)


def test_lstm_reference_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    x, h, wi, wh = halves(rng, 5, 16), halves(rng, 5, 8), halves(rng, 16, 32), halves(rng, 8, 32)
    c, b = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal(32).astype(np.float32)
    ours = reference(load_algorithm(f"{FUSED}:lstm_step"))(x=x, h=h, c=c, wi=wi, wh=wh, b=b)
    cell = torch.nn.LSTMCell(16, 8).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.from_numpy(wi.T.copy()))
        cell.weight_hh.copy_(torch.from_numpy(wh.T.copy()))
        cell.bias_ih.copy_(torch.from_numpy(b))
        cell.bias_hh.zero_()
        theirs = cell(torch.from_numpy(x).double(), (torch.from_numpy(h).double(), torch.from_numpy(c).double()))
    for name, expected in zip(("hn", "cn"), theirs, strict=True):
        np.testing.assert_allclose(ours[name].astype(np.float64), expected.numpy(), rtol=2e-3, atol=2e-3)


def test_blocks_of_8_bit_floats_agree_with_a_sum_of_scaled_products() -> None:
    rng = np.random.default_rng(2)
    x, w = (encode(rng.standard_normal((rows, 256)), dtype) for rows, dtype in ((3, F8), (144, F8)))
    sx, sw = rng.random((3, 2)).astype(np.float32), rng.random((2, 2)).astype(np.float32)
    ours = reference(load_algorithm(f"{FUSED}:fp8_block_linear"))(x=x, w=w, sx=sx, sw=sw)["y"]
    scaled = [
        decode(a, F8).reshape(len(a), 2, 128) * s[..., None] for a, s in ((x, sx), (w, sw.repeat(128, 0)[:144]))
    ]
    expected = scaled[0].reshape(3, 256) @ scaled[1].reshape(144, 256).T
    np.testing.assert_allclose(decode(ours, DType.BF16), expected, rtol=8e-3, atol=8e-3)


def test_gradients_of_layernorm_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(3)
    rows = FUSED.parent / "rows.py"
    x, dy = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    g, b = rng.standard_normal(6), rng.standard_normal(6)

    def loss(x: np.ndarray, g: np.ndarray, b: np.ndarray) -> float:
        h = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return float(((h * g + b) * dy).sum())

    def slope(n: int) -> np.ndarray:
        arguments = [x, g, b]
        found = np.zeros_like(arguments[n])
        for point in np.ndindex(found.shape):
            moved = [[a.copy() for a in arguments] for _ in range(2)]
            moved[0][n][point] += 1e-5
            moved[1][n][point] -= 1e-5
            found[point] = (loss(*moved[0]) - loss(*moved[1])) / 2e-5
        return found

    statistics = {"mu": x.mean(1), "rs": 1 / np.sqrt(x.var(1) + 1e-5)}
    arrays = {"dy": dy, "x": x, "g": g, **statistics}
    algorithm = load_algorithm(f"{rows}:layernorm_backward")
    ours = reference(algorithm, types={"T": "f32"})(**{name: a.astype(np.float32) for name, a in arrays.items()})
    for n, name in enumerate(("dx", "dg", "db")):
        np.testing.assert_allclose(ours[name], slope(n), rtol=1e-3, atol=1e-4)


def test_four_bit_weights_are_dequantised_by_group_and_column() -> None:
    rng = np.random.default_rng(4)
    x, w = halves(rng, 3, 256), rng.integers(0, 256, (128, 16), np.uint8)
    s = (rng.random((2, 16)) * 0.1).astype(np.float16)
    ours = reference(load_algorithm(f"{FUSED.parent / 'linear.py'}:w4a16_linear"), types={"T": "f16"})(x=x, w=w, s=s)
    weights = np.stack((w & 15, w >> 4), axis=1).reshape(256, 16).astype(np.float32) - 8
    scaled = (weights * s.astype(np.float32).repeat(128, 0)).astype(np.float16)
    np.testing.assert_allclose(ours["y"].astype(np.float64), x.astype(np.float64) @ scaled, rtol=2e-3, atol=2e-3)
