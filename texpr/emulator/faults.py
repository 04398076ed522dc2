"""What can go wrong: broken PTX, bad launches, and faults that a running kernel commits.

All three print like compiler errors: what, where (kernel, PTX line, source line), who (program, thread).
"""

from __future__ import annotations

from enum import Enum

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


class Fault(Exception):
    """An error committed by a running kernel; no thread runs on after it.

    Attributes: `kind`, `message`, `kernel`, `ptx_line` (1-based), `source` (where the PTX line came from, if
    known), `buffer` (name of the allocation concerned), `program` (ctaid x, y, z), `thread` (tid x, y, z).
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
        notes: tuple[str, ...] = (),
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
        self.notes = notes
        super().__init__(self._report())

    def _report(self) -> str:
        lines = [f"{self.kernel}: fault: {self.kind.value}: {self.message}"]
        if self.source is not None:
            lines.append(f"  --> {self.source}")
        if self.ptx_line:
            lines.append(f"  --> {self.module or 'ptx'}:{self.ptx_line}")
            lines.append(f"   {self.ptx_line:>6} | {self.ptx_text}")
        if self.program is not None:
            who = f"program {_triple(self.program)}"
            if self.thread is not None:
                who += f", thread {_triple(self.thread)}"
            lines.append(f"  by: {who}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _triple(index: tuple[int, int, int]) -> str:
    return f"({index[0]}, {index[1]}, {index[2]})"
