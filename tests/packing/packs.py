"""What the tests pack, and how they run it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from texpr.packing.cases import Effort
from texpr.packing.pack import Request
from texpr.packing.runner.main import main
from texpr.packing.sizes import Limits

ROOT = Path(__file__).parent.parent.parent
KERNELS = ("copy", "sum_rows")
EMULATOR = ("--device", "emulator", "--sm", "80")


def small_request(names: Sequence[str], **options: Any) -> Request:
    effort = Effort(calls=2, limits=Limits(bytes=96 << 10, work=1 << 17))
    defaults = dict(kernels=ROOT / "kernels", targets=("sm_80",), types={"T": "f16"}, effort=effort)
    return Request(names=tuple(names), **(defaults | options))


def run(pack: Path, *words: str) -> int:
    return main(pack, [*EMULATOR, *words])


def records_of(pack: Path) -> list[dict[str, Any]]:
    """The lines of the only journal."""
    (journal,) = (pack / "results").iterdir()
    return [json.loads(line) for line in journal.read_text().splitlines()]


def results_of(pack: Path) -> dict[str, dict[str, Any]]:
    return {record["case"]: record for record in records_of(pack) if "case" in record}
