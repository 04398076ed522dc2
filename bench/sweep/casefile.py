"""Case files: what is measured of a kernel. ``bench/cases/README.md`` is their reference."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from bench.measure.questions import Goal
from bench.peers import PEERS
from bench.sweep.yaml_lines import BenchError, Spot, read_yaml

CASE_VERSION: Final = 1
_KEYS: Final = (
    "bench", "kernel", "title", "asked", "targets", "types", "statics", "schedule", "space", "flops", "bytes", "unit",
    "constants", "scalars", "absent", "reference", "peers", "goal", "shapes", "small", "lidar",
)  # fmt: skip
_SHAPE_KEYS: Final = ("goal", "asked")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the free dims, and the goal at them; ``asked`` is the date of the question."""

    dims: Mapping[str, int]
    goal: Goal | None
    asked: str
    spot: Spot


@dataclass(frozen=True, slots=True)
class Lidar:
    """Layers of a network on a scan, instead of shapes: see ``workloads.py``."""

    network: str
    scan: str
    voxel: tuple[float, ...]
    seed: int
    channels: tuple[int, ...]
    most: int | None
    spot: Spot


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A file of ``bench/cases``. ``types`` and ``statics`` are bindings, each asked on its own. ``schedule`` is a
    schedule, ``space`` one whose scalars may be lists; of neither, the kernel's own is meant. ``flops`` and ``bytes``
    are formulas over dims and statics; ``peers`` maps their names to what they are to compute. ``small`` are the sizes
    that the emulator is given, ``small_numbers`` what formulas may use there besides. Without ``reference``, peers are
    compared with our kernel, which is checked at other sizes."""

    name: str
    file: Path
    kernel: str
    title: str
    asked: str
    targets: tuple[str, ...]
    types: tuple[Mapping[str, str], ...]
    statics: tuple[Mapping[str, int], ...]
    schedule: Path | None
    space: Path | None
    flops: str | None
    bytes: str | None
    unit: str | None
    constants: Mapping[str, str]
    scalars: Mapping[str, float]
    absent: tuple[str, ...]
    reference: bool
    peers: Mapping[str, str]
    shapes: tuple[Shape, ...]
    small: Mapping[str, int] | None
    small_numbers: Mapping[str, int]
    lidar: tuple[Lidar, ...]
    goal: Goal | None
    spots: Mapping[str, Spot]


def read_case(file: Path, shown: Path | None = None) -> CaseFile:
    """Raises BenchError with file and line."""
    top = read_yaml(file, shown)
    keys = top.mapping("a case", _KEYS)
    for name in ("bench", "kernel", "asked", "peers"):
        if name not in keys:
            raise top.error(f"a case needs the key {name!r}")
    if keys["bench"].value != CASE_VERSION:
        raise keys["bench"].error(f"this version reads 'bench: {CASE_VERSION}', not {keys['bench'].value!r}")
    if ("shapes" in keys) == ("lidar" in keys):
        raise top.error("a case has either shapes or lidar")
    if "schedule" in keys and "space" in keys:
        raise keys["space"].error("a case has a schedule or a space, not both")
    peers = _texts(keys["peers"], "peers", tuple(PEERS))
    asked = _date(keys["asked"])
    goal = _goal(keys["goal"], peers) if "goal" in keys else None
    base = file.parent
    return CaseFile(
        name=file.stem,
        file=shown or file,
        kernel=keys["kernel"].a(str, "kernel"),
        title=keys["title"].a(str, "title") if "title" in keys else file.stem,
        asked=asked,
        targets=tuple(_listed(keys.get("targets"), "targets", lambda spot: spot.a(str, "a target"))),
        types=_bindings(keys.get("types"), "types", lambda spot: spot.a(str, "a type")),
        statics=_bindings(keys.get("statics"), "statics", lambda spot: spot.a(int, "a static")),
        schedule=_path(keys.get("schedule"), base),
        space=_path(keys.get("space"), base),
        flops=_formula(keys.get("flops"), "flops"),
        bytes=_formula(keys.get("bytes"), "bytes"),
        unit=keys["unit"].a(str, "unit") if "unit" in keys else None,
        constants={k: str(v.value) for k, v in _mapping(keys.get("constants"), "constants").items()},
        scalars={k: v.a(float, k) for k, v in _mapping(keys.get("scalars"), "scalars").items()},
        absent=tuple(_listed(keys.get("absent"), "absent", lambda spot: spot.a(str, "an argument"))),
        reference=keys["reference"].a(bool, "reference") if "reference" in keys else True,
        peers=peers,
        shapes=tuple(_listed(keys.get("shapes"), "shapes", lambda spot: _shape(spot, peers, goal, asked))),
        small=_sizes(keys["small"]) if "small" in keys else None,
        small_numbers={"pairs": 0, "layers": 0} if "lidar" in keys else {},
        lidar=tuple(_listed(keys.get("lidar"), "lidar", _lidar)),
        goal=goal,
        spots=keys,
    )


def read_cases(folder: Path) -> list[CaseFile]:
    """All case files of a folder, by name. Raises BenchError."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise BenchError(f"{folder}: there are no case files")
    return [read_case(file) for file in files]


# ---- parts


def _mapping(spot: Spot | None, what: str) -> dict[str, Spot]:
    return {} if spot is None else spot.mapping(what)


def _listed(spot: Spot | None, what: str, item: Callable[[Spot], _T]) -> list[_T]:
    return [] if spot is None else [item(each) for each in spot.items(what)]


def _texts(spot: Spot, what: str, known: tuple[str, ...]) -> dict[str, str]:
    return {name: each.a(str, f"{what}: {name}") for name, each in spot.mapping(what, known).items()}


def _bindings(spot: Spot | None, what: str, item: Callable[[Spot], Any]) -> tuple[Mapping[str, Any], ...]:
    """A list of bindings, or one; without the key, one that binds nothing."""
    if spot is None:
        return ({},)
    many = spot.items(what) if isinstance(spot.value, list) else [spot]
    if not many:
        raise spot.error(f"{what} is empty")
    return tuple({name: item(value) for name, value in each.mapping(what).items()} for each in many)


def _path(spot: Spot | None, base: Path) -> Path | None:
    if spot is None:
        return None
    path = base / spot.a(str, "a file")
    if not path.is_file():
        raise spot.error(f"there is no file {path}")
    return path


def _formula(spot: Spot | None, what: str) -> str | None:
    return None if spot is None else str(spot.value if isinstance(spot.value, int) else spot.a(str, what))


def _date(spot: Spot) -> str:
    value = spot.value
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise spot.error(f"asked should be a date such as 2026-11-21, not {value!r}")


def _goal(spot: Spot, peers: Mapping[str, str]) -> Goal:
    """``{against: [cublas], ratio: 0.97}``."""
    keys = spot.mapping("a goal", ("against", "ratio"))
    for name in ("against", "ratio"):
        if name not in keys:
            raise spot.error(f"a goal needs the key {name!r}")
    against = []
    for each in keys["against"].items("against"):
        name = each.a(str, "a peer")
        if name not in peers:
            raise each.error(f"{name} is none of this case's peers: {', '.join(peers)}")
        against.append(name)
    ratio = keys["ratio"].a(float, "ratio")
    if not against or not 0 < ratio < 100:
        raise spot.error("a goal is a ratio between 0 and 100 against one peer or more")
    return Goal(tuple(against), ratio)


def _sizes(spot: Spot) -> dict[str, int]:
    sizes = {name: each.a(int, name) for name, each in spot.mapping("sizes").items()}
    if any(size < 0 for size in sizes.values()):
        raise spot.error("a size is negative")
    return sizes


def _shape(spot: Spot, peers: Mapping[str, str], goal: Goal | None, asked: str) -> Shape:
    """Sizes with, if wanted, a ``goal`` (a goal, or a ratio against the case's) and the date of the question."""
    keys = dict(spot.mapping("a shape"))
    extra = {name: keys.pop(name) for name in _SHAPE_KEYS if name in keys}
    own = goal
    if "goal" in extra:
        found = extra["goal"]
        if isinstance(found.value, dict):
            own = _goal(found, peers)
        elif goal is None:
            raise found.error("the case has no goal that says against whom")
        else:
            own = Goal(goal.against, found.a(float, "goal"))
    sizes = _sizes(Spot(keys, spot.file, spot.line))
    return Shape(sizes, own, _date(extra["asked"]) if "asked" in extra else asked, spot)


def _lidar(spot: Spot) -> Lidar:
    keys = spot.mapping("lidar", ("network", "scan", "voxel", "seed", "channels", "most"))
    for name in ("network", "scan", "voxel"):
        if name not in keys:
            raise spot.error(f"lidar needs the key {name!r}")
    voxel = tuple(each.a(float, "a voxel's side") for each in keys["voxel"].items("voxel"))
    if len(voxel) != 3 or min(voxel) <= 0:
        raise keys["voxel"].error("voxel has three sides in metres: x, y, z")
    return Lidar(
        network=keys["network"].a(str, "network"),
        scan=keys["scan"].a(str, "scan"),
        voxel=voxel,
        seed=keys["seed"].a(int, "seed") if "seed" in keys else 0,
        channels=tuple(_listed(keys.get("channels"), "channels", lambda each: each.a(int, "channels"))),
        most=keys["most"].a(int, "most") if "most" in keys else None,
        spot=spot,
    )
