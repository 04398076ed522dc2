"""Kernels as shipped, on the emulator, against what torch computes, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.running import bundle
from texpr.compile import load_algorithm

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
EPS = 1e-5


def shipped(source: str, folder: Path, **types: str) -> Any:
    """A kernel of the repository with its own schedule, for sm_80."""
    file, name = source.split(":")
    definition = load_algorithm(f"{ROOT}/kernels/{file}.py:{name}")
    return bundle(definition, (ROOT / "schedules" / f"{name}.yaml").read_text(), folder, types)


def normal(seed: int, *shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(mine: object, theirs: Any, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(
        torch.as_tensor(mine).double(), theirs.detach().double(), rtol=tolerance, atol=tolerance, equal_nan=True
    )


@pytest.mark.parametrize(("rows", "columns"), [(3, 72), (21, 264), (5, 4100)])
def test_layer_norm_and_its_gradients(tmp_path: Path, rows: int, columns: int) -> None:
    x, g, b, dy = normal(1, rows, columns), normal(2, columns), normal(3, columns), normal(4, rows, columns)
    inputs = [torch.tensor(array, requires_grad=True) for array in (x, g, b)]
    theirs = torch.nn.functional.layer_norm(inputs[0], (columns,), inputs[1], inputs[2], EPS)
    theirs.backward(torch.tensor(dy))
    y, mu, rs = shipped("rows:layernorm", tmp_path, T="f32")(x, g, b, np.float32(EPS))
    close(y, theirs)
    found = shipped("rows:layernorm_backward", tmp_path, T="f32")(dy, x, g, mu, rs)
    for mine, leaf in zip(found, inputs, strict=True):
        close(mine, leaf.grad, 1e-3)


@pytest.mark.parametrize("classes", [37, 1000])
def test_cross_entropy_and_its_gradient(tmp_path: Path, classes: int) -> None:
    x, gout = normal(5, 6, classes), normal(6, 6)
    labels = np.array([0, classes - 1, -1, 3, 3, 11], np.int32)
    logits = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long(), ignore_index=-1, reduction="none")
    theirs.backward(torch.tensor(gout))
    loss, dx = shipped("loss:cross_entropy", tmp_path, T="f32")(x, labels, gout)
    close(loss, theirs)
    close(dx, logits.grad)


def test_prefix_sums(tmp_path: Path) -> None:
    x = np.random.default_rng(7).integers(-9, 9, (3, 5000), np.int32)
    np.testing.assert_array_equal(shipped("scans:cumsum", tmp_path, T="i32")(x), torch.tensor(x).cumsum(1).numpy())


def test_counts_and_sums_by_key(tmp_path: Path) -> None:
    keys = np.random.default_rng(8).integers(0, 200, 3000, np.uint8)
    counts = torch.bincount(torch.tensor(keys).long(), minlength=256).numpy()
    np.testing.assert_array_equal(shipped("scatter:histogram", tmp_path, T="u8")(keys), counts)
    values, segments = normal(9, 300, 40), np.sort(np.random.default_rng(9).integers(0, 7, 300)).astype(np.int32)
    like = np.zeros(7, np.float32)
    index = torch.tensor(segments).long()
    sums = torch.zeros(7, 40).index_add(0, index, torch.tensor(values))
    close(shipped("scatter:segment_sum", tmp_path, T="f32")(values, segments, like), sums, 1e-3)
    wide = index[:, None].expand(-1, 40)
    means = torch.zeros(7, 40).scatter_reduce(0, wide, torch.tensor(values), "mean", include_self=False)
    close(shipped("scatter:scatter_mean", tmp_path)(segments, values, like), means, 1e-3)


def attended(q: Any, k: Any, v: Any, count: int, causal: bool) -> Any:
    """Attention of one sequence, whose first ``count`` keys are in use; q, k and v have the heads first."""
    queries, repeat = q.shape[1], q.shape[0] // k.shape[0]
    i, j = torch.arange(queries)[:, None], torch.arange(k.shape[1])[None, :]
    mask = (j < count) & ((j <= i + count - queries) | (not causal))
    k, v = (x.float().repeat_interleave(repeat, 0) for x in (k, v))
    return torch.nn.functional.scaled_dot_product_attention(q.float(), k, v, attn_mask=mask, scale=0.125)


def test_attention_of_one_query(tmp_path: Path) -> None:
    shapes = [(2, 6, 64), (2, 2, 90, 64), (2, 2, 90, 64)]
    q, k, v = (normal(n, *shape, dtype=np.float16) for n, shape in enumerate(shapes))
    counts = np.array([90, 33], np.int32)
    o, _ = shipped("attention:attention_decode", tmp_path, T="f16")(q, k, v, counts, np.float32(0.125))
    for b, count in enumerate(counts):
        theirs = attended(*(torch.tensor(x) for x in (q[b][:, None], k[b], v[b])), int(count), causal=False)
        close(o[b][:, None], theirs, 3e-3)


@pytest.mark.parametrize("queries", [3, 40])
def test_attention_over_pages(tmp_path: Path, queries: int) -> None:
    q, counts = normal(10, 2, 4, queries, 64, dtype=np.float16), np.array([75, 48], np.int32)
    k, v = (normal(n, 12, 16, 2, 64, dtype=np.float16) for n in (11, 12))
    table = np.random.default_rng(13).permutation(12)[:10].reshape(2, 5).astype(np.int32)
    o, _ = shipped("attention:attention_paged", tmp_path, T="f16")(q, k, v, table, counts, np.float32(0.125))
    for b, count in enumerate(counts):
        keys, values = (torch.tensor(x[table[b]]).reshape(80, 2, 64).transpose(0, 1) for x in (k, v))
        close(o[b], attended(torch.tensor(q[b]), keys, values, int(count), causal=True), 3e-3)


def test_gradients_of_attention(tmp_path: Path) -> None:
    shapes = [(1, 2, 40, 64), (1, 1, 56, 64), (1, 1, 56, 64), (1, 2, 40, 64)]
    q, k, v, do = (normal(20 + n, *shape, dtype=np.float16) for n, shape in enumerate(shapes))
    counts = np.array([56], np.int32)
    leaves = [torch.tensor(x[0]).float().requires_grad_() for x in (q, k, v)]
    theirs = attended(*leaves, 56, causal=True)
    theirs.backward(torch.tensor(do[0]).float())
    o, lse = shipped("attention:attention", tmp_path, T="f16")(q, k, v, counts, np.float32(0.125))
    close(o[0], theirs, 3e-3)
    found = shipped("attention:attention_backward", tmp_path, T="f16")(q, k, v, o, do, lse, counts, np.float32(0.125))
    for mine, leaf in zip(found, leaves, strict=True):
        close(mine[0], leaf.grad, 2e-2)
