"""Results as they come back from a GPU, read with checks: what a report says rests on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure.questions import Question, question_of
from bench.measure.results import RESULT_VERSION
from bench.measure.statistics import Summary, drift, ratio, summary
from bench.sweep.yaml_lines import BenchError


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contestant in an answer: ``samples`` in microseconds per call, of rounds that all contestants share; without
    samples, ``why`` there are none, and whether it is ``absent`` altogether. ``agrees``: its results are right (None:
    that is not known)."""

    name: str
    own: bool
    samples: tuple[float, ...]
    graph: bool
    agrees: bool | None
    why: str
    absent: bool

    @property
    def time(self) -> Summary:
        return summary(self.samples)

    @property
    def drift(self) -> float:
        return drift(self.samples)


@dataclass(frozen=True, slots=True)
class Answer:
    """``trouble`` is why there are no contestants."""

    question: Question
    entrants: tuple[Entrant, ...]
    trouble: str

    def ours(self) -> Entrant | None:
        """Our fastest kernel."""
        timed = [each for each in self.entrants if each.own and each.samples]
        return min(timed, key=lambda each: each.time.median, default=None)

    def peers(self) -> list[Entrant]:
        return [each for each in self.entrants if not each.own]

    def ratio_to(self, peer: Entrant) -> Summary | None:
        """How many times as long as ours a peer takes; None where one of both has no time, or the peer is wrong."""
        ours = self.ours()
        if ours is None or not peer.samples or peer.agrees is False:
            return None
        return ratio(peer.samples, ours.samples)


@dataclass(frozen=True, slots=True)
class Result:
    """One file. ``run`` are the circumstances of its last run."""

    file: Path
    measurement: bool
    run: Mapping[str, Any]
    answers: tuple[Answer, ...]

    @property
    def device(self) -> str:
        return str(self.run["device"]["name"])

    def limit(self, question: Question) -> float | None:
        """The least microseconds that the device's own rates allow; None where a rate is needed and was not
        measured."""
        limits = self.run["limits"]
        found = [question.bytes / limits["copy"]["per_second"]]
        if question.flops:
            rate = limits["matmul"].get(question.unit, {}).get("per_second")
            if rate is None:
                return None
            found.append(question.flops / rate)
        return 1e6 * max(found)


def read_results(files: Sequence[Path]) -> list[Result]:
    """Raises BenchError for what is no result, and where measurements and others would be mixed."""
    results = [_read(file) for file in files]
    if len({result.measurement for result in results}) > 1:
        fake = ", ".join(str(result.file) for result in results if not result.measurement)
        raise BenchError(f"{fake}: no measurement, and not to be mixed with others that are")
    return results


def _read(file: Path) -> Result:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        version = value["texpr_bench_result"]
        if version != RESULT_VERSION:
            raise BenchError(f"{file}: its format is {version}, this version reads {RESULT_VERSION}")
        if not value["runs"]:
            raise BenchError(f"{file}: it has no runs")
        answers = tuple(_answer(each) for each in value["answers"])
        return Result(file, bool(value["measurement"]), value["runs"][-1], answers)
    except OSError as error:
        raise BenchError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{file}: it is no result of the bench ({error!r})") from None


def _answer(data: Mapping[str, Any]) -> Answer:
    question = question_of(data["question"])
    entrants = tuple(_entrant(name, each) for name, each in data.get("contestants", {}).items())
    counts = {len(each.samples) for each in entrants if each.samples}
    if len(counts) > 1:
        raise ValueError(f"{question.id}: contestants have different numbers of samples")
    return Answer(question, entrants, data.get("trouble", ""))


def _entrant(name: str, data: Mapping[str, Any]) -> Entrant:
    why = data.get("absent") or data.get("refused") or data.get("wrong") or ""
    agrees = data["check"]["agrees"] if "check" in data else None
    samples, graph = tuple(data.get("samples", ())), data.get("graph", False)
    return Entrant(name, data["own"], samples, graph, agrees, why, "absent" in data)
