"""The attention algorithms mean what is usually meant by attention: against NumPy written out, and torch where it is
installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from texpr.compile import load_algorithm
from texpr.lang.reference import reference

KERNELS = Path(__file__).parents[2] / "kernels"
B, G, R, S, L, D = 2, 2, 3, 5, 9, 8
SCALE = np.float32(D**-0.5)


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = {"q": (B, G * R, S, D), "k": (B, G, L, D), "v": (B, G, L, D)}
    arrays = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    return {**arrays, "n": np.array([7, 3], np.int32)}


def attention(**arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    definition = load_algorithm(f"{KERNELS / 'attention.py'}:attention")
    found = reference(definition, types={"T": "f16"}, statics={"D": D})(**arrays, scale=SCALE)
    return found["o"].astype(np.float64), found["lse"].astype(np.float64)


def visible(count: int) -> np.ndarray:
    """Which keys each query sees: those in use, and the last query all of them."""
    i, j = np.arange(S)[:, None], np.arange(L)[None, :]
    return (j < count) & (j <= i + count - S)


def test_every_query_sees_the_keys_up_to_its_own_position() -> None:
    arrays = inputs()
    o, lse = attention(**arrays)
    for b, head in np.ndindex(B, G * R):
        keep = visible(int(arrays["n"][b]))
        key, value = (arrays[name][b, head // R].astype(np.float64) for name in "kv")
        scores = np.where(keep, arrays["q"][b, head].astype(np.float64) @ key.T * SCALE, -np.inf)
        seen = keep.any(axis=1)
        with np.errstate(divide="ignore"):
            total = np.log(np.exp(scores).sum(axis=1))
        np.testing.assert_allclose(lse[b, head], total, rtol=1e-6, atol=1e-6)
        weights = np.where(seen[:, None], np.exp(scores - np.where(seen, total, 0.0)[:, None]), 0.0)
        np.testing.assert_allclose(o[b, head], weights @ value, rtol=2e-3, atol=2e-3)


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch")
    arrays = inputs()
    o, _ = attention(**arrays)
    for b in range(B):
        count = int(arrays["n"][b])
        mask = torch.from_numpy(visible(count))
        rows = visible(count).any(axis=1)
        q, k, v = (torch.from_numpy(arrays[name][b].astype(np.float32)) for name in "qkv")
        k, v = (x.repeat_interleave(R, dim=0) for x in (k, v))
        want = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=float(SCALE)).numpy()
        np.testing.assert_allclose(o[b][:, rows], want[:, rows], rtol=3e-3, atol=3e-3)
