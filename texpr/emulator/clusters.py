"""Clusters of a launch: how many programs they have, and which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.faults import LaunchError
from texpr.emulator.kernel import Kernel

_FIRST_SM = 90
PORTABLE = 8
"""Programs per cluster that every device with clusters can run; more need an attribute of the kernel."""


def cluster_of_launch(
    kernel: Kernel, grid: tuple[int, int, int], given: Sequence[int] | None, sm: int
) -> tuple[int, int, int]:
    """Programs per cluster along x, y and z; raises `LaunchError` if kernel, grid, launch and device do not agree."""
    if given is None:
        if kernel.explicit_cluster:
            raise LaunchError(f"{kernel.name}: the launch must give the cluster ({kernel.cluster or 'any'})")
        cluster = kernel.cluster or (1, 1, 1)
    else:
        padded = [int(extent) for extent in given] + [1] * (3 - len(given))
        if len(padded) != 3 or min(padded) < 1:
            raise LaunchError(f"{kernel.name}: cluster {tuple(given)} must be one to three positive extents")
        cluster = (padded[0], padded[1], padded[2])
        if kernel.cluster is not None and kernel.cluster != cluster:
            raise LaunchError(f"{kernel.name}: the cluster is {cluster}, the kernel requires {kernel.cluster}")
    if cluster != (1, 1, 1) and sm < _FIRST_SM:
        raise LaunchError(f"{kernel.name}: the cluster is {cluster}, and sm_{sm} has no clusters")
    if cluster[0] * cluster[1] * cluster[2] > PORTABLE:
        raise LaunchError(f"{kernel.name}: the cluster {cluster} has more than {PORTABLE} programs")
    if any(extent % together for extent, together in zip(grid, cluster, strict=True)):
        raise LaunchError(f"{kernel.name}: the grid {grid} is not a multiple of the cluster {cluster}")
    return cluster


def programs_by_cluster(grid: tuple[int, int, int], cluster: tuple[int, int, int]) -> NDArray[np.int64]:
    """Linear indices of programs [clusters, rank]."""
    linear = np.arange(grid[0] * grid[1] * grid[2]).reshape(grid[::-1])
    z, y, x = (extent // together for extent, together in zip(grid[::-1], cluster[::-1], strict=True))
    split = linear.reshape(z, cluster[2], y, cluster[1], x, cluster[0])
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(z * y * x, -1)
