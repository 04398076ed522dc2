"""``python -m bench best``: of the schedules of a space, the one that was fastest, as a file that people can read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.sweep.result_files import Answer, Result, read_results
from bench.sweep.yaml_lines import BenchError


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule in all questions: ``score`` is the geometric mean of its times over the best times, so 1 is the best
    everywhere; ``times`` are medians in microseconds by question."""

    label: str
    score: float
    times: Mapping[str, float]


def standings(answers: Sequence[Answer]) -> list[Standing]:
    """The schedules that have times in all of the answers, best first."""
    labels = dict.fromkeys(each.name for answer in answers for each in answer.entrants if each.own and each.samples)
    times = {
        label: {
            answer.question.id: each.time.median
            for answer in answers
            for each in answer.entrants
            if each.own and each.name == label and each.samples
        }
        for label in labels
    }
    complete = {label: found for label, found in times.items() if len(found) == len(answers)}
    if not complete:
        return []
    best = {name: min(found[name] for found in complete.values()) for name in next(iter(complete.values()))}
    scored = [
        Standing(label, math.exp(sum(math.log(found[name] / best[name]) for name in best) / len(best)), found)
        for label, found in complete.items()
    ]
    return sorted(scored, key=lambda each: each.score)


def write_best(file: Path, case: str, kind: str) -> str:
    """The text of the best schedule with its numbers in front. Raises BenchError."""
    (result,) = read_results([file])
    if not result.measurement:
        raise BenchError(f"{file}: the emulator's times choose nothing")
    answers = [each for each in result.answers if each.question.case == case and _is_of(each, kind)]
    if not answers:
        known = ", ".join(dict.fromkeys(each.question.case for each in result.answers)) or "none"
        raise BenchError(f"{file}: no answers of the case {case}; there are {known}")
    bindings = {tuple(answer.question.id.split("/")[1:-1]) for answer in answers}
    if len(bindings) > 1:
        shown = ", ".join("/".join(each) for each in sorted(bindings))
        raise BenchError(f"{file}: {case} was asked for {shown}; choose one with --type")
    found = standings(answers)
    if not found:
        raise BenchError(f"{file}: no schedule of {case} has times in all {len(answers)} questions")
    texts = {own.label: own.schedule for answer in answers for own in answer.question.own}
    best = found[0]
    text = texts.get(best.label)
    if text is None or len(texts) < 2:
        raise BenchError(f"{file}: {case} was measured with one schedule, there is nothing to choose")
    return _header(result, answers, found) + _without_header(text)


def _is_of(answer: Answer, kind: str) -> bool:
    return not kind or kind in answer.question.id.split("/")[1:-1]


def _header(result: Result, answers: Sequence[Answer], found: Sequence[Standing]) -> str:
    best = found[0]
    run = result.run
    smi = run["device"].get("nvidia_smi") or {}
    driver = smi.get("driver_version") or f"for CUDA {run['device'].get('cuda_driver', 'unknown')}"
    words = [
        f"{best.label}",
        f"Best of {len(found)} schedules on {result.device}, driver {driver}, {run['time'][:10]}, commit"
        f" {run['commit'][:12]}; the others take up to {found[-1].score / best.score:.2f} times as long.",
    ]
    if len(found) > 1:
        words.append(f"Second: {found[1].label} ({found[1].score / best.score:.3f} times)")
    for answer in answers:
        name = answer.question.id
        words.append(f"{name}: {best.times[name]:.2f} us" + _against(answer, best.label))
    return "".join(f"# {word}\n" for word in words)


def _against(answer: Answer, label: str) -> str:
    """The peers' medians over this schedule's."""
    mine = next(each for each in answer.entrants if each.own and each.name == label)
    timed = [each for each in answer.peers() if each.samples and each.agrees is not False]
    parts = [f"{each.name} {each.time.median / mine.time.median:.3f}" for each in timed]
    return f" (ratios: {', '.join(parts)})" if parts else ""


def _without_header(text: str) -> str:
    """A space's own comments at its top speak of the space."""
    lines = text.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    return "".join(lines[first:])
