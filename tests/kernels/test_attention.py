"""The attention algorithms mean what is usually meant by attention: against NumPy written out, and torch where it is
installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import bundle, worst
from texpr.compile import load_algorithm
from texpr.lang.accuracy import Accuracy
from texpr.lang.reference import reference
from texpr.plan.default import default_schedule
from texpr.schedule import dump_schedule

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


def gradients(arrays: dict[str, np.ndarray], do: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a backward pass takes from the forward pass, and the gradients by the chain rule in float64."""
    size = arrays["q"].shape[-1]
    scale = float(np.float32(size**-0.5))
    b_, h_, s_, l_ = (*arrays["q"].shape[:3], arrays["k"].shape[2])
    r_ = h_ // arrays["k"].shape[1]
    q, k, v, g = (x.astype(np.float64) for x in (arrays["q"], arrays["k"], arrays["v"], do))
    lse, o = np.full((b_, h_, s_), -np.inf), np.zeros(arrays["q"].shape)
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    i, j = np.arange(s_)[:, None], np.arange(l_)[None, :]
    for b, h in np.ndindex(b_, h_):
        count = int(arrays["n"][b])
        keep = (j < count) & (j <= i + count - s_)
        rows = keep.any(axis=1)
        scores = np.where(keep, q[b, h] @ k[b, h // r_].T * scale, -np.inf)
        with np.errstate(divide="ignore"):
            lse[b, h] = np.log(np.exp(scores).sum(axis=1))
        p = np.where(keep, np.exp(scores - np.where(rows, lse[b, h], 0.0)[:, None]), 0.0)
        o[b, h] = p @ v[b, h // r_]
        dp = g[b, h] @ v[b, h // r_].T
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True)) * scale
        dq[b, h] = ds @ k[b, h // r_]
        dk[b, h // r_] += ds.T @ q[b, h]
        dv[b, h // r_] += p.T @ g[b, h]
    given = {**arrays, "o": o.astype(np.float16), "do": do, "lse": lse.astype(np.float32)}
    return given, {"dq": dq, "dk": dk, "dv": dv}


def test_the_backward_pass_is_the_chain_rule() -> None:
    arrays = inputs()
    do = np.random.default_rng(2).standard_normal(arrays["q"].shape).astype(np.float16)
    given, want = gradients(arrays, do)
    definition = load_algorithm(f"{KERNELS / 'attention.py'}:attention_backward")
    found = reference(definition, types={"T": "f16"}, statics={"D": D})(**given, scale=SCALE)
    for name, value in want.items():
        np.testing.assert_allclose(found[name].astype(np.float64), value, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("name", ["attention", "attention_backward"])
def test_the_kernels_are_right_on_data_like_that_of_a_network(tmp_path: Path, name: str) -> None:
    """Scores of ordinary size in every tile, queries before and after the causal edge, two heads that share keys."""
    rng = np.random.default_rng(3)
    shapes = {"q": (1, 2, 70, 64), "k": (1, 1, 150, 64), "v": (1, 1, 150, 64)}
    arrays = {x: rng.standard_normal(shape).astype(np.float16) for x, shape in shapes.items()}
    arrays["n"] = np.array([140], np.int32)
    if name == "attention_backward":
        arrays, _ = gradients(arrays, rng.standard_normal(shapes["q"]).astype(np.float16))
    definition = load_algorithm(f"{KERNELS / 'attention.py'}:{name}")
    schedule = (KERNELS.parent / "schedules" / f"{name}.yaml").read_text()
    built = bundle(definition, schedule, tmp_path, {"T": "f16"})
    relaxed = Accuracy(relaxed=frozenset({"p"}))
    assert 0 < worst(built, definition, {**arrays, "scale": np.float32(0.125)}, {"T": "f16"}, relaxed) <= 1


def in_pages(arrays: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The same keys and values in shuffled pages: what is not in use is NaN, and the rest of the table garbage."""
    rng = np.random.default_rng(5)
    entries, groups, length, width = arrays["k"].shape
    most = -(-length // size)
    table = rng.permutation(entries * most + 3)[: entries * most].reshape(entries, most).astype(np.int32)
    paged = {name: np.full((entries * most + 3, size, groups, width), np.nan, np.float16) for name in "kv"}
    for b in range(entries):
        for j in range(int(arrays["n"][b])):
            for name in "kv":
                paged[name][table[b, j // size], j % size] = arrays[name][b, :, j]
        dead = table[b, -(-int(arrays["n"][b]) // size) :]
        dead[:] = rng.choice([-1, 2**31 - 1, entries * most + 3, 0, 1], dead.size)
    return {**arrays, **paged, "tab": table}


def test_pages_hold_the_same_keys() -> None:
    arrays = inputs()
    definition = load_algorithm(f"{KERNELS / 'attention.py'}:attention_paged")
    found = reference(definition, types={"T": "f16"}, statics={"D": D, "PS": 4})(**in_pages(arrays, 4), scale=SCALE)
    o, lse = attention(**arrays)
    np.testing.assert_allclose(found["o"].astype(np.float64), o, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found["lse"], lse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("queries", [5, 70])
@pytest.mark.parametrize("schedule", ["hand-written", "default"])
def test_what_is_in_dead_pages_and_past_the_end_of_the_table_is_not_looked_at(
    tmp_path: Path, queries: int, schedule: str
) -> None:
    rng = np.random.default_rng(6)
    shapes = {"q": (3, 2, queries, 64), "k": (3, 1, 160, 64), "v": (3, 1, 160, 64)}
    arrays = {x: rng.standard_normal(shape).astype(np.float16) for x, shape in shapes.items()}
    arrays["n"] = np.array([140, 0, 65], np.int32)
    definition = load_algorithm(f"{KERNELS / 'attention.py'}:attention_paged")
    if schedule == "default":
        text = dump_schedule(default_schedule(definition, ["sm_80"]))
    else:
        text = (KERNELS.parent / "schedules" / "attention_paged.yaml").read_text()
    built = bundle(definition, text, tmp_path, {"T": "f16"})
    relaxed = Accuracy(relaxed=frozenset({"p"}))
    given = {**in_pages(arrays, 16), "scale": np.float32(0.125)}
    assert 0 < worst(built, definition, given, {"T": "f16"}, relaxed) <= 1


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
