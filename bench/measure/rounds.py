"""How samples are taken: contestants in turn, round after round, so that what changes with time changes for all.

The rules are those of NVIDIA's guidelines for measuring matrix products: random data, buffers that no cache holds from
one call to the next, clocks settled before, and medians. A sample is the time of one *piece*: several calls in a row,
long enough for the events around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

_LEAST_MICROSECONDS: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Rules:
    """Times in seconds. ``settle``: of work before the first question; ``warm``: before the samples, per contestant;
    ``budget``: of samples, per contestant. ``piece`` is the least time of a piece, ``rounds`` the fewest and the most
    samples of each."""

    settle: float = 3.0
    warm: float = 0.3
    budget: float = 2.0
    piece: float = 200e-6
    rounds: tuple[int, int] = (15, 200)
    calls: int = 2048


QUICK: Final = Rules(settle=0.0, warm=0.0, budget=0.0, piece=0.0, rounds=(3, 3), calls=2)
"""For the emulator, whose times mean nothing."""


class Timer(Protocol):
    """Where work is done. Work is a function that queues it."""

    def elapsed(self, work: Callable[[], None], *, hide: bool) -> float:
        """Microseconds that the device took for ``work``, alone. ``hide``: keep the device busy until all is queued."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``work`` queues ``calls`` calls of a contestant. ``graph``: as one graph, so that the host plays no part."""

    name: str
    work: Callable[[], None]
    calls: int
    graph: bool


def sets_needed(size: int, cache: int, memory: int, most: int = 256) -> int:
    """How many sets of buffers of ``size`` bytes: two or more, together twice the ``cache`` that sits before memory;
    fewer where ``memory`` bytes hold no more. Raises MemoryError where one does not fit."""
    fitting = memory // max(size, 1)
    if fitting < 1:
        raise MemoryError(f"a set of buffers has {size} bytes, {memory} are free")
    wanted = max(2, math.ceil(2 * cache / max(size, 1)))
    return max(1, min(wanted, most, fitting))


def calls_needed(microseconds: float, sets: int, rules: Rules) -> int:
    """Calls in a piece: a multiple of the sets, so that each is used alike, and enough for the piece to last."""
    enough = math.ceil(rules.piece * 1e6 / max(microseconds, _LEAST_MICROSECONDS))
    return max(1, min(sets * math.ceil(enough / sets), max(sets, rules.calls // sets * sets)))


def settle(timer: Timer, pieces: Sequence[Piece], seconds: float) -> None:
    """Keep the device at work, with all contestants, until its clocks are what they will be."""
    spent = 0.0
    while pieces and spent < seconds * 1e6:
        for piece in pieces:
            spent += max(timer.elapsed(piece.work, hide=not piece.graph), 1.0)


def take_samples(timer: Timer, pieces: Sequence[Piece], rules: Rules) -> dict[str, tuple[float, ...]]:
    """Microseconds per call of every contestant, in the order of rounds: sample number n of each is of round n. Who is
    first changes from round to round."""
    settle(timer, pieces, rules.warm * len(pieces))
    cost = {piece.name: timer.elapsed(piece.work, hide=not piece.graph) for piece in pieces}
    a_round = max(sum(cost.values()), _LEAST_MICROSECONDS)
    fewest, most = rules.rounds
    count = max(fewest, min(most, int(rules.budget * 1e6 * len(pieces) / a_round)))
    samples: dict[str, list[float]] = {piece.name: [] for piece in pieces}
    for number in range(count):
        first = number % len(pieces)
        for piece in (*pieces[first:], *pieces[:first]):
            samples[piece.name].append(timer.elapsed(piece.work, hide=not piece.graph) / piece.calls)
    return {name: tuple(found) for name, found in samples.items()}
