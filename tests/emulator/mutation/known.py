"""Mutants of development kernels that a person looked at and found equivalent: no input can tell them from the kernel.

Mutants of held-out kernels are not in this table.
"""

from __future__ import annotations

from typing import Final

from tests.emulator.mutation.mutants import Mutant

_REPLICATED: Final = "every thread has the same value and address, and repeats the same store"
_REPEATED_COPY: Final = "every thread sends the same tile to the same place, and waits for it"
_OTHER_BARRIER: Final = "another barrier stands between the same accesses"
_OWN_WAIT: Final = "each thread has waited for the copy itself"
_OWN_DATA: Final = "each thread overwrites only what it has read itself"
_UNIFORM: Final = "all lanes hold the same value"
_SAME_ELEMENT: Final = "equal positions are the same element"
_ONE_WORD: Final = "flag and value are one word: nothing else is published"
_COUNTED: Final = "only the count is communicated, and the kernel's end publishes it"
_SAME_THREAD: Final = "both accesses are of the same thread"
_SAME_SUM: Final = "the place holds this warp's sum already, from the scan before"
_LAST_ACCESS: Final = "no shared memory is accessed after it"

REASONS: Final[dict[tuple[str, str, int], str]] = {}
"""By kernel, kind of mutation and line of PTX."""


def known_reason(kernel: str, mutant: Mutant) -> str:
    """The reason, or an empty string."""
    return REASONS.get((kernel, mutant.kind, mutant.line), "")
