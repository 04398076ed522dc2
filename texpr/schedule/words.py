"""The words of schedules: what a directive may say, positions in the loop nest, numbers known at launch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, ClassVar, Final

from texpr.math.expr import IntExpr
from texpr.schedule.base import (
    Count,
    Only,
    Record,
    Spelling,
    about,
)


class RelaxKind(Enum):
    """A way to depart from 'exact up to reassociation inside one fixed order'."""

    ROUNDING = "rounding"
    ORDER = "order"
    APPROX = "approx"


class OrderKind(Enum):
    GROUP = "group"
    REVERSE = "reverse"
    HILBERT = "hilbert"
    FLATTEN = "flatten"


class Start(Enum):
    """When a kernel may start: after those before it in the stream have ended, or while the last one still runs."""

    AFTER = "after"
    EARLY = "early"


class Memory(Enum):
    REGISTERS = "registers"
    SHARED = "shared"
    GLOBAL = "global"


class MmaOp(Enum):
    """Who multiplies. ``AUTO`` takes the best instruction that fits, else ``FMA``; ``MMA`` is the warp-level
    instruction of sm_80 on, ``WGMMA`` that of a warpgroup on sm_90a."""

    AUTO = "auto"
    FMA = "fma"
    MMA = "mma"
    WGMMA = "wgmma"
    TCGEN05 = "tcgen05"


class Base(Enum):
    """How the rows of a tile walk through a ragged axis, whose points differ from row to row."""

    TILE = "tile"  # together: from the first point of the first row to the last one of the last row
    ROW = "row"  # each from its own first point, for as many steps as the longest row takes


class Copy(Enum):
    SYNC = "sync"
    ASYNC = "async"
    TMA = "tma"


class Combine(Enum):
    TWO_PASS = "two_pass"
    ATOMIC = "atomic"
    TURNSTILE = "turnstile"
    CLUSTER = "cluster"


class SplitBy(Enum):
    PROGRAM = "program"


class Aggregate(Enum):
    WARP = "warp"


class TrimMode(Enum):
    """How a trimmed loop treats steps in which the guard holds at some points only. ``MASK``: one loop that tests it
    in every step. ``SPLIT``: a loop without the test over the steps where it holds everywhere, and loops with it."""

    SPLIT = "split"
    MASK = "mask"


class SkipTest(Enum):
    """How a loop finds the steps that it leaves out. ``MASK``: all of them before the loop, a bit each. ``STEP``: one
    after the other, in the loop."""

    MASK = "mask"
    STEP = "step"


class Across(Enum):
    LOOP = "loop"
    TWO_PASS = "two_pass"
    LOOKBACK = "lookback"


NOT_LOWERED: Final[frozenset[Enum]] = frozenset(
    {MmaOp.TCGEN05, Combine.ATOMIC, Combine.CLUSTER}
)
"""Words that are understood and refused with "not lowered yet"."""

OnChip = Annotated[Memory, Only((Memory.REGISTERS, Memory.SHARED))]
SharedOnly = Annotated[Memory, Only((Memory.SHARED,))]


@dataclass(frozen=True, slots=True)
class Program:
    """Once per program, before its loop over tiles."""

    def __str__(self) -> str:
        return "program"


@dataclass(frozen=True, slots=True)
class Tile:
    """Once per tile of the grid."""

    def __str__(self) -> str:
        return "tile"


@dataclass(frozen=True, slots=True)
class LoopOf:
    """In every iteration of the loop in which ``func`` runs over ``axis``."""

    func: str
    axis: str

    def __str__(self) -> str:
        return f"{self.func}.{self.axis}"


Position = Program | Tile | LoopOf


@dataclass(frozen=True, slots=True)
class Num(Record):
    """A number that may be known only at launch. An integer or an expression alone is short for `{value: ...}`."""

    SPELLING: ClassVar[Spelling] = Spelling.SHORT

    value: IntExpr = field(
        metadata=about(
            """The number: an integer, or an expression over dims, statics and `sms` (the device's multiprocessors,
            read once at init) with `+ - * // %`, `min`, `max`, `clamp`, `ceil`.""",
            "clamp(4 * sms // B, 1, 64)",
        )
    )
    max: Count | None = field(
        default=None,
        metadata=about("The largest value it can take, known at build time: it sizes workspace and loops.", "64"),
    )
