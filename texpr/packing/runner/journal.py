"""Results as JSON lines, one per event, so that a run that is cut short loses nothing.

    {"run": {...}}                 a run began: pack, device, driver, clocks, versions, hashes of the cubins
    {"started": "CASE"}            written before a case
    {"case": "CASE", ...}          its result

A case that was started twice and has no result crashed or hung; it is not tried a third time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

MOST_ATTEMPTS: Final = 2


class Journal:
    """The file of one pack on one device. What another build of the pack left in it is kept, and not counted."""

    def __init__(self, path: Path, pack: str) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}
        self.attempts: dict[str, int] = {}
        self._pack = pack
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in self._complete_lines():
            self._count(line)

    def _complete_lines(self) -> list[dict[str, Any]]:
        """The records so far; a line that was cut off is removed from the file."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self.path.write_text(whole, encoding="utf-8")
        return [json.loads(line) for line in whole.splitlines() if line.strip()]

    def _count(self, record: Mapping[str, Any]) -> None:
        if record.get("pack") != self._pack:
            return
        if "started" in record:
            self.attempts[record["started"]] = self.attempts.get(record["started"], 0) + 1
        if "case" in record:
            self.results[record["case"]] = dict(record)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record to disk at once."""
        full = {"pack": self._pack, **record}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(full, allow_nan=False, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._count(full)

    def gave_up(self, case: str) -> bool:
        """Whether the case took the process with it as often as is enough."""
        return case not in self.results and self.attempts.get(case, 0) >= MOST_ATTEMPTS
