"""What the compiler processes are asked and what they answer. Plain data: both sides import it, neither imports the
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """One kernel for one target. ``text`` is a whole module (see kernel_text.py); ``signature`` holds per parameter its
    name, Triton type and known divisibility; ``assembler`` is the path of ptxas. ``registers``: the most that a thread
    may have, None: any number. ``ctas``: the programs of a cluster.
    """

    text: str
    kernel: str
    signature: tuple[tuple[str, str, int], ...]
    warps: int
    capability: int
    arch: str
    fp_fusion: bool
    assembler: str
    registers: int | None = None
    ctas: int = 1


@dataclass(frozen=True, slots=True)
class Compiled:
    """``lines`` pairs lines of ``ptx`` (which has no ``.loc``) with lines of the request's module; ``log`` is what
    ptxas said. ``maps``: per tensor map the box that one instruction moves, and the bytes that are swizzled together.
    """

    ptx: str
    lines: tuple[tuple[int, int], ...]
    cubin: bytes
    log: str
    shared_bytes: int
    warps: int
    global_scratch_bytes: int
    profile_scratch_bytes: int
    maps: tuple[tuple[tuple[int, ...], int], ...] = ()


class Stage(Enum):
    """Where a kernel was refused."""

    FRONT_END = "front end"
    PASSES = "passes"
    ASSEMBLER = "assembler"


@dataclass(frozen=True, slots=True)
class Refused:
    """``line`` is 1-based in the request's module, 0 when unknown. ``output`` is the end of what was printed."""

    stage: Stage
    problem: str
    line: int
    output: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """The process cannot compile anything: Triton does not import."""

    problem: str


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended in the middle; ``cause`` names the signal or exit status."""

    cause: str
    output: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The process was stopped after ``seconds``."""

    seconds: float


Reply = Compiled | Refused | Unusable
Failure = Refused | Unusable | Died | TimedOut
Outcome = Compiled | Failure
