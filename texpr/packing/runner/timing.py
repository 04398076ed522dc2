"""Times on a GPU by CUDA events, one pair around each call, the second-level cache flushed before each.

The flush also keeps the device busy while the host queues the call, so that the host's own time does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from texpr.packing.runner.cuda import CudaDevice

_LEAST_FLUSH: Final = 128 << 20
_WARM_UP: Final = 3
_MOST_SAMPLES: Final = 100
_FEWEST_SAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds of single calls, in the order taken, with a cold second-level cache."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        ordered = sorted(self.samples)
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def measure(device: CudaDevice, work: Callable[[], None], seconds: float) -> Times:
    """As many samples as fit into about ``seconds``, between 10 and 100, after a warm-up."""
    size = max(2 * device.l2_bytes(), _LEAST_FLUSH)
    scratch = device.allocate(size)
    try:

        def flush() -> None:
            device.fill(scratch, 0, size)

        first = device.elapsed(work, flush, _WARM_UP)
        cost = min(first) * 1e-6 + size / 0.5e12  # memory is written at 0.5 TB/s or faster on what this is for
        count = max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, int(seconds / cost)))
        return Times(tuple(device.elapsed(work, flush, count)))
    finally:
        device.free(scratch)
