"""From a journal to one JSON file: the form that reports read, and people keep. ``bench/result.schema.json`` describes
it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.measure.questions import Question

RESULT_VERSION: Final = 1


def lines_of(journal: Path) -> list[dict[str, Any]]:
    """The complete records of a journal."""
    if not journal.exists():
        return []
    text = journal.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]


def collected(records: Sequence[Mapping[str, Any]], questions: Sequence[Question], pack: str) -> dict[str, Any]:
    """What a journal says of one pack: all of its runs, and the last answer to each question."""
    own = [record for record in records if record.get("pack") == pack]
    runs = [record["run"] for record in own if "run" in record]
    answers = {record["case"]: dict(record) for record in own if "case" in record}
    for answer in answers.values():
        del answer["pack"]
    known = {question.id: question for question in questions}
    return {
        "texpr_bench_result": RESULT_VERSION,
        "measurement": bool(runs) and all(run["measurement"] for run in runs),
        "pack": pack,
        "runs": runs,
        "answers": [
            {"question": plain(known[name]), **answer} for name, answer in answers.items() if name in known
        ],
    }


def plain(question: Question) -> dict[str, Any]:
    """A question as JSON, without the texts of schedules unless there are several."""
    value = asdict(question)
    if len(question.own) < 2:
        for each in value["own"]:
            each["schedule"] = None
    return value


def write_atomically(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.write("\n")
    os.chmod(name, 0o644)
    os.replace(name, path)
