"""Scans of a made-up world by a rotating lidar, and the voxels in them: workloads for sparse convolution.

Random voxels have hardly any neighbours, and shells of spheres have too many in too regular a way; both flatter a
sparse convolution. Rays cast into a street scene give what real scans give: per voxel 6 to 8 neighbours of 27 at 10 cm,
few voxels alone, and few different neighbourhoods. The world is a street on undulating ground between buildings, with
cars, poles, people and vegetation that rays enter to a random depth; the nearest hit counts, ranges have noise, and
some returns are lost. Everything follows from the seed.

    points = scan(SCENES["waymo64"], seed=0)           f64[N, 3] in metres, x forward, z up, the sensor at (0, 0, 0)
    grid = voxelise(points, (0.1, 0.1, 0.1))           i32[V, 3] of x, y, z, in the order in which they are first met
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Sensor:
    """``beams`` between two elevations in degrees, ``azimuths`` per turn, ``sweeps`` one after another while the car
    moves ``step`` metres between them; ``height`` above the ground, ``reach`` in metres."""

    beams: int
    low: float
    high: float
    azimuths: int
    height: float
    reach: float
    sweeps: int = 1
    step: float = 0.0


SENSORS: Final = {
    "waymo64": Sensor(64, -17.6, 2.4, 2650, 1.9, 75.0),
    "kitti64": Sensor(64, -24.8, 2.0, 2048, 1.73, 80.0),
    "nuscenes32": Sensor(32, -30.67, 10.67, 1084, 1.84, 70.0, sweeps=10, step=0.35),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A sensor in a street of which ``street`` metres are half the width, with ``roughness`` metres of grass and stones
    on the ground."""

    sensor: Sensor
    street: float = 14.0
    roughness: float = 0.03


SCENES: Final = {
    "waymo64": Scene(SENSORS["waymo64"]),
    "kitti64": Scene(SENSORS["kitti64"]),
    "kitti64_fine": Scene(SENSORS["kitti64"], street=16.0, roughness=0.1),
    "nuscenes32": Scene(SENSORS["nuscenes32"], street=12.0),
}
"""``kitti64_fine`` is for voxels of 5 cm: surfaces as smooth as in the others would be too dense there."""


@dataclass(frozen=True, slots=True)
class World:
    """What rays can hit. ``boxes``: centre, half sizes, cosine and sine of the heading; ``posts``: centre, radius,
    height; ``crowns``: centre, radius, and the mean depth to which a ray goes in. ``street`` is half the road's width,
    ``roughness`` the height of what lies on the ground."""

    boxes: Floats
    posts: Floats
    crowns: Floats
    street: float
    roughness: float


_RANGE_NOISE: Final = 0.02
_DROPPED: Final = 0.08
_CURB: Final = 0.15
_GROUND_STEPS: Final = 8


def world(seed: int, street: float, roughness: float) -> World:
    """A street along x with what stands beside and on it."""
    random = np.random.default_rng((seed, 1))
    boxes: list[Sequence[float]] = []
    for side in (-1.0, 1.0):
        x = -85.0
        while x < 85.0:  # buildings, with gaps
            length, depth, height = random.uniform(9, 26), random.uniform(6, 12), random.uniform(4, 14)
            back = street + random.uniform(4, 11)
            boxes.append(_box(x + length / 2, side * (back + depth / 2), height / 2, length, depth, height, 0.0))
            x += length + random.uniform(2, 14)
        x = -75.0
        while x < 75.0:  # parked cars
            if random.random() < 0.6:
                turn = random.normal(0, 0.04)
                boxes.append(_box(x, side * (street - 1.4 + random.normal(0, 0.15)), 0.75, 4.4, 1.8, 1.5, turn))
            x += random.uniform(5.5, 10)
    for _ in range(10):  # cars that drive
        x, lane = random.uniform(-70, 70), random.choice([-0.55, -0.2, 0.2, 0.55]) * street
        if abs(x) > 6:
            boxes.append(_box(x, lane, 0.8, 4.6, 1.9, 1.6, random.normal(0, 0.08)))
    posts = [
        (random.uniform(-75, 75), side * (street + random.uniform(0.4, 3.5)), random.uniform(0.06, 0.25), height)
        for side in (-1.0, 1.0)
        for height in random.choice([1.7, 1.7, 4.0, 6.0, 8.0], 26)
    ]
    crowns = []
    for side in (-1.0, 1.0):
        for _ in range(34):
            radius = random.uniform(0.8, 3.0)
            high = radius * random.uniform(0.3, 0.9) if radius < 1.4 else random.uniform(2.5, 6.0)
            place = (random.uniform(-75, 75), side * (street + random.uniform(1.5, 9)), high)
            crowns.append((*place, radius, random.uniform(0.25, 0.9)))
    return World(np.asarray(boxes), np.asarray(posts), np.asarray(crowns), street, roughness)


def _box(x: float, y: float, z: float, length: float, width: float, height: float, turn: float) -> Sequence[float]:
    return (x, y, z, length / 2, width / 2, height / 2, float(np.cos(turn)), float(np.sin(turn)))


def ground(x: Floats, y: Floats, street: float) -> Floats:
    """Height of the ground: slow waves, a road that falls off to its sides, and a curb."""
    waves = 0.18 * np.sin(x / 17.0 + 0.4) * np.cos(y / 23.0) + 0.10 * np.sin(x / 7.3 + y / 11.0)
    flat = np.where(np.abs(y) < street, -0.02 * np.abs(y) / street, _CURB)
    return np.asarray(waves + flat - 0.1)


def scan(where: Scene, seed: int = 0) -> Floats:
    """Points of all sweeps in the frame of the last, in the order of the rays: sweep by sweep, azimuth by azimuth."""
    sensor, scene = where.sensor, world(seed, where.street, where.roughness)
    found = []
    for sweep in range(sensor.sweeps):
        random = np.random.default_rng((seed, 2, sweep))
        moved = (sensor.sweeps - 1 - sweep) * sensor.step
        points = _sweep(sensor, scene, random, -moved)
        points[:, 0] -= moved
        found.append(points)
    return np.concatenate(found)


def _sweep(sensor: Sensor, scene: World, random: np.random.Generator, origin_x: float) -> Floats:
    """One turn: the nearest hit along every ray, in the sensor's frame."""
    elevation = np.deg2rad(np.linspace(sensor.low, sensor.high, sensor.beams))
    azimuth = np.linspace(-np.pi, np.pi, sensor.azimuths, endpoint=False)
    azimuth += random.uniform(0, 2 * np.pi) / sensor.azimuths
    turn, lift = (each.reshape(-1) for each in np.meshgrid(azimuth, elevation, indexing="ij"))
    rays = np.stack([np.cos(lift) * np.cos(turn), np.cos(lift) * np.sin(turn), np.sin(lift)], axis=1)
    stand = float(ground(np.asarray(origin_x), np.asarray(0.0), scene.street))
    origin = np.asarray([origin_x, 0.0, stand + sensor.height])
    below = _to_ground(origin, rays, scene.street, sensor.reach)
    distance = below
    for hit in (_to_boxes(origin, rays, scene), _to_posts(origin, rays, scene)):
        distance = np.minimum(distance, hit)
    distance = np.minimum(distance, _to_crowns(origin, rays, scene, distance, random))
    on_ground = distance == below
    kept = (distance < sensor.reach) & (distance > 1.0) & (random.random(len(rays)) >= _DROPPED)
    distance = distance + random.normal(0, _RANGE_NOISE, len(rays))
    points = rays * distance[:, None]
    points[:, 2] += np.where(on_ground, random.normal(0, scene.roughness, len(rays)), 0.0)
    return np.asarray(points[kept])


def _to_ground(origin: Floats, rays: Floats, street: float, reach: float) -> Floats:
    """The distance at which rays go below the ground: bracketed by steps that grow, then halved."""
    far = np.full(len(rays), np.inf)
    before = np.zeros(len(rays))
    steps = reach * (np.arange(1, 41) / 40) ** 2
    for step in steps:
        now = np.full(len(rays), step)
        below = _height(origin, rays, now, street) < 0
        new = below & np.isinf(far)
        low, high = before[new], now[new]
        some = rays[new]
        for _ in range(_GROUND_STEPS + 12):
            middle = (low + high) / 2
            under = _height(origin, some, middle, street) < 0
            low, high = np.where(under, low, middle), np.where(under, middle, high)
        far[new] = high
        before = now
    return far


def _height(origin: Floats, rays: Floats, distance: Floats, street: float) -> Floats:
    at = origin + rays * distance[:, None]
    return np.asarray(at[:, 2] - ground(at[:, 0], at[:, 1], street))


def _to_boxes(origin: Floats, rays: Floats, scene: World) -> Floats:
    """Slab by slab, each box in its own frame, which stands on the ground below its centre."""
    best = np.full(len(rays), np.inf)
    for x, y, z, a, b, c, cosine, sine in scene.boxes:
        base = float(ground(np.asarray(x), np.asarray(y), scene.street))
        shift = origin - np.asarray([x, y, z + base])
        start = np.asarray([cosine * shift[0] + sine * shift[1], -sine * shift[0] + cosine * shift[1], shift[2]])
        forward, aside = cosine * rays[:, 0] + sine * rays[:, 1], -sine * rays[:, 0] + cosine * rays[:, 1]
        along = np.stack([forward, aside, rays[:, 2]])
        with np.errstate(divide="ignore", invalid="ignore"):
            first = (np.asarray([-a, -b, -c]) - start)[:, None] / along
            second = (np.asarray([a, b, c]) - start)[:, None] / along
        enter = np.minimum(first, second).max(axis=0)
        leave = np.maximum(first, second).min(axis=0)
        best = np.where((enter <= leave) & (enter > 0), np.minimum(best, enter), best)
    return best


def _to_posts(origin: Floats, rays: Floats, scene: World) -> Floats:
    """Upright cylinders."""
    best = np.full(len(rays), np.inf)
    flat = rays[:, 0] ** 2 + rays[:, 1] ** 2
    for x, y, radius, height in scene.posts:
        base = float(ground(np.asarray(x), np.asarray(y), scene.street))
        dx, dy = origin[0] - x, origin[1] - y
        half = rays[:, 0] * dx + rays[:, 1] * dy
        inside = half**2 - flat * (dx**2 + dy**2 - radius**2)
        with np.errstate(invalid="ignore", divide="ignore"):
            distance = (-half - np.sqrt(np.maximum(inside, 0))) / flat
        top = origin[2] + rays[:, 2] * distance
        hit = (inside > 0) & (distance > 0) & (top > base) & (top < base + height)
        best = np.where(hit, np.minimum(best, distance), best)
    return best


def _to_crowns(origin: Floats, rays: Floats, scene: World, limit: Floats, random: np.random.Generator) -> Floats:
    """Spheres of leaves: a ray ends at an exponentially distributed depth, or comes out behind."""
    best = np.full(len(rays), np.inf)
    for x, y, z, radius, depth in scene.crowns:
        base = float(ground(np.asarray(x), np.asarray(y), scene.street))
        shift = origin - np.asarray([x, y, z + base])
        half = rays @ shift
        inside = half**2 - (float(shift @ shift) - radius**2)
        meets = np.flatnonzero((inside > 0) & (-half > 0))
        root = np.sqrt(inside[meets])
        enter, leave = -half[meets] - root, -half[meets] + root
        distance = enter + random.exponential(depth, len(meets))
        hit = (distance < leave) & (enter > 0) & (distance < limit[meets])
        best[meets[hit]] = np.minimum(best[meets[hit]], distance[hit])
    return best


# ---- voxels


def voxelise(points: Floats, voxel: Sequence[float], low: Sequence[float] = (-75.2, -75.2, -3.2)) -> Integers:
    """The voxels of sides ``voxel`` (metres, x y z) that hold points at or above the corner ``low``: coordinates x, y,
    z from 0, in the order of their first points, as hashing gives them."""
    cells = np.floor((points - np.asarray(low)) / np.asarray(voxel)).astype(np.int64)
    cells = cells[(cells >= 0).all(axis=1)]
    _, first = np.unique(pack(cells), return_index=True)
    return np.ascontiguousarray(cells[np.sort(first)], dtype=np.int32)


def pack(cells: NDArray[np.integer]) -> NDArray[np.int64]:
    """One number per coordinate triple; coordinates from -1 to 2**20 - 2. Raises ValueError for others."""
    if cells.size and (cells.min() < -1 or cells.max() > (1 << 20) - 2):
        raise ValueError("coordinates lie outside of [-1, 2**20 - 2]")
    wide = cells.astype(np.int64) + 1
    return np.asarray((wide[:, 0] << 40) | (wide[:, 1] << 20) | wide[:, 2])
