"""Numbers made of samples: medians with their spread, ratios of samples taken side by side, and drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """``low`` and ``high`` are the 10th and the 90th percentile, ``least`` the smallest of ``count`` samples."""

    median: float
    low: float
    high: float
    least: float
    count: int

    @property
    def spread(self) -> float:
        """Between the percentiles, as a part of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def quantile(samples: Sequence[float], part: float) -> float:
    """With ``part`` of the samples below it, between the two nearest ones in proportion. Raises ValueError if there are
    no samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    place = part * (len(ordered) - 1)
    before = int(place)
    after = min(before + 1, len(ordered) - 1)
    return ordered[before] + (place - before) * (ordered[after] - ordered[before])


def summary(samples: Sequence[float]) -> Summary:
    """Raises ValueError if there are no samples."""
    low, median, high = (quantile(samples, part) for part in (0.1, 0.5, 0.9))
    return Summary(median, low, high, min(samples), len(samples))


def ratio(theirs: Sequence[float], own: Sequence[float]) -> Summary:
    """Of the ratios theirs / own, sample by sample: samples of one number were taken one right after the other, so that
    clocks and temperature do not tell them apart. Above 1, ``own`` is faster. Raises ValueError if the counts differ.
    """
    return summary([a / b for a, b in zip(theirs, own, strict=True)])


def drift(samples: Sequence[float]) -> float:
    """How much slower the last third is than the first, as a part of the first; 0 for fewer than six samples."""
    if len(samples) < 6:
        return 0.0
    third = len(samples) // 3
    first, last = quantile(samples[:third], 0.5), quantile(samples[-third:], 0.5)
    return last / first - 1.0 if first else 0.0
