"""What is behind a line of PTX of a bundle: the line of generated code, the func of the algorithm, and the line of the
schedule, with their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from texpr.emulator.faults import Excerpt, Fault, Origin
from texpr.emulator.ptx import SourceLine

_CALL: Final = re.compile(r"\b[A-Za-z_][\w.]*(?=\()")


@dataclass(frozen=True, slots=True)
class _Node:
    func: str
    schedule: str
    text: str


class Origins:
    """The line map of one kernel of a bundle: ``record`` is its ``lines.json``, ``source`` the generated file, which
    messages call ``shown``."""

    def __init__(self, record: Mapping[str, Any], source: Path, shown: str) -> None:
        self._nodes = {
            int(line): _Node(node["node"], node.get("schedule", ""), node.get("text", ""))
            for line, node in record.get("nodes", {}).items()
        }
        self._source = source
        self._shown = shown
        self.lines = {ptx: SourceLine(shown, line) for ptx, line in record["lines"]}

    def of(self, place: SourceLine) -> Origin | None:
        """What is known about a line; None if the place is in another file."""
        if place.file != self._shown:
            return None
        excerpts = [_excerpt(place, _line_of(self._source, place.line))]
        node, exact = self._nodes.get(place.line), True
        if node is None:
            above = [line for line in self._nodes if line < place.line]
            node, exact = self._nodes.get(max(above, default=min(self._nodes, default=0))), False
        if node is None:
            return Origin("", tuple(excerpts))
        file, _, line = node.schedule.rpartition(":")
        if file and line.isdigit():
            name = node.func.split(".")[0]
            marked = re.search(rf"\b{re.escape(name)}\b", node.text)
            excerpts.append(Excerpt(SourceLine(file, int(line)), node.text, marked[0] if marked else ""))
        return Origin(node.func, tuple(excerpts), exact)

    def trace(self, fault: Fault) -> Fault:
        """The fault with all that is known about the lines it names. An instruction without a line of its own gets
        the nearest one above it."""
        if fault.source is None and fault.ptx_line:
            above = [line for line in self.lines if line <= fault.ptx_line]
            nearest = self.lines[max(above)] if above else min(self.lines.items(), default=(0, None))[1]
            fault = fault.changed(source=nearest)
        return fault.traced(self.of)


def file_origin(place: SourceLine) -> Origin | None:
    """The line itself, if the file can be read: for PTX that says where it came from."""
    text = _line_of(Path(place.file), place.line)
    return Origin("", (_excerpt(place, text),)) if text else None


def _excerpt(place: SourceLine, text: str) -> Excerpt:
    """The call on a line is what counts, if there is one."""
    call = _CALL.search(text)
    return Excerpt(place, text.strip(), call[0] if call else "")


def _line_of(file: Path, line: int) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return lines[line - 1] if 0 < line <= len(lines) else ""
