"""How a memory access or a fence takes part in the memory order of PTX: strong or weak, acquire, release, scope."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Scope(IntEnum):
    """Among whom an operation is strong. `.cluster` counts as the program itself, `.sys` as the GPU."""

    WEAK = 0
    PROGRAM = 1
    GPU = 2


_SCOPES = {
    "cta": Scope.PROGRAM,
    "cluster": Scope.PROGRAM,
    "gpu": Scope.GPU,
    "gl": Scope.GPU,
    "sys": Scope.GPU,
}
_STRONG = {"relaxed", "acquire", "release", "acq_rel", "sc", "volatile", "mmio"}


@dataclass(frozen=True, slots=True)
class Ordering:
    """`scope` is WEAK for plain accesses; `constant` promises (`.nc`) that nobody writes there during the launch.

    `sequential` marks fences that are totally ordered among each other (`fence.sc`, `membar`).
    """

    scope: Scope = Scope.WEAK
    acquires: bool = False
    releases: bool = False
    sequential: bool = False
    constant: bool = False

    @property
    def strong(self) -> bool:
        return self.scope is not Scope.WEAK


PLAIN = Ordering()
RELAXED = Ordering(Scope.GPU)


def ordering_of(words: Iterable[str], *, atomic: bool = False) -> Ordering:
    """What the modifiers of a load, store, atomic or fence say. Atomics are at least relaxed, in the GPU's scope."""
    given = set(words)
    scope = next((_SCOPES[word] for word in given if word in _SCOPES), Scope.GPU)
    if not (atomic or given & _STRONG):
        return Ordering(constant="nc" in given)
    return Ordering(
        scope,
        acquires=bool(given & {"acquire", "acq_rel", "sc"}),
        releases=bool(given & {"release", "acq_rel", "sc"}),
        sequential="sc" in given,
    )
