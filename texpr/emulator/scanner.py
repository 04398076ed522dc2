"""A cursor over PTX text."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from texpr.emulator.faults import PtxError


@dataclass(slots=True)
class Scanner:
    """A cursor over PTX text whose comments have been blanked."""

    text: str
    module: str
    lines: tuple[str, ...]
    position: int = 0
    _starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts = [0] + [match.end() for match in re.finditer("\n", self.text)]

    def line(self, position: int | None = None) -> int:
        """1-based line of a position (default: the cursor)."""
        return bisect_right(self._starts, self.position if position is None else position)

    def error(self, message: str, line: int | None = None) -> PtxError:
        where = self.line() if line is None else line
        text = self.lines[where - 1] if 0 < where <= len(self.lines) else ""
        return PtxError(message, module=self.module, line=where, text=text)

    def skip_space(self) -> bool:
        """Move to the next non-blank character; false at the end of the text."""
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.position < len(self.text)

    def take_until(self, mark: str) -> str:
        """The text up to `mark`; the cursor moves behind it."""
        end = self.text.find(mark, self.position)
        if end < 0:
            raise self.error(f"{mark!r} expected before the end of the file")
        taken = self.text[self.position : end]
        self.position = end + len(mark)
        return taken

    def matching_brace(self, opening: int) -> int:
        """Position of the brace that closes the one at `opening`."""
        depth = 0
        for match in re.compile(r"[{}]").finditer(self.text, opening):
            depth += 1 if match[0] == "{" else -1
            if depth == 0:
                return match.start()
        raise self.error("this '{' is never closed", self.line(opening))
