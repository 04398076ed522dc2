"""Scans have the neighbourhoods of real scans, and maps are what their voxels say."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.lidar import SCENES, Floats, Integers, pack, scan, voxelise
from bench.neighbours import (
    Filter,
    cube,
    inverse,
    lists_of,
    order_of,
    pairs,
    redundancy,
    statistics,
    strided,
    submanifold,
)
from bench.networks import NETWORKS, Kind, levels_of, map_of
from texpr.compile import load_algorithm
from texpr.lang.reference import reference


@cache
def points(scene: str, seed: int) -> Floats:
    return scan(SCENES[scene], seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neighbours_are_those_of_a_real_scan(seed: int) -> None:
    """The bands: 10 % of the mean and 0.03 of the share that is alone, of a real scan with 64 beams and more."""
    for voxel, mean, alone in (((0.1,) * 3, 6.28, 0.071), ((0.1, 0.1, 0.15), 6.77, 0.055), ((0.2,) * 3, 8.96, 0.019)):
        found = statistics(voxelise(points("waymo64", seed), voxel))
        assert found.mean == pytest.approx(mean, rel=0.1), voxel
        assert found.alone == pytest.approx(alone, abs=0.03), voxel
    found = statistics(voxelise(points("waymo64", seed), (0.1,) * 3))
    assert 70_000 < found.voxels < 130_000
    shares = (found.face_xy, found.face_z, found.edge, found.corner)
    assert shares == pytest.approx((0.34, 0.28, 0.20, 0.13), abs=0.05)


def test_small_voxels_need_rougher_ground() -> None:
    found = statistics(voxelise(points("kitti64_fine", 0), (0.05,) * 3))
    assert found.mean == pytest.approx(3.46, rel=0.1)
    assert found.alone == pytest.approx(0.29, abs=0.03)


def test_sorting_rows_by_their_neighbours_is_worth_what_it_is_on_real_scans() -> None:
    map_ = submanifold(voxelise(points("waymo64", 0), (0.1,) * 3))
    assert redundancy(map_, 128, ordered=False) == pytest.approx(4.2, rel=0.15)
    assert redundancy(map_, 128, ordered=True) == pytest.approx(2.2, rel=0.15)


def test_a_scan_follows_from_its_seed() -> None:
    again = scan(SCENES["waymo64"], 1)
    assert np.array_equal(points("waymo64", 1), again)
    assert not np.array_equal(points("waymo64", 1)[:1000], points("waymo64", 2)[:1000])


def test_voxels_keep_the_order_of_their_first_points() -> None:
    found = voxelise(np.asarray([[0.35, 0, 0], [0.05, 0, 0], [0.31, 0, 0], [-9, 0, 0]]), (0.1,) * 3, (0, 0, 0))
    assert found.tolist() == [[3, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="outside"):
        pack(np.asarray([[1 << 20, 0, 0]]))


def some_cells(seed: int = 0, count: int = 300) -> Integers:
    random = np.random.default_rng(seed)
    return voxelise(random.uniform(0, 9, (count, 3)), (1.0,) * 3, (0, 0, 0))


@pytest.mark.parametrize(
    "shape", [cube(3), cube(2, 2), cube(3, 2), Filter((3, 3, 3), (2, 2, 2), (1, 1, 0)), Filter((1, 1, 3), (1, 1, 2))]
)
def test_maps_are_those_of_a_dense_convolution(shape: Filter) -> None:
    cells = some_cells()
    outputs, map_ = (cells, submanifold(cells)) if shape == cube(3) else strided(cells, shape)
    rows = {tuple(int(each) for each in cell): row for row, cell in enumerate(cells)}
    for number, (z, y, x) in enumerate(itertools.product(*(range(size) for size in reversed(shape.size)))):
        place = outputs * np.asarray(shape.stride) + np.asarray([x, y, z]) - np.asarray(shape.padding)
        wanted = [rows.get(tuple(int(each) for each in cell), -1) for cell in place]
        assert map_[number].tolist() == wanted
    if shape != cube(3):
        assert (map_ >= 0).any(axis=0).all(), "every output has an input"
        assert len(np.unique(pack(outputs))) == len(outputs)


def test_merging_filters_partition_and_odd_ones_dilate() -> None:
    cells = some_cells()
    merged, map_ = strided(cells, cube(2, 2))
    assert pairs(map_) == len(cells), "each input goes to one output"
    back = inverse(map_, len(cells))
    assert pairs(back) == len(cells) and back.shape == (8, len(cells))
    assert len(strided(some_cells(count=20), cube(3, 2))[0]) > len(strided(some_cells(count=20), cube(2, 2))[0])
    assert len(merged) < len(cells)


def test_nothing_and_one_voxel() -> None:
    none = np.zeros((0, 3), np.int32)
    assert submanifold(none).shape == (27, 0)
    assert strided(none, cube(2, 2))[0].shape == (0, 3)
    assert pairs(submanifold(np.asarray([[4, 4, 4]], np.int32))) == 1


def test_networks_have_the_layers_of_their_papers() -> None:
    unet = NETWORKS["sparse_res_unet42"]
    assert len(unet) == 42
    assert [(each.inputs, each.outputs) for each in unet if each.kind is Kind.UP] == [
        (256, 256), (256, 128), (128, 96), (96, 96)
    ]  # fmt: skip
    assert len(NETWORKS["centerpoint"]) == 1 + 4 + 3 * 5 + 1
    assert len(NETWORKS["second"]) == 1 + 1 + 3 * 3 + 1


@pytest.mark.parametrize("network", list(NETWORKS))
def test_maps_fit_their_layers(network: str) -> None:
    levels = levels_of(network, some_cells(count=600))
    for layer in NETWORKS[network]:
        map_, inputs = map_of(layer, levels)
        a, b, c = layer.shape.size
        assert map_.shape[0] == a * b * c
        assert map_.max(initial=-1) < inputs and map_.shape[1] == len(levels[layer.level].cells)


@pytest.mark.parametrize("rows", [1, 64, 150])
def test_orders_and_lists_are_those_of_the_kernels(rows: int) -> None:
    """``perm`` and ``live`` of sparse_conv are hints: wrong ones would only be slow, or refused."""
    rng = np.random.default_rng(rows)
    found = np.where(rng.random((27, rows)) < 0.2, rng.integers(0, 90, (27, rows)), -1).astype(np.int32)
    order = order_of(found)
    kernels = Path(__file__).parents[2] / "kernels/sparse.py"
    keys = reference(load_algorithm(f"{kernels}:sparse_keys"))(map=found)["key"]
    assert (np.diff(keys[order].astype(np.int64)) >= 0).all() and sorted(order) == list(range(rows))
    live = reference(load_algorithm(f"{kernels}:sparse_lists"))(map=found, perm=order)["live"]
    assert np.array_equal(lists_of(found, order), live)
