"""One kernel's mutants from start to end, as plain data that can cross processes and be kept as JSON."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from tests.emulator.mutation.engine import KINDS, SEEDS, FalseAlarm, clean_trials, examine, mutants
from tests.emulator.mutation.subjects import SUBJECTS, Subject


def run_subject(subject: Subject, limit: int) -> dict[str, Any]:
    """Everything about one kernel, as plain data."""
    started = time.monotonic()
    record: dict[str, Any] = {
        "name": subject.name, "class": subject.kernel_class, "target": subject.target, "held_out": subject.held_out,
        "false_alarm": "", "mutants": [],
    }  # fmt: skip
    built = subject.build()
    try:
        trials = clean_trials(built.kernels, built.calls, SEEDS)
        others = clean_trials(built.kernels, built.further, (None,))
    except FalseAlarm as alarm:
        return record | {"false_alarm": str(alarm)}
    record["calls"] = len(built.calls)
    record["further_calls"] = len(built.further)
    counts: dict[str, int] = {}
    for kernel, ptx in built.kernels.items():
        for mutant, of in mutants(ptx, KINDS, limit):
            outcome = examine(built.kernels, kernel, mutant, trials, others)
            counts[f"{kernel}: {mutant.kind}"] = of
            record["mutants"].append(asdict(outcome) | {"how": outcome.how.value})
    return record | {"places": counts, "seconds": round(time.monotonic() - started, 1)}


def run_numbered(item: tuple[int, int]) -> dict[str, Any]:
    number, limit = item
    return run_subject(SUBJECTS[number], limit)
