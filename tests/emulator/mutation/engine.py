"""Runs mutants: the kernel itself must be clean first, then each mutant under every call and schedule until noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from tests.emulator.mutation.accesses import ACCESSES
from tests.emulator.mutation.calls import Call, replay
from tests.emulator.mutation.mutants import Mutant, Mutation, mutants_of, spread
from tests.emulator.mutation.statements import parse
from tests.emulator.mutation.synchronisation import SYNCHRONISATION
from texpr.emulator import Fault

KINDS: Mapping[str, Mutation] = SYNCHRONISATION | ACCESSES
SEEDS = (None, 1, 2)
"""Schedules: lockstep, and two random ones."""
_FIRST_LIMIT = 3_000_000


class FalseAlarm(AssertionError):
    """The unmutated kernel is not clean."""


class How(Enum):
    """What became of a mutant. EQUIVALENT: no call at all can tell it from the kernel; NEVER_DIFFERS: in none of the
    calls made did the changed statement act differently, which a trap in its place has shown."""

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
    """One way to run a kernel; `limit` is the number of blocks after which it counts as hung."""

    call: Call
    seed: int | None
    limit: int


def clean_trials(kernels: Mapping[str, str], calls: Iterable[Call], seeds: tuple[int | None, ...]) -> list[Trial]:
    """Every call under every schedule, once the kernels are known to pass all of them. Raises FalseAlarm."""
    trials = []
    for seed in seeds:
        for call in calls:
            try:
                complaint, blocks = replay(call, kernels, seed, _FIRST_LIMIT)
            except Fault as fault:
                raise FalseAlarm(f"{call.label}, schedule {seed}:\n{fault}") from fault
            if complaint:
                raise FalseAlarm(f"{call.label}, schedule {seed}: {complaint}")
            trials.append(Trial(call, seed, 8 * blocks + 4000))
    return trials


def mutants(ptx: str, kinds: Mapping[str, Mutation], limit: int) -> list[tuple[Mutant, int]]:
    """At most `limit` mutants of each kind, each with the number that there are of its kind."""
    text = parse(ptx)
    found: list[tuple[Mutant, int]] = []
    for kind, mutation in kinds.items():
        every = list(mutants_of(text, kind, mutation))
        found += [(mutant, len(every)) for mutant in spread(every, limit)]
    return found


def examine(
    kernels: Mapping[str, str], name: str, mutant: Mutant, trials: list[Trial], others: list[Trial]
) -> Outcome:
    """Run a mutant of the kernel `name` until something notices, first under `trials`, then under `others`. The trial
    that does is moved to the front: the next mutant is probably noticed by it as well."""
    mutated = kernels | {name: mutant.ptx}
    for list_of_trials in (trials, others):
        for position, trial in enumerate(list_of_trials):
            how, detail = _noticed(mutated, trial)
            if how is not None:
                list_of_trials.insert(0, list_of_trials.pop(position))
                return _outcome(name, mutant, how, detail, trial, further=list_of_trials is others)
    if mutant.witness is not None:
        witness = kernels | {name: mutant.witness}
        if not any(_noticed(witness, trial)[0] for trial in (*trials, *others)):
            return _outcome(name, mutant, How.NEVER_DIFFERS, "", None)
    return _outcome(name, mutant, How.SURVIVED, "", None)


def _noticed(kernels: Mapping[str, str], trial: Trial) -> tuple[How | None, str]:
    try:
        complaint, _ = replay(trial.call, kernels, trial.seed, trial.limit)
    except Fault as fault:
        return How.FAULT, fault.kind.value
    return (How.RESULT, complaint) if complaint else (None, "")


def _outcome(name: str, mutant: Mutant, how: How, detail: str, trial: Trial | None, *, further: bool = False) -> Outcome:
    return Outcome(
        name, mutant.kind, mutant.line, mutant.statement, mutant.description, how, detail,
        trial.call.label if trial else "", trial.seed if trial else None, further,
    )  # fmt: skip
