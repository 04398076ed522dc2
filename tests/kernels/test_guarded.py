"""Kernels that are made by their guards, as shipped and on the emulator, against NumPy written another way; and what
torch computes, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.running import bundle, halves
from texpr.checking.hints import list_rows
from texpr.compile import load_algorithm
from texpr.lang.reference import reference

ROOT = Path(__file__).parents[2]


def shipped(file: str, name: str, folder: Path, types: dict[str, str]) -> Any:
    definition = load_algorithm(f"{ROOT}/kernels/{file}.py:{name}")
    return bundle(definition, ROOT / "schedules" / f"{name}.yaml", folder, types)


def test_what_lies_above_the_diagonal_is_never_multiplied(tmp_path: Path) -> None:
    run = shipped("linear", "triangular_matmul", tmp_path, {"T": "f16"})
    rng = np.random.default_rng(1)
    for m, k, n in [(70, 72, 72), (33, 100, 40), (100, 31, 17)]:
        lower, x = halves(rng, m, k), halves(rng, k, n)
        wanted = np.tril(lower).astype(np.float64) @ x
        poisoned = np.where(np.tri(m, k, dtype=bool), lower, np.float16("nan"))
        np.testing.assert_allclose(run(poisoned, x), wanted, rtol=2e-3, atol=2e-2)


def test_what_lies_above_the_diagonal_of_a_product_is_zero_whatever_it_would_be(tmp_path: Path) -> None:
    run = shipped("linear", "matmul_lower", tmp_path, {"T": "f16"})
    rng = np.random.default_rng(1)
    for m, k, n in [(70, 72, 136), (33, 100, 140), (1, 8, 8), (64, 0, 64)]:
        x, w = halves(rng, m, k), halves(rng, k, n)
        w[:, m:] = np.inf  # read by tiles on the diagonal
        with np.errstate(invalid="ignore"):
            wanted = np.where(np.tri(m, n, dtype=bool), x.astype(np.float64) @ w, 0)
        found = run(x, w)
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-2)
        assert not np.signbit(found[~np.tri(m, n, dtype=bool)]).any()


def test_a_transposed_convolution_spreads_every_input_point(tmp_path: Path) -> None:
    run = shipped("convolution", "conv2d_transposed", tmp_path, {"T": "f16"})
    rng = np.random.default_rng(2)
    for h, w, c, k in [(5, 7, 8, 16), (3, 2, 5, 3)]:
        x, weight = halves(rng, 2, h, w, c), halves(rng, 4, 4, c, k)
        whole = np.zeros((2, 2 * h + 2, 2 * w + 2, k))
        for r in range(4):
            for s in range(4):
                whole[:, r : r + 2 * h : 2, s : s + 2 * w : 2] += x.astype(np.float64) @ weight[r, s].astype(np.float64)
        np.testing.assert_allclose(run(x, weight), whole[:, 1:-1, 1:-1], rtol=2e-3, atol=2e-2)


def test_a_histogram_counts(tmp_path: Path) -> None:
    run = shipped("scatter", "histogram", tmp_path, {"T": "u8"})
    x = np.random.default_rng(3).integers(0, 200, 5000, dtype=np.uint8)
    np.testing.assert_array_equal(run(x), np.bincount(x, minlength=256))


def test_a_mean_by_key_leaves_out_keys_beyond_the_ends(tmp_path: Path) -> None:
    run = shipped("scatter", "scatter_mean", tmp_path, {})
    rng = np.random.default_rng(4)
    vox, f = rng.integers(-1, 9, 150, dtype=np.int32), rng.standard_normal((150, 40)).astype(np.float32)
    wanted = np.stack([f[vox == v].mean(0, dtype=np.float64) if (vox == v).any() else np.zeros(40) for v in range(9)])
    np.testing.assert_allclose(run(vox, f, np.zeros(9, np.float32)), wanted, rtol=1e-4, atol=1e-5)


def test_elements_above_a_bound_come_first(tmp_path: Path) -> None:
    run = shipped("scatter", "compact", tmp_path, {})
    x = np.random.default_rng(8).standard_normal(5000).astype(np.float32)
    count, at, y = run(x, 0.5)
    (wanted,) = np.nonzero(x > 0.5)
    assert int(count) == wanted.size
    np.testing.assert_array_equal(at[: wanted.size], wanted)
    np.testing.assert_array_equal(y[: wanted.size], x[wanted])


def test_voxels_hold_the_mean_of_their_points(tmp_path: Path) -> None:
    run = shipped("scatter", "voxelize_mean", tmp_path, {})
    rng = np.random.default_rng(9)
    p, f = rng.uniform(-1, 5, (300, 3)).astype(np.float32), rng.standard_normal((300, 7)).astype(np.float32)
    count, cell, num, mean = run(p, f, np.float32([0, 0, 0]), np.float32([1, 1, 2]))
    at = np.floor(p / np.float32([1, 1, 2])).astype(int)
    inside = ((at >= 0) & (at < [8, 8, 4])).all(1)
    numbers = (at[:, 2] * 8 + at[:, 1]) * 8 + at[:, 0]
    voxels, counts = np.unique(numbers[inside], return_counts=True)
    assert voxels.size > 64  # more than there is room for
    assert int(count) == voxels.size
    np.testing.assert_array_equal(cell, voxels[:64])
    np.testing.assert_array_equal(num, counts[:64])
    wanted = np.stack([f[inside & (numbers == v)].mean(0, dtype=np.float64) for v in voxels[:64]])
    np.testing.assert_allclose(mean, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("points, c, k", [(9, 64, 72), (66, 8, 40), (9, 13, 5)])
def test_rows_found_through_a_map_are_convolved(points: int, c: int, k: int, tmp_path: Path) -> None:
    run = shipped("sparse", "sparse_conv", tmp_path, {"T": "f16"})
    rng = np.random.default_rng(5)
    x, w = halves(rng, 50, c), halves(rng, points, c, k)
    table = rng.integers(-1, 50, (points, 70), dtype=np.int32)
    table[4:7] = -1
    rows = np.where(table[:, :, None] >= 0, x[np.maximum(table, 0)], 0).astype(np.float64)
    wanted = np.maximum(np.einsum("vic,vck->ik", rows, w.astype(np.float64)), 0)
    np.testing.assert_allclose(run(x=x, w=w, map=table), wanted, rtol=2e-3, atol=4e-2)
    perm = np.argsort((table >= 0).T @ (1 << np.arange(points, dtype=np.uint64)), kind="stable").astype(np.int32)
    tiles = np.zeros((128, points), bool)
    tiles[:70] = (table >= 0).T[perm]
    live = list_rows(tiles.reshape(2, 64, points).any(axis=1))
    np.testing.assert_array_equal(run(x=x, w=w, map=table, perm=perm, live=live), run(x=x, w=w, map=table))


def test_an_order_of_rows_and_lists_of_points_come_from_the_map_alone(tmp_path: Path) -> None:
    """The whole way: keys, their order, lists, and the convolution over them. Rows with equal keys meet the same filter
    points, neighbours differ in few, and the lists are as short as they can be."""
    keys, lists, conv = (shipped("sparse", name, tmp_path, types) for name, types in
                         (("sparse_keys", {}), ("sparse_lists", {}), ("sparse_conv", {"T": "f16"})))  # fmt: skip
    rng = np.random.default_rng(8)
    table = np.where(rng.random((27, 333)) < 0.2, rng.integers(0, 40, (27, 333)), -1).astype(np.int32)
    key = keys(table)
    sets = (table >= 0).T @ (np.uint32(1) << np.arange(27, dtype=np.uint32))
    np.testing.assert_array_equal(key ^ (key >> 1), sets)
    perm = np.argsort(key, kind="stable").astype(np.int32)
    live = lists(table, perm)
    tiles = np.zeros((384, 27), bool)
    tiles[:333] = (table >= 0).T[perm]
    np.testing.assert_array_equal(live, list_rows(tiles.reshape(6, 64, 27).any(axis=1)))
    many = np.concatenate([table, table, table])
    assert [row[0] for row in lists(many, perm)] == [3 * row[0] for row in live]
    x, w = halves(rng, 40, 16), halves(rng, 27, 16, 8)
    np.testing.assert_array_equal(conv(x=x, w=w, map=table, perm=perm, live=live), conv(x=x, w=w, map=table))


def test_boxes_suppress_later_ones(tmp_path: Path) -> None:
    run = shipped("boxes", "nms_mask", tmp_path, {})
    rng = np.random.default_rng(6)
    corner = rng.integers(0, 30, (75, 2))
    box = np.concatenate([corner, corner + rng.integers(1, 20, (75, 2))], 1).astype(np.float32)
    low, high = np.maximum(box[:, None, :2], box[None, :, :2]), np.minimum(box[:, None, 2:], box[None, :, 2:])
    both = np.maximum(high - low, 0).prod(2)
    area = (box[:, 2:] - box[:, :2]).prod(1)
    found = np.triu(both > 0.5 * (area[:, None] + area[None] - both), 1)
    words = np.pad(found, ((0, 0), (0, 96 - 75))).reshape(75, 3, 32)
    assert found.any()
    np.testing.assert_array_equal(run(box, 0.5), (words << np.arange(32, dtype=np.uint64)).sum(2).astype(np.uint32))


def test_boxes_are_suppressed_greedily(tmp_path: Path) -> None:
    """Against suppression box by box; boxes on whole numbers, so that every comparison is certain."""
    run = shipped("boxes", "nms", tmp_path, {})
    rng = np.random.default_rng(8)
    for count in (0, 1, 31, 32, 33, 100, 300):
        corner = rng.integers(0, 40, (count, 2))
        box = np.concatenate([corner, corner + rng.integers(1, 20, (count, 2))], 1).astype(np.float32)
        kept: list[int] = []
        for i, one in enumerate(box):
            low, high = np.maximum(one[:2], box[kept, :2]), np.minimum(one[2:], box[kept, 2:])
            both = np.maximum(high - low, 0).prod(1)
            areas = (one[2:] - one[:2]).prod() + (box[kept, 2:] - box[kept, :2]).prod(1)
            if not (both > 0.25 * (areas - both)).any():
                kept.append(i)
        np.testing.assert_array_equal(np.flatnonzero(run(box, 0.25)), kept)


def test_torch_computes_the_same() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    lower, x = (rng.standard_normal((40, 40)).astype(np.float32) for _ in range(2))
    mine = reference(load_algorithm(f"{ROOT}/kernels/linear.py:triangular_matmul"), types={"T": "f32"})(l=lower, x=x)
    torch.testing.assert_close(torch.as_tensor(mine["y"]).float(), torch.tril(torch.tensor(lower)) @ torch.tensor(x))
    mine = reference(load_algorithm(f"{ROOT}/kernels/linear.py:matmul_lower"), types={"T": "f16"})(
        x=lower.astype(np.float16), w=x.astype(np.float16)
    )
    wanted = torch.tril(torch.tensor(lower).half().float() @ torch.tensor(x).half().float())
    torch.testing.assert_close(torch.as_tensor(mine["y"]).float(), wanted, rtol=2e-3, atol=2e-2)
    image, weight = torch.tensor(halves(rng, 2, 5, 6, 8)), torch.tensor(halves(rng, 4, 4, 8, 3))
    transposed = reference(load_algorithm(f"{ROOT}/kernels/convolution.py:conv2d_transposed"), types={"T": "f16"})
    mine = transposed(x=image.numpy(), w=weight.numpy())
    wanted = torch.nn.functional.conv_transpose2d(
        image.float().permute(0, 3, 1, 2), weight.float().permute(2, 3, 0, 1), stride=2, padding=1
    )
    torch.testing.assert_close(torch.as_tensor(mine["y"]).float(), wanted.permute(0, 2, 3, 1), rtol=2e-3, atol=2e-3)
