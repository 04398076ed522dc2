"""Questions as a pack carries them: what is timed, beside whom, and what was hoped for. ``bench.json`` in the pack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

BENCH_FILE: Final = "bench.json"
BENCH_VERSION: Final = 1


class NotABench(Exception):
    """The folder has no questions that this runner can read."""


@dataclass(frozen=True, slots=True)
class Own:
    """One of our kernels: ``label`` says which schedule, ``cases`` are ids of the pack's cases (one per group of
    targets), ``schedule`` is the schedule's text where several are compared."""

    label: str
    cases: tuple[str, ...]
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A peer and what it is to compute, in the peer's own terms."""

    peer: str
    text: str


@dataclass(frozen=True, slots=True)
class Goal:
    """The fastest of ``against`` should take at least ``ratio`` times as long as ours."""

    against: tuple[str, ...]
    ratio: float


@dataclass(frozen=True, slots=True)
class Question:
    """``bytes`` that must move and ``flops`` of a call; ``unit`` names the rate that bounds the latter (an element
    type). ``asked`` is a date (YYYY-MM-DD). ``small``: for the emulator, never timed on a GPU. ``facts`` are whatever a
    reader should know of the workload."""

    id: str
    case: str
    title: str
    asked: str
    dims: Mapping[str, int]
    bytes: int
    flops: int | None
    unit: str | None
    own: tuple[Own, ...]
    peers: tuple[Asked, ...]
    goal: Goal | None
    small: bool
    facts: Mapping[str, Any]


def questions_text(questions: tuple[Question, ...], notes: tuple[str, ...]) -> str:
    """The text of ``bench.json``; ``notes`` say what was left out of it."""
    value = {"texpr_bench": BENCH_VERSION, "notes": notes, "questions": [asdict(each) for each in questions]}
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_questions(folder: Path) -> tuple[Question, ...]:
    """The questions of a pack. Raises NotABench."""
    path = folder / BENCH_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["texpr_bench"] != BENCH_VERSION:
            raise NotABench(f"{path}: its format is {value['texpr_bench']}, this runner reads {BENCH_VERSION}")
        return tuple(question_of(each) for each in value["questions"])
    except OSError as error:
        raise NotABench(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotABench(f"{path} cannot be read: {error!r}") from None


def question_of(data: Mapping[str, Any]) -> Question:
    """From JSON."""
    goal = data["goal"]
    return Question(
        id=data["id"],
        case=data["case"],
        title=data["title"],
        asked=data["asked"],
        dims=data["dims"],
        bytes=data["bytes"],
        flops=data["flops"],
        unit=data["unit"],
        own=tuple(Own(each["label"], tuple(each["cases"]), each["schedule"]) for each in data["own"]),
        peers=tuple(Asked(each["peer"], each["text"]) for each in data["peers"]),
        goal=None if goal is None else Goal(tuple(goal["against"]), goal["ratio"]),
        small=data["small"],
        facts=data["facts"],
    )


def in_order(questions: tuple[Question, ...]) -> list[Question]:
    """The newest first; of one day, in the order of the files."""
    return sorted(questions, key=lambda each: each.asked, reverse=True)
