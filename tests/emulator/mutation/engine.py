"""Runs mutants: the kernel itself must be clean first, then each mutant under every call and schedule until noticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from tests.emulator.mutation.accesses import ACCESSES
from tests.emulator.mutation.calls import Built, Call, replay
from tests.emulator.mutation.known import known_reason
from tests.emulator.mutation.mutants import Mutant, Mutation, mutants_of, spread
from tests.emulator.mutation.reasons import (
    UNUSED,
    redundant_barrier,
    replaced_barrier,
    unneeded_wait,
    without_effect,
)
from tests.emulator.mutation.statements import parse
from tests.emulator.mutation.synchronisation import SYNCHRONISATION
from texpr.emulator import Fault

KINDS: Mapping[str, Mutation] = SYNCHRONISATION | ACCESSES
SEEDS = (1, 2)
"""Of random schedules: besides lockstep, calls run under these in turn, few calls under all of them."""
_FIRST_LIMIT = 3_000_000


class FalseAlarm(AssertionError):
    """The unmutated kernel is not clean."""


class How(Enum):
    """What became of a mutant. EQUIVALENT: there is a reason why it is no error (see `reasons.py` and `known.py`);
    NEVER_DIFFERS: in none of the calls made did the changed statement act differently, which a trap in its place has
    shown."""

    FAULT = "fault"
    RESULT = "wrong result"
    EQUIVALENT = "equivalent"
    NEVER_DIFFERS = "never differs"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`detail` is the kind of fault, what is wrong with the result, or why the mutant is equivalent; `call` and `seed`
    say what noticed it."""

    kernel: str
    kind: str
    line: int
    statement: str
    description: str
    how: How
    detail: str = ""
    call: str = ""
    seed: int | None = None
    further: bool = False
    """Whether it took a call beyond those that the check itself makes."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to run a kernel. `limit` is the number of blocks after which it counts as hung; `memory` identifies what
    the unmutated kernel leaves behind."""

    call: Call
    seed: int | None
    limit: int
    memory: int
    further: bool = False


@dataclass(slots=True)
class Trials:
    """All ways to run a kernel: in lockstep, with further sizes, and under random schedules. A trial that notices a
    mutant moves to the front of its list, for the next mutant is probably noticed by it as well."""

    lockstep: list[Trial]
    further: list[Trial]
    random: list[Trial]


def clean_trials(built: Built) -> Trials:
    """All ways to run these kernels, once they are known to pass every one of them. Raises FalseAlarm."""
    lockstep = [_clean(built.kernels, call, None) for call in built.calls]
    further = [replace(_clean(built.kernels, call, None), further=True) for call in built.further]
    random = [
        _clean(built.kernels, call, seed)
        for number, call in enumerate(built.calls)
        for seed in (SEEDS if len(built.calls) < 6 else SEEDS[number % len(SEEDS) :: len(SEEDS)])
    ]
    limit = max((trial.limit for trial in (*lockstep, *further)), default=0)  # one for all: they share a device
    lockstep, further = ([replace(trial, limit=limit) for trial in trials] for trials in (lockstep, further))
    return Trials(lockstep, further, random)


def _clean(kernels: Mapping[str, str], call: Call, seed: int | None) -> Trial:
    try:
        result = replay(call, kernels, seed, _FIRST_LIMIT)
    except Fault as fault:
        raise FalseAlarm(f"{call.label}, schedule {seed}:\n{fault}") from fault
    if result.complaint:
        raise FalseAlarm(f"{call.label}, schedule {seed}: {result.complaint}")
    return Trial(call, seed, 8 * result.blocks + 4000, result.memory)


def mutants(ptx: str, kinds: Mapping[str, Mutation], limit: int) -> list[tuple[Mutant, int]]:
    """The mutants of a kernel, each with the number of places of its kind. Every place of synchronisation, and at most
    `limit` places of each other kind: unrolled code has dozens that are alike."""
    text = parse(ptx)
    found: list[tuple[Mutant, int]] = []
    for kind, mutation in kinds.items():
        every = list(mutants_of(text, kind, mutation))
        chosen = every if kind in SYNCHRONISATION else spread(every, limit)
        found += [(mutant, len(every)) for mutant in chosen]
    return found


def examine(kernels: Mapping[str, str], name: str, mutant: Mutant, trials: Trials) -> Outcome:
    """Run a mutant of the kernel `name` until something notices."""
    mutated = kernels | {name: mutant.ptx}
    noticed = _first(mutated, trials.lockstep)
    if noticed is None and mutant.witness is not None:
        witness = kernels | {name: mutant.witness}
        if _first(witness, trials.lockstep) is None and _first(witness, trials.further) is None:
            return _outcome(name, mutant, How.NEVER_DIFFERS, "", None)
    noticed = noticed or _first(mutated, trials.further) or _first(mutated, trials.random)
    if noticed is not None:
        return _outcome(name, mutant, *noticed)
    return _outcome(name, mutant, *_unnoticed(kernels, name, mutant, trials), None)


def _unnoticed(kernels: Mapping[str, str], name: str, mutant: Mutant, trials: Trials) -> tuple[How, str]:
    """Why nothing noticed the mutant, if a machine can tell."""
    if mutant.kind == "barrier removed":
        reason = redundant_barrier(kernels[name], name, mutant.line) or replaced_barrier(
            kernels[name], name, mutant.line, lambda ptx: _is_noticed(kernels | {name: ptx}, trials)
        )
        if reason:
            return How.EQUIVALENT, reason
    if mutant.kind.startswith("cp.async wait") and (reason := unneeded_wait(kernels[name], name, mutant.line)):
        return How.EQUIVALENT, reason
    if mutant.noise and not any(_is_noticed(kernels | {name: ptx}, trials) for ptx in mutant.noise):
        return How.EQUIVALENT, UNUSED
    mutated = kernels | {name: mutant.ptx}
    deterministic = (*trials.lockstep, *trials.further)
    if any(replay(t.call, mutated, t.seed, t.limit).memory != t.memory for t in deterministic):
        return How.SURVIVED, "other results within the bound"
    reason = without_effect(mutant.kind, kernels[name], mutant.line) or known_reason(name, mutant)
    return (How.EQUIVALENT, reason) if reason else (How.SURVIVED, "identical results")


def _is_noticed(kernels: Mapping[str, str], trials: Trials) -> bool:
    """By a run in lockstep: what these are asked about does not depend on the schedule."""
    return _first(kernels, trials.lockstep) is not None or _first(kernels, trials.further) is not None


def _first(kernels: Mapping[str, str], trials: list[Trial]) -> tuple[How, str, Trial] | None:
    """What notices that these kernels are wrong."""
    for position, trial in enumerate(trials):
        try:
            complaint = replay(trial.call, kernels, trial.seed, trial.limit).complaint
        except Fault as fault:
            trials.insert(0, trials.pop(position))
            return How.FAULT, fault.kind.value, trial
        if complaint:
            trials.insert(0, trials.pop(position))
            return How.RESULT, complaint, trial
    return None


def _outcome(name: str, mutant: Mutant, how: How, detail: str, trial: Trial | None) -> Outcome:
    call, seed, further = (trial.call.label, trial.seed, trial.further) if trial else ("", None, False)
    return Outcome(
        name, mutant.kind, mutant.line, mutant.statement, mutant.description, how, detail, call, seed, further
    )
