"""One kernel's mutants from start to end, as plain data that can cross processes and be kept as JSON."""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import asdict
from typing import Any

from tests.emulator.mutation.engine import KINDS, FalseAlarm, clean_trials, examine, mutants
from tests.emulator.mutation.subjects import SUBJECTS, Subject


def run_subject(subject: Subject, limit: int) -> dict[str, Any]:
    """Everything about one kernel, as plain data."""
    started = time.monotonic()
    record = _record(subject)
    built = subject.build()
    try:
        trials = clean_trials(built)
    except FalseAlarm as alarm:
        return record | {"failure": f"false alarm: {alarm}"}
    record["clean_runs"] = len(trials.lockstep) + len(trials.further) + len(trials.random)
    counts: dict[str, int] = {}
    for kernel, ptx in built.kernels.items():
        for mutant, of in mutants(ptx, KINDS, limit):
            outcome = examine(built.kernels, kernel, mutant, trials)
            counts[f"{kernel}: {mutant.kind}"] = of
            record["mutants"].append(asdict(outcome) | {"how": outcome.how.value})
    return record | {"places": counts, "seconds": round(time.monotonic() - started, 1)}


def _record(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name, "class": subject.kernel_class, "target": subject.target, "held_out": subject.held_out,
        "failure": "", "mutants": [],
    }  # fmt: skip


def run_numbered(item: tuple[int, int]) -> dict[str, Any]:
    """`run_subject` for the kernel with a number, in a process of its own."""
    number, limit = item
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # what Triton does anyway, without a warning
    subject = SUBJECTS[number]
    try:
        return run_subject(subject, limit)
    except Exception:  # one kernel that does not run must not lose the others' results
        return _record(subject) | {"failure": traceback.format_exc()}
