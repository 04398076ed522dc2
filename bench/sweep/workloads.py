"""What one question is about: sizes, and for sparse convolutions the arrays that make them what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.lidar import SCENES, Integers, scan, voxelise
from bench.neighbours import lists_of, order_of, pairs
from bench.networks import NETWORKS, Kind, Layer, Level, levels_of, map_of
from bench.sweep.casefile import CaseFile, Lidar, Shape

GIVEN: Final = "given"


@dataclass(frozen=True, slots=True)
class Workload:
    """``arrays`` are inputs that the pack holds; ``words`` are filled into the peers' texts, ``numbers`` may be used in
    formulas. ``small``: for the emulator."""

    name: str
    shape: Shape
    arrays: Mapping[str, str]
    words: Mapping[str, str]
    numbers: Mapping[str, int]
    small: bool = False


def workloads_of(case: CaseFile, folder: Path) -> Iterator[Workload]:
    """The layers that a case names, each kind of layer once; their maps and coordinates are written to the pack in
    ``folder``. Raises BenchError."""
    for lidar in case.lidar:
        yield from _layers(case, lidar, folder)


def _layers(case: CaseFile, lidar: Lidar, folder: Path) -> Iterator[Workload]:
    if lidar.network not in NETWORKS:
        raise lidar.spot.error(f"there is no network {lidar.network}; there are {', '.join(NETWORKS)}")
    if lidar.scan not in SCENES:
        raise lidar.spot.error(f"there is no scan {lidar.scan}; there are {', '.join(SCENES)}")
    cells = voxelise(scan(SCENES[lidar.scan], lidar.seed), lidar.voxel)
    levels = levels_of(lidar.network, cells)
    place = f"{lidar.scan}-{lidar.seed}-{'-'.join(f'{side:g}' for side in lidar.voxel)}"
    chosen: dict[tuple[Kind, int, int, int], list[Layer]] = {}
    for layer in NETWORKS[lidar.network]:
        if not lidar.channels or {layer.inputs, layer.outputs} <= set(lidar.channels):
            chosen.setdefault((layer.kind, layer.level, layer.inputs, layer.outputs), []).append(layer)
    for layers in list(chosen.values())[: lidar.most]:
        yield _workload(case, lidar, layers, levels, place, folder)


def _workload(
    case: CaseFile, lidar: Lidar, layers: list[Layer], levels: list[Level], place: str, folder: Path
) -> Workload:
    layer = layers[0]
    found, inputs = map_of(layer, levels)
    key = f"{place}-{lidar.network}-{layer.kind.value}{layer.level}"
    order = order_of(found)
    made = {"map": found, "perm": order, "live": lists_of(found, order)}
    arrays = {name: _written(folder, f"{key}.{name}", made[name]) for name in made if name not in case.absent}
    cells = levels[layer.level].cells
    words = {"coords": "none", "shape": "none", "kind": layer.kind.value}
    if layer.kind is Kind.SAME:
        words = {"coords": _written(folder, f"{key}.coords", _batched(cells)), "kind": "subm"}
        words["shape"] = "x".join(str(int(side) + 1) for side in cells.max(axis=0)[::-1])
    dims = {"P": inputs, "C": layer.inputs, "V": found.shape[0], "K": layer.outputs, "N": found.shape[1]}
    shape = Shape(dims, case.goal, case.asked, lidar.spot)
    name = f"{lidar.network}.{layer.kind.value}{layer.level}.{place}.{layer.inputs}to{layer.outputs}"
    return Workload(name, shape, arrays, words, {"pairs": pairs(found), "layers": len(layers)})


def _written(folder: Path, name: str, array: Integers) -> str:
    """The array's file in the pack; layers of a level share it."""
    file = f"{GIVEN}/{name}.npz"
    if not (folder / file).exists():
        (folder / GIVEN).mkdir(exist_ok=True)
        np.savez_compressed(folder / file, allow_pickle=False, value=array)
    return file


def _batched(cells: Integers) -> Integers:
    """Batch 0, z, y, x: the order that spconv and its kin want."""
    return np.ascontiguousarray(np.concatenate([np.zeros((len(cells), 1), np.int32), cells[:, ::-1]], axis=1))
