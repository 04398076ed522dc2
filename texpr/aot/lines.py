"""Takes line information out of PTX and keeps it as a map beside it.

Triton's PTX carries ``.loc`` directives and DWARF sections that name files of the machine it was compiled on. Shipped
PTX has neither; what it loses is kept as pairs (line of the shipped PTX, line of the Gluon file), both 1-based.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LOC = re.compile(r"\s*\.loc\s+(\d+) (\d+) (\d+)(?:, function_name [^,]+, inlined_at (\d+) (\d+) (\d+))?")
_FILE = re.compile(r'\s*\.file\s+(\d+) "(.*)"\s*$')
_SECTION = re.compile(r"\s*\.section\s+\.debug_")
_DEBUG_LABEL = re.compile(r"\$L__(?:tmp|func_begin|func_end)\d+:\s*$")
_BEGIN_ASM = "// begin inline asm"
_END_ASM = "// end inline asm"

_Place = tuple[int, int, int]  # file number, line, column, as in a .loc directive


@dataclass(frozen=True, slots=True)
class StrippedPtx:
    """PTX without line information, and per instruction line that has one, the Gluon line it came from."""

    text: str
    lines: tuple[tuple[int, int], ...]


def strip_line_info(ptx: str, source: str) -> StrippedPtx:
    """Remove ``.loc``, ``.file``, debug labels and debug sections from ``ptx``; ``source`` is the Gluon file's path as
    in ``.file``.

    Code inlined from helpers or from Triton's library is attributed to the outermost line of ``source`` that called it.
    LLVM writes the call chain of an inlined line only once, so a helper that calls further helpers and is used on two
    lines may have its inner part attributed to the line used last.
    """
    source_files = _file_numbers(ptx, source)
    callers: dict[_Place, _Place | None] = {}
    kept: list[str] = []
    lines: list[tuple[int, int]] = []
    current = 0
    in_section = False
    asm_first_loc = False
    in_asm = False
    for line in ptx.splitlines():
        if in_section:
            in_section = "}" not in line
            continue
        if _SECTION.match(line):
            in_section = "}" not in line
            continue
        if _FILE.match(line) or _DEBUG_LABEL.match(line):
            continue
        if loc := _LOC.match(line):
            numbers = [int(number) for number in loc.groups() if number is not None]
            place: _Place = (numbers[0], numbers[1], numbers[2])
            callers[place] = (numbers[3], numbers[4], numbers[5]) if len(numbers) == 6 else None
            # Inside inline assembly LLVM counts the lines of the assembly text on from the source line: only the first
            # one is real.
            if not in_asm or asm_first_loc:
                current = _outermost(place, callers, source_files)
            asm_first_loc = False
            continue
        stripped = line.strip()
        if stripped == _BEGIN_ASM:
            in_asm = asm_first_loc = True
        elif stripped == _END_ASM:
            in_asm = False
            # With line information LLVM ends inline assembly with an empty line, without it does not.
            if kept and not kept[-1].strip():
                kept.pop()
        kept.append(line)
        if current and _is_instruction(stripped):
            lines.append((len(kept), current))
        if stripped == "}" and not line.startswith((" ", "\t")):
            current = 0
    while kept and not kept[-1].strip():
        kept.pop()
    return StrippedPtx("\n".join(kept) + "\n", tuple(lines))


def _file_numbers(ptx: str, source: str) -> frozenset[int]:
    matches = (_FILE.match(line) for line in ptx.splitlines())
    return frozenset(int(match.group(1)) for match in matches if match and match.group(2) == source)


def _outermost(place: _Place, callers: dict[_Place, _Place | None], source_files: frozenset[int]) -> int:
    """The line of the last frame, walking out of inlined calls, that lies in the source file; 0 when none does."""
    line = 0
    seen: set[_Place] = set()
    frame: _Place | None = place
    while frame is not None and frame not in seen:
        seen.add(frame)
        if frame[0] in source_files and frame[1]:
            line = frame[1]
        frame = callers.get(frame)
    return line


def _is_instruction(stripped: str) -> bool:
    return stripped not in ("", "{", "}") and not stripped.startswith(("//", ".")) and not stripped.endswith(":")
