"""The oldest driver that loads a cubin, as the CUDA version that ``cuDriverGetVersion`` reports (13000 is CUDA 13.0).

A driver loads cubins of every assembler of its own major version or an earlier one ("minor version compatibility", CUDA
Compatibility guide, chapter 2), provided that it knows the architecture. The PTX version plays no part: PTX is not
given to the driver.
"""

from __future__ import annotations

import re
from typing import Final

from texpr.targets import Target

_LAUNCHER: Final = 11080
"""``cuLaunchKernelEx``, which every launcher calls, is there since CUDA 11.8."""

_ARCHITECTURES: Final = {
    "sm_80": 11000, "sm_86": 11010, "sm_87": 11040, "sm_89": 11080, "sm_90a": 11080,
    "sm_100a": 12080, "sm_110a": 13000, "sm_120a": 12080,
}  # fmt: skip
"""The CUDA version that brought each architecture (release notes of the toolkits)."""


def minimum_driver(release: str, target: Target) -> int:
    """Of a cubin for ``target`` by the assembler with this release string (``release 13.0, V13.0.88``).

    Raises ValueError for a string that names no release.
    """
    found = re.search(r"release (\d+)\.\d+", release)
    if found is None:
        raise ValueError(f"{release!r} names no release")
    return max(1000 * int(found[1]), _ARCHITECTURES[target.name], _LAUNCHER)
