"""The convolutions of networks on scans, layer by layer: shapes, and what their maps are made of.

SparseResUNet42 is the MinkUNet of torchsparse (``backbones/unet.py``), CenterPoint's and SECOND's are the backbones of
OpenPCDet (``backbones_3d/spconv_backbone.py``). Layers of one level share a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bench.lidar import Integers
from bench.neighbours import Filter, cube, inverse, strided, submanifold


class Kind(Enum):
    """``SAME``: outputs where inputs are; ``DOWN``: to the next coarser level; ``UP``: back to where a ``DOWN`` came
    from."""

    SAME = "same"
    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution: ``level`` counts strided ones before its outputs (``UP``: before those that it returns to)."""

    name: str
    kind: Kind
    level: int
    inputs: int
    outputs: int
    shape: Filter


@dataclass(frozen=True, slots=True)
class Level:
    """Voxels of a level, the submanifold map on them, and the map from the level before."""

    cells: Integers
    same: Integers
    down: Integers | None


def _res_blocks(name: str, level: int, first: int, outputs: int, count: int) -> Iterator[Layer]:
    inputs = first
    for block in range(count):
        yield Layer(f"{name}.{block}.a", Kind.SAME, level, inputs, outputs, cube(3))
        yield Layer(f"{name}.{block}.b", Kind.SAME, level, outputs, outputs, cube(3))
        inputs = outputs


def _unet() -> tuple[Layer, ...]:
    """SparseResUNet42: a stem of two, four levels down and four up, each with two residual blocks."""
    down, up = cube(2, 2), cube(2, 2)
    layers = [
        Layer("stem.0", Kind.SAME, 0, 4, 32, cube(3)),
        Layer("stem.1", Kind.SAME, 0, 32, 32, cube(3)),
    ]
    for level, (inputs, outputs) in enumerate([(32, 32), (32, 64), (64, 128), (128, 256)], 1):
        layers.append(Layer(f"down{level}", Kind.DOWN, level, inputs, inputs, down))
        layers += _res_blocks(f"enc{level}", level, inputs, outputs, 2)
    for level, inputs, middle, skip, outputs in [
        (3, 256, 256, 128, 256), (2, 256, 128, 64, 128), (1, 128, 96, 32, 96), (0, 96, 96, 32, 96),
    ]:  # fmt: skip
        layers.append(Layer(f"up{level}", Kind.UP, level, inputs, middle, up))
        layers += _res_blocks(f"dec{level}", level, middle + skip, outputs, 2)
    return tuple(layers)


_PLANAR: Final = Filter((3, 3, 3), (2, 2, 2), (1, 1, 0))
"""The last strided convolution of both backbones does not pad along z."""
_OUT: Final = Filter((1, 1, 3), (1, 1, 2), (0, 0, 0))


def _backbone(points: int, steps: tuple[tuple[int, int], ...], blocks: int, last: int) -> tuple[Layer, ...]:
    """Submanifold layers at full size, then strided ones with ``blocks`` submanifold layers each, and one along z."""
    first = steps[0][0]
    layers = [Layer("input", Kind.SAME, 0, points, first, cube(3))]
    layers += [Layer(f"conv1.{n}", Kind.SAME, 0, first, first, cube(3)) for n in range(blocks if blocks > 2 else 1)]
    for level, (inputs, outputs) in enumerate(steps, 1):
        shape = _PLANAR if level == len(steps) else cube(3, 2)
        layers.append(Layer(f"down{level}", Kind.DOWN, level, inputs, outputs, shape))
        layers += [Layer(f"conv{level + 1}.{n}", Kind.SAME, level, outputs, outputs, cube(3)) for n in range(blocks)]
    layers.append(Layer("out", Kind.DOWN, len(steps) + 1, steps[-1][1], last, _OUT))
    return tuple(layers)


NETWORKS: Final[Mapping[str, tuple[Layer, ...]]] = {
    "sparse_res_unet42": _unet(),
    "centerpoint": _backbone(5, ((16, 32), (32, 64), (64, 128)), 4, 128),
    "second": _backbone(4, ((16, 32), (32, 64), (64, 64)), 2, 128),
}


def levels_of(network: str, cells: Integers) -> list[Level]:
    """The voxels of all levels of a network on a scan's voxels. Raises KeyError for an unknown network."""
    found = [Level(cells, submanifold(cells), None)]
    for layer in NETWORKS[network]:
        if layer.kind is Kind.DOWN:
            made, down = strided(found[-1].cells, layer.shape)
            found.append(Level(made, submanifold(made), down))
    return found


def map_of(layer: Layer, levels: list[Level]) -> tuple[Integers, int]:
    """A layer's map and its number of input rows."""
    level = levels[layer.level]
    match layer.kind:
        case Kind.SAME:
            return level.same, len(level.cells)
        case Kind.DOWN:
            before = levels[layer.level - 1].cells
            assert level.down is not None
            return level.down, len(before)
        case Kind.UP:
            coarse = levels[layer.level + 1]
            assert coarse.down is not None
            return inverse(coarse.down, len(level.cells)), len(coarse.cells)
