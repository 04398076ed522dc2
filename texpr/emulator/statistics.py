"""What a launch did, in numbers that add up over its parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from texpr.emulator.counters import Counters


@dataclass(frozen=True, slots=True)
class LaunchStats:
    """What a launch did: programs run, blocks of instructions executed, instructions times threads.

    `warnings` counts things that are suspicious but harmless, by message.  `counters` are there if the device counts.
    The statistics of a launch are the sum of those of its batches, wherever they ran.
    """

    programs: int
    blocks: int
    thread_instructions: int
    warnings: dict[str, int] = field(default_factory=dict)
    counters: Counters | None = None

    @staticmethod
    def nothing() -> LaunchStats:
        return LaunchStats(0, 0, 0)

    def __add__(self, other: LaunchStats) -> LaunchStats:
        counted = [part for part in (self.counters, other.counters) if part is not None]
        return LaunchStats(
            self.programs + other.programs,
            self.blocks + other.blocks,
            self.thread_instructions + other.thread_instructions,
            dict(Counter(self.warnings) + Counter(other.warnings)),
            Counters.total(counted) if counted else None,
        )
