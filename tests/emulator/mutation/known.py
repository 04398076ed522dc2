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

REASONS: Final[dict[tuple[str, str, int], str]] = {
    ("argmax_rows_rows_1024_argmax", "bound off by one", 344): _SAME_ELEMENT,
    ("argmax_rows_rows_1024_argmax", "bound off by one", 554): _SAME_ELEMENT,
    ("argmax_rows_long_argmax", "bound off by one", 311): _SAME_ELEMENT,
    ("argmax_rows_long_argmax", "bound off by one", 555): _SAME_ELEMENT,
    ("tma_add_one", "barrier removed", 63): _OTHER_BARRIER,
    ("tma_add_one", "barrier removed", 71): _OTHER_BARRIER,
    ("tma_add_one", "barrier removed", 95): _OWN_WAIT,
    ("tma_add_one", "barrier removed", 113): _OWN_DATA,
    ("tma_add_one", "barrier removed", 129): _OTHER_BARRIER,
    ("tma_add_one", "bulk copy mask dropped", 123): _REPEATED_COPY,
    ("wgmma_gemm", "barrier removed", 96): _OTHER_BARRIER,
    ("wgmma_gemm", "barrier removed", 105): _OTHER_BARRIER,
    ("wgmma_gemm", "barrier removed", 116): _OTHER_BARRIER,
    ("wgmma_gemm", "barrier removed", 205): _OTHER_BARRIER,
    ("wgmma_gemm", "barrier removed", 229): _OTHER_BARRIER,
    ("wgmma_gemm", "barrier removed", 240): _OTHER_BARRIER,
    ("wgmma_gemm", "bulk copy mask dropped", 409): _REPEATED_COPY,
    ("wgmma_gemm", "bound off by one", 401): _REPEATED_COPY,
    ("wgmma_gemm", "shuffle distance changed", 400): _UNIFORM,
    ("specialised_gemm", "barrier removed", 621): _OTHER_BARRIER,
    ("specialised_gemm", "bulk copy mask dropped", 233): _REPEATED_COPY,
    ("specialised_gemm", "shuffle distance changed", 53): _UNIFORM,
    ("histogram", "barrier removed", 124): _LAST_ACCESS,
    ("histogram", "memory order weakened", 130): _COUNTED,
    ("look_back", "barrier removed", 176): _ONE_WORD,
    ("look_back", "barrier removed", 295): _ONE_WORD,
    ("look_back", "memory fence removed", 177): _ONE_WORD,
    ("look_back", "memory fence removed", 211): _ONE_WORD,
    ("look_back", "memory fence removed", 296): _ONE_WORD,
    ("look_back", "scope narrowed", 211): _ONE_WORD,
    ("look_back", "store mask dropped", 179): _REPLICATED,
    ("look_back", "store mask dropped", 298): _REPLICATED,
    ("look_back", "shared store removed", 154): _SAME_SUM,
    ("chained_scan", "barrier removed", 229): _SAME_THREAD,
    ("chained_scan", "shared store removed", 139): _SAME_SUM,
}
"""By kernel, kind of mutation and line of PTX."""


def known_reason(kernel: str, mutant: Mutant) -> str:
    """The reason, or an empty string."""
    return REASONS.get((kernel, mutant.kind, mutant.line), "")
