"""The shadow of a buffer in global memory: who wrote and who read each of its granules.

Stamps are time << 32 | program << 8 | warp << 3 | flags, where the time is that of `checks.py`.  A granule is the
smallest piece that one access has covered so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.rows import Array

MOST_PROGRAMS = 1 << 24
TIME = 32
PROGRAM = 8
WARP = 3
WHO = 0xFFFF_FFF8
WHOSE_PROGRAM = 0xFFFF_FF00
NO_TIME = 0xFFFF_FFFF
# Flags of writers.
SCOPE = 3
ATOMIC = 4
# Flags of readers.
MANY_WARPS = 1
MANY_PROGRAMS = 2
CONSTANT = 4
READER_FLAGS = MANY_WARPS | MANY_PROGRAMS | CONSTANT
_LONGEST_LOG = 1 << 22

Stamps = NDArray[np.int64]


@dataclass(slots=True)
class GlobalShadow:
    """What is known about the granules of one buffer.

    `readers` has one reader per granule; if there are more that are not in order, flags say so, and `masks` has the
    warps (if they are of one program) or `log` all of them (granules and stamps, as long as that is short enough).
    `others` is a writer of another program that the last one is not ordered behind; `seen` is a strong reader of what
    the last writer wrote: whoever has seen a strong write is ordered behind it, if not behind what came before it.
    """

    size: int
    granule: int
    writers: Stamps | None = None
    others: Stamps | None = None
    seen: Stamps | None = None
    readers: Stamps | None = None
    masks: NDArray[np.uint32] | None = None
    published: NDArray[Any] | None = None
    log: list[tuple[Array, Stamps]] = field(default_factory=list)
    logged: int = 0
    pending: list[tuple[Array, Stamps, Array | None]] = field(default_factory=list)
    waiting: int = 0
    """Reads (granules, stamps, lanes) that are not recorded yet, and how many: most buffers that are read are never
    written in the same launch."""

    def refine(self, size: int) -> None:
        """An access of `size` bytes is narrower than the granules."""
        parts = self.granule // size
        for name in ("writers", "others", "seen", "readers", "masks", "published"):
            array = getattr(self, name)
            if array is not None:
                setattr(self, name, np.repeat(array, parts))
        self.log = [
            ((granules[:, None] * parts + np.arange(parts)).reshape(-1), np.repeat(stamps, parts))
            for granules, stamps in self.log
        ]
        self.granule = size

    def blank(self, dtype: Any) -> Any:
        return np.zeros(-(-self.size // self.granule), dtype)

    def note(self, granules: Array, stamps: Stamps) -> None:
        if self.logged < _LONGEST_LOG:
            self.log.append((granules, stamps))
            self.logged += len(granules)


def cover(shadow: GlobalShadow, lanes: Array | None, index: Array, size: int) -> tuple[Array, Array | None, int]:
    """The granules of accesses, the lane of each of them (None: lane i for entry i), and granules per access."""
    first = index // shadow.granule
    count = size // shadow.granule
    if count == 1:
        return first, lanes, 1
    every = np.arange(len(index)) if lanes is None else lanes
    return (first[:, None] + np.arange(count)).reshape(-1), np.repeat(every, count), count


def ascending(granules: Array) -> bool:
    """Whether no granule occurs twice, as far as a quick look tells."""
    return bool((granules[1:] > granules[:-1]).all())
