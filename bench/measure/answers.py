"""One question on one device: contestants are made ready, looked at, and timed side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.measure.contest import Ready, Sets, own, piece_of
from bench.measure.devices import Bench
from bench.measure.questions import Own, Question
from bench.measure.rounds import Piece, Rules, take_samples
from bench.peers import Absent, Call, prepare
from texpr.errors import TExprError
from texpr.packing.runner.compare import compare, decode_bound
from texpr.packing.runner.cuda import describe
from texpr.packing.runner.devices import LaunchFailed
from texpr.packing.runner.execute import selection
from texpr.packing.runner.main import Entries
from texpr.packing.runner.memory import span_bytes
from texpr.packing.runner.records import Case, Pack

TOLERANCE: Final = 16.0
"""A peer may be off by so many times the bound of our own kernels: it may round in places where ours may not."""


@dataclass(frozen=True, slots=True)
class Field:
    """What all questions of a run share. ``wrong`` says what is known against our own cases, by id; ``missing`` why
    peers are not there, by name."""

    bench: Bench
    pack: Pack
    entries: Entries
    extras: Path
    rules: Rules
    target: str
    wrong: Mapping[str, str]
    missing: Mapping[str, str]


def case_for(own_: Own, field: Field) -> Case | None:
    """The pack's case of one of our kernels on this device."""
    cases = {case.id: case for case in field.pack.cases}
    found = (cases[name] for name in own_.cases if name in cases)
    return next((case for case in found if field.target in case.targets), None)


def answer(question: Question, field: Field) -> dict[str, Any]:
    """Samples of everybody, and why some have none. Raises MemoryError where the buffers do not fit, LaunchFailed where
    the device stopped one of our kernels."""
    entrants = {each.label: case_for(each, field) for each in question.own}
    cases = [case for case in entrants.values() if case is not None and case.id not in field.wrong]
    silent = {label: _own_trouble(case, field) for label, case in entrants.items() if case not in cases}
    report: dict[str, Any] = {name: {"own": True, **trouble} for name, trouble in silent.items()}
    if not cases:
        return {"contestants": report}
    context, entry = field.entries.get(cases[0])
    sets = Sets(field.bench, context, entry, cases[0], field.pack.folder)
    opened: list[Ready] = []
    pieces: list[Piece] = []
    try:
        for label, case in entrants.items():
            if case in cases and case is not None:
                context, entry = field.entries.get(case)
                ready = own(field.bench, context, case, sets, entry)
                opened.append(ready)
                _enter(label, ready, sets, field, report, pieces, ours=True)
        for each in question.peers:
            if each.peer in field.missing:
                report[each.peer] = {"own": False, "absent": field.missing[each.peer]}
                continue
            try:
                ready = prepare(each.text, Call(each.peer, field.bench, sets, field.pack.folder, field.extras))
                opened.append(ready)
                _enter(each.peer, ready, sets, field, report, pieces, ours=False)
            except LaunchFailed:
                raise
            except Absent as error:
                report[each.peer] = {"own": False, "absent": str(error)}
            except Exception as error:  # peers raise what they like for what they do not take
                report[each.peer] = {"own": False, "refused": describe(error)}
            report[each.peer]["text"] = each.text
        before = field.bench.clocks()
        for name, samples in take_samples(field.bench, pieces, field.rules).items():
            report[name]["samples"] = list(samples)
        return {
            "contestants": report,
            "sets": len(sets),
            "set_bytes": sets.bytes,
            "clocks": {"before": before, "after": field.bench.clocks()},
        }
    finally:
        for ready in opened:
            ready.close()
        sets.close()


def _own_trouble(case: Case | None, field: Field) -> dict[str, str]:
    if case is None:
        return {"absent": f"the pack has no case for {field.target}"}
    return {"wrong": field.wrong[case.id]}


def _enter(
    name: str, ready: Ready, sets: Sets, field: Field, report: dict[str, Any], pieces: list[Piece], *, ours: bool
) -> None:
    """Make a contestant's piece, and look at its results if it is a peer. Raises what a call raises."""
    piece, why = piece_of(field.bench, name, ready, len(sets), field.rules)
    record: dict[str, Any] = {"own": ours, "calls": piece.calls, "graph": piece.graph, **dict(ready.facts or {})}
    if why:
        record["why_no_graph"] = why
    if ready.results is not None:
        ready.run(0)
        field.bench.synchronize()
        record["check"] = checked(ready.results(), sets, field.pack)
    report[name] = record
    pieces.append(piece)


def checked(results: Sequence[Any], sets: Sets, pack: Pack) -> dict[str, Any]:
    """A peer's outputs against the reference: ``worst`` in units of our bound, and whether it ``agrees`` within the
    tolerance. Where there is no reference, whether it has the bits of our kernel (None: it has not, and may not have
    to)."""
    case = sets.case
    if case.arrays is None:
        return _compared_with_ours(results, sets)
    with np.load(pack.folder / case.arrays, allow_pickle=False) as file:
        arrays = dict(file)
    worst, text = 0.0, ""
    compared = 0
    for output, result in zip(case.outputs, results, strict=False):
        if output.expected is None:
            continue
        wanted = arrays[output.expected.value]
        picked = np.asarray(result).view(wanted.dtype)[selection(output)]
        bound = None if output.expected.bound is None else decode_bound(arrays[output.expected.bound])
        verdict = compare(output.layout.name, picked, wanted, bound, output.layout.dtype)
        compared += verdict.elements
        if verdict.worst > worst:
            worst, text = verdict.worst, verdict.text
    if not compared:
        return {"worst": None, "agrees": None, "text": "it gives no output that was compared"}
    agrees = worst <= TOLERANCE
    return {"worst": worst if np.isfinite(worst) else "inf", "agrees": agrees, "text": "" if agrees else text}


def _compared_with_ours(results: Sequence[Any], sets: Sets) -> dict[str, Any]:
    placed = sets.placed[0]
    equal, exact = True, True
    for output, result in zip(sets.case.outputs, results, strict=False):
        size = span_bytes(output.layout)
        ours = placed.device.read(placed.addresses[output.layout.name], size)
        equal = equal and np.ascontiguousarray(result).tobytes() == ours
        exact = exact and not output.layout.dtype.is_float
    if equal:
        return {"worst": None, "agrees": True, "text": "", "with": "ours"}
    agrees = False if exact else None
    return {"worst": None, "agrees": agrees, "text": "it has other bits than our kernel", "with": "ours"}


def trouble_of(error: Exception) -> str:
    """What stopped a question, in words."""
    return str(error) if isinstance(error, (TExprError, LaunchFailed)) else describe(error)
