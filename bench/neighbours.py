"""Maps of sparse convolutions: which input row each output row meets at every filter point. All integer arithmetic."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.lidar import Integers, pack

Triple: TypeAlias = tuple[int, int, int]
"""Along x, y and z."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Points along each dim, and by how many voxels an output moves. ``padding`` is how far the filter reaches below
    its output's own place."""

    size: Triple
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)

    def points(self) -> list[Triple]:
        """Offsets from an output's place in the order of the weights: z slowest, x fastest."""
        (a, b, c), (p, q, r) = self.size, self.padding
        return [(x - p, y - q, z - r) for z, y, x in itertools.product(range(c), range(b), range(a))]


def cube(size: int, stride: int = 1) -> Filter:
    """As many points along each dim; an odd number is centred."""
    pad = size // 2 if size % 2 else 0
    return Filter((size,) * 3, (stride,) * 3, (pad,) * 3)


def submanifold(cells: Integers, size: int = 3) -> Integers:
    """``map[v, i]``: the row at voxel i plus filter point v, -1 where there is none. ``size`` is odd."""
    return rows_found(cells, cells, cube(size))


def strided(cells: Integers, shape: Filter) -> tuple[Integers, Integers]:
    """Output voxels in the order in which inputs reach them first, and the map."""
    step = np.asarray(shape.stride, np.int64)
    reached = cells.astype(np.int64)[:, None, :] - np.asarray(shape.points(), np.int64)[None]
    whole = (reached % step == 0).all(axis=2) & (reached >= 0).all(axis=2)
    outputs = (reached // step)[whole]
    _, first = np.unique(pack(outputs), return_index=True)
    made = np.ascontiguousarray(outputs[np.sort(first)], dtype=np.int32)
    return made, rows_found(cells, made, shape)


def inverse(map_: Integers, inputs: int) -> Integers:
    """The map of the transposed convolution: ``inverse[v, j]`` is the output that met input j at filter point v."""
    found = np.full((map_.shape[0], inputs), -1, np.int32)
    for number, row in enumerate(map_):
        there = np.flatnonzero(row >= 0)
        found[number, row[there]] = there
    return found


def rows_found(inputs: Integers, outputs: Integers, shape: Filter) -> Integers:
    """For every filter point and output voxel, the row of the input voxel there, or -1."""
    keys = pack(inputs)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    base = outputs.astype(np.int64) * np.asarray(shape.stride, np.int64)
    points = shape.points()
    found = np.full((len(points), len(outputs)), -1, np.int32)
    for number, offset in enumerate(points):
        if not len(ordered):
            break
        wanted = base + np.asarray(offset, np.int64)
        legal = (wanted >= 0).all(axis=1)
        wanted_keys = pack(np.where(legal[:, None], wanted, 0))
        place = np.minimum(np.searchsorted(ordered, wanted_keys), len(ordered) - 1)
        there = legal & (ordered[place] == wanted_keys)
        found[number, there] = order[place[there]]
    return found


def pairs(map_: Integers) -> int:
    """How many products of rows a map asks for."""
    return int(np.count_nonzero(map_ >= 0))


# ---- statistics


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a submanifold map of 27 points: mean number of neighbours with the voxel itself, share of voxels that are
    alone, and how often a neighbour is there by kind: across a face in the plane, across a face up or down, an edge, a
    corner."""

    voxels: int
    mean: float
    alone: float
    face_xy: float
    face_z: float
    edge: float
    corner: float


def statistics(cells: Integers) -> Statistics:
    """Of the submanifold map of 27 points. Raises ValueError for no voxels."""
    if not len(cells):
        raise ValueError("no voxels")
    there = submanifold(cells) >= 0
    count = there.sum(axis=0)
    shares: dict[str, list[float]] = {}
    for point, share in zip(cube(3).points(), there.mean(axis=1), strict=True):
        shares.setdefault(_kind(point), []).append(float(share))
    means = {kind: float(np.mean(found)) for kind, found in shares.items()}
    return Statistics(
        len(cells), float(count.mean()), float((count == 1).mean()), means["face_xy"], means["face_z"], means["edge"],
        means["corner"],
    )  # fmt: skip


def _kind(point: Triple) -> str:
    distance = sum(abs(each) for each in point)
    if distance == 1:
        return "face_z" if point[2] else "face_xy"
    return {0: "self", 2: "edge", 3: "corner"}[distance]


def redundancy(map_: NDArray[np.int32], rows: int, *, ordered: bool) -> float:
    """Products that tiles of ``rows`` compute over those that are asked for, when a tile leaves out the filter points
    that none of its rows has; ``ordered``: rows are sorted by which points they have."""
    there = map_ >= 0
    if ordered:
        weight = (1 << np.arange(there.shape[0], dtype=np.int64))[:, None]
        there = there[:, np.argsort((there * weight).sum(axis=0), kind="stable")]
    computed = sum(
        int(there[:, start : start + rows].any(axis=1).sum()) * rows for start in range(0, there.shape[1], rows)
    )
    return computed / max(int(there.sum()), 1)


def order_of(found: Integers) -> Integers:
    """Of a map i32[V, N], V <= 32: the rows, those that meet nearly the same filter points beside each other (by the
    ranks of their sets in Gray code)."""
    rank = np.zeros(found.shape[1], np.uint32)
    for point, row in enumerate(found):
        rank |= (row >= 0).astype(np.uint32) << np.uint32(point)
    for shift in (1, 2, 4, 8, 16):
        rank ^= rank >> np.uint32(shift)
    return np.argsort(rank, kind="stable").astype(np.int32)


def lists_of(found: Integers, order: Integers, rows: int = 64) -> Integers:
    """i32[ceil(N / rows), V + 1]: the filter points that any of so many rows of the order meets, their count first."""
    points, size = found.shape
    there = np.zeros((points, -(-size // rows) * rows), bool)
    there[:, :size] = found[:, order] >= 0
    met = there.reshape(points, -1, rows).any(2).T
    lists = np.zeros((len(met), points + 1), np.int32)
    lists[:, 0] = met.sum(1)
    tile, point = np.nonzero(met)
    lists[tile, np.cumsum(met, 1)[tile, point]] = point
    return lists
