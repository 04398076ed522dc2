"""What can go wrong: broken PTX, bad launches, and faults that a running kernel commits.

All three print like compiler errors: what, where (kernel, source line, schedule line, PTX line), who (program, thread).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from texpr.emulator.ptx import SourceLine


class FaultKind(Enum):
    """Classes of errors a running kernel can commit."""

    OUT_OF_BOUNDS = "out of bounds"
    UNINITIALISED = "uninitialised read"
    RACE = "shared-memory race"
    ASYNC_NOT_WAITED = "asynchronous copy not waited for"
    MISALIGNED = "misaligned access"
    DEADLOCK = "deadlock"
    STEP_LIMIT = "step limit exceeded"
    DIVERGENT_BARRIER = "divergent barrier"
    DIVERGENT_WARP = "divergent warp operation"
    GLOBAL_CONFLICT = "global write conflict"
    GLOBAL_RACE = "global-memory race"
    NOT_CONSTANT = "constant memory that changes"
    READ_ONLY = "write to read-only memory"
    BARRIER_MISUSE = "barrier misuse"
    MISSING_FENCE = "missing fence"
    ACCUMULATOR = "registers of an unfinished wgmma"
    TENSOR_MAP = "tensor map misuse"
    ENDED_PROGRAM = "shared memory of a program that has ended"
    TRAP = "trap"


class PtxError(Exception):
    """PTX that cannot be loaded: a syntax error, or an instruction the emulator does not have.

    `line` is 1-based in the PTX text; `text` is that line.
    """

    def __init__(self, message: str, *, module: str, line: int = 0, text: str = "") -> None:
        self.message = message
        self.module = module
        self.line = line
        self.text = text.strip()
        where = f"{module}:{line}" if line else module
        excerpt = f"\n   {line:>6} | {self.text}" if self.text else ""
        super().__init__(f"{where}: error: {message}{excerpt}")


class LaunchError(ValueError):
    """A launch that is refused before any thread runs: wrong kernel name, grid, block or parameters."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A line of some file, shown in a report; `mark` is the part of `text` to underline (all of it if it is not
    there)."""

    place: SourceLine
    text: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a source line is for: the func of the algorithm that it computes (or the stage it fills), and excerpts of
    the files behind it, nearest first (generated source, schedule).

    `exact`: false if the line itself belongs to no func (a wait, a barrier), and `func` is that of the line above."""

    func: str = ""
    excerpts: tuple[Excerpt, ...] = ()
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Access:
    """The other side of a fault: an earlier access to the same place. `what` says who did what."""

    what: str
    ptx_line: int
    ptx_text: str
    source: SourceLine | None


class Fault(Exception):
    """An error committed by a running kernel; no thread runs on after it.

    Attributes: `kind`, `message`, `kernel`, `ptx_line` (1-based), `source` (where the PTX line came from, if
    known), `buffer` (name of the allocation concerned), `program` (ctaid x, y, z) of `grid`, `thread` (tid x, y, z),
    `others` (earlier accesses that this one conflicts with), and `origins`: what is known about the source lines
    concerned. `func` is the func of the algorithm, None if it is not known.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        kernel: str,
        module: str = "",
        ptx_line: int = 0,
        ptx_text: str = "",
        source: SourceLine | None = None,
        buffer: str | None = None,
        program: tuple[int, int, int] | None = None,
        thread: tuple[int, int, int] | None = None,
        grid: tuple[int, int, int] | None = None,
        notes: tuple[str, ...] = (),
        others: tuple[Access, ...] = (),
        origins: Mapping[SourceLine, Origin] | None = None,
    ) -> None:
        self.kind = kind
        self.message = message
        self.kernel = kernel
        self.module = module
        self.ptx_line = ptx_line
        self.ptx_text = ptx_text.strip()
        self.source = source
        self.buffer = buffer
        self.program = program
        self.thread = thread
        self.grid = grid
        self.notes = notes
        self.others = others
        self.origins = dict(origins or {})
        super().__init__(self._report())

    @property
    def func(self) -> str | None:
        """The func of the algorithm that the faulting line computes, if that is known."""
        origin = None if self.source is None else self.origins.get(self.source)
        return (origin.func or None) if origin is not None else None

    def changed(self, **changes: Any) -> Fault:
        """The same fault with other values for some arguments of the constructor."""
        return _rebuild(self.kind, self.message, self._details() | changes)

    def traced(self, trace: Callable[[SourceLine], Origin | None]) -> Fault:
        """The same fault, with the origins of all source lines that it names."""
        places = [place for place in (self.source, *(other.source for other in self.others)) if place is not None]
        found = {place: origin for place in places if (origin := trace(place)) is not None}
        return self.changed(origins=self.origins | found)

    def _details(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _DETAILS}

    def __reduce__(self) -> tuple[Callable[..., Fault], tuple[FaultKind, str, dict[str, Any]]]:
        return _rebuild, (self.kind, self.message, self._details())

    def _report(self) -> str:
        lines = [f"{self.kernel}: fault: {self.kind.value}: {self.message}"]
        lines += self._where(self.source, self.ptx_line, self.ptx_text)
        if self.program is not None:
            who = f"program {_triple(self.program)}"
            if self.thread is not None:
                who += f", thread {_triple(self.thread)}"
            if self.grid is not None:
                who += f", in a grid of {_triple(self.grid)}"
            lines.append(f"  by: {who}")
        for other in self.others:
            lines.append(f"  the other side: {other.what}")
            lines += self._where(other.source, other.ptx_line, other.ptx_text)
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _where(self, source: SourceLine | None, ptx_line: int, ptx_text: str) -> list[str]:
        """Source line, schedule line and PTX line of an instruction, as far as they are known."""
        excerpts: list[Excerpt] = []
        remark = ""
        if source is not None:
            origin = self.origins.get(source, Origin())
            if origin.func:
                remark = f"  ({'in' if origin.exact else 'near'} func {origin.func})"
            excerpts += origin.excerpts or [Excerpt(source)]
        if ptx_line:
            opcode = _OPCODE.match(ptx_text)
            excerpts.append(
                Excerpt(SourceLine(self.module or "ptx", ptx_line), ptx_text, opcode[1] if opcode else "")
            )
        lines: list[str] = []
        for number, excerpt in enumerate(excerpts):
            lines += _shown(excerpt, remark if number == 0 else "")
        return lines


_DETAILS: Final = (
    "kernel", "module", "ptx_line", "ptx_text", "source", "buffer", "program", "thread", "grid", "notes", "others",
    "origins",
)  # fmt: skip
_OPCODE: Final = re.compile(r"(?:@!?[\w%$]+\s+)?([\w.:]+)")
_WIDEST_MARK: Final = 100


def _rebuild(kind: FaultKind, message: str, details: dict[str, Any]) -> Fault:
    return Fault(kind, message, **details)


def _shown(excerpt: Excerpt, remark: str) -> list[str]:
    """A place, its text, and a line of carets under what is meant."""
    lines = [f"  --> {excerpt.place}{remark}"]
    text = "".join(letter if letter.isprintable() else " " for letter in excerpt.text.strip())
    if text:
        start = max(text.find(excerpt.mark), 0) if excerpt.mark else 0
        marked = len(excerpt.mark) if excerpt.mark and excerpt.mark in text else len(text)
        carets = "^" * min(marked, _WIDEST_MARK)
        lines += [f"   {excerpt.place.line:>6} | {text}", f"          | {' ' * start}{carets}"]
    return lines


def _triple(index: tuple[int, int, int]) -> str:
    return f"({index[0]}, {index[1]}, {index[2]})"
