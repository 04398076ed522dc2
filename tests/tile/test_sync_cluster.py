"""The protocol of two programs that share a ring: one fetches a box for both. Right for every number of steps, wrong
without any part of it, and judged by brute force over all interleavings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from tests.tile.interleavings import Model
from texpr.tile.events import Arrived, Ended, Engine, Event, PhaseDone, Use
from texpr.tile.sync import ProtocolError, Rule, check_protocol

TILE = 4096
BOTH = (0, 1)
ARRIVALS = {"full 0": 1, "full 1": 1, "own 0": 1, "own 1": 1, "all": 2, "meet": 2}
Roles = dict[str, list[Event]]


def load(program: int, steps: int, depth: int) -> list[Event]:
    """A box of its own, and from program 0 one for both: when both have read what was in the slot."""
    events: list[Event] = []
    for step in range(steps):
        slot, vacant, full = step % depth, (step // depth & 1) ^ 1, (f"full {program}", step % depth)
        events += [PhaseDone((f"own {program}", slot), vacant)]
        events += [PhaseDone(("all", slot), vacant)] if program == 0 else []
        events += [Arrived(full, 2 * TILE), Use(f"x {program}", slot, True, Engine.TMA_LOAD, full, TILE)]
        if program == 0:
            events += [Use(f"w {p}", slot, True, Engine.TMA_LOAD, (f"full {p}", slot), TILE) for p in BOTH]
    return events


def compute(program: int, steps: int, depth: int) -> list[Event]:
    events: list[Event] = []
    for step in range(steps):
        slot = step % depth
        events += [PhaseDone((f"full {program}", slot), step // depth & 1)]
        events += [Use(f"{name} {program}", slot, False) for name in "xw"]
        events += [Arrived((f"own {program}", slot)), Arrived(("all", slot))]
    return events


def whole(program: int, steps: int, depth: int) -> list[Event]:
    """All that a program does, one role after the other where that is right, and its end."""
    names = {f"{name} {program}" for name in ("x", "w", "full", "own")} | ({"all"} if program == 0 else set())
    return [*compute(program, steps, depth), Arrived(("meet", 0)), PhaseDone(("meet", 0), 0), Ended(frozenset(names))]


def pair(steps: int, depth: int) -> Roles:
    return {f"load {p}": load(p, steps, depth) for p in BOTH} | {f"compute {p}": whole(p, steps, depth) for p in BOTH}


def check(roles: Roles) -> None:
    check_protocol(roles, ARRIVALS)


def broken(roles: Roles) -> Rule:
    with pytest.raises(ProtocolError) as caught:
        check(roles)
    return caught.value.rule


def without(events: Sequence[Event], wanted: Callable[[Event], bool], which: int = 0) -> list[Event]:
    found = [n for n, event in enumerate(events) if wanted(event)]
    return [event for n, event in enumerate(events) if n != found[which]]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_two_programs_of_a_cluster_share_a_box(depth: int) -> None:
    for steps in (0, 1, depth - 1, depth, depth + 1, 2 * depth + 1):
        check(pair(steps, depth))


def test_a_box_that_overwrites_what_another_program_reads() -> None:
    """The first program waits for its own reader only."""
    roles = pair(3, 1)
    roles["load 0"] = [e for e in roles["load 0"] if not (isinstance(e, PhaseDone) and e.barrier[0] == "all")]
    assert broken(roles) is Rule.IN_FLIGHT  # the box of the step before may not even have landed


def test_bytes_that_are_expected_before_the_phase_before_has_completed() -> None:
    """The second program does not wait for its own reader."""
    roles = pair(3, 1)
    roles["load 1"] = [e for e in roles["load 1"] if not isinstance(e, PhaseDone)]
    assert broken(roles) is Rule.MISCOUNTED


def test_a_program_that_does_not_give_a_slot_back_to_the_other() -> None:
    roles = pair(3, 1)
    roles["compute 1"] = without(roles["compute 1"], lambda e: isinstance(e, Arrived) and e.barrier[0] == "all")
    assert broken(roles) in (Rule.DEADLOCK, Rule.STALE)


def test_a_program_that_expects_too_few_bytes() -> None:
    roles = pair(2, 2)
    roles["load 1"] = [Arrived(e.barrier, TILE) if isinstance(e, Arrived) else e for e in roles["load 1"]]
    with pytest.raises(ProtocolError):
        check(roles)


def test_barriers_of_a_program_that_has_ended() -> None:
    """The second program still arrives at the barriers of the first one when that may be gone."""
    roles = pair(2, 2)
    meeting = [e for e in roles["compute 0"] if not (isinstance(e, Arrived | PhaseDone) and e.barrier[0] == "meet")]
    other = [e for e in roles["compute 1"] if not (isinstance(e, Arrived | PhaseDone) and e.barrier[0] == "meet")]
    assert broken(roles | {"compute 0": meeting, "compute 1": other}) is Rule.OUTLIVED
    arrived_early = [e for e in roles["compute 1"] if not (isinstance(e, Arrived) and e.barrier[0] == "meet")]
    assert broken(roles | {"compute 1": [Arrived(("meet", 0)), *arrived_early]}) is Rule.OUTLIVED


def test_a_box_that_lands_in_a_program_that_has_ended() -> None:
    """The second program meets the first one, but does not wait for its last box."""
    roles = pair(1, 1)
    assert broken(roles | {"compute 1": roles["compute 1"][-3:]}) is Rule.OUTLIVED


def mutant(roles: Roles, random_: random.Random) -> Roles:
    """One event removed, repeated, moved, or sent to the other program."""
    changed = {name: list(events) for name, events in roles.items()}
    name = random_.choice(list(changed))
    events = changed[name]
    at = random_.randrange(len(events))
    match random_.randrange(4), events[at]:
        case 0, _:
            del events[at]
        case 1, event:
            events.insert(random_.randrange(len(events) + 1), event)
        case 2, _:
            events.insert(random_.randrange(len(events)), events.pop(at))
        case _, PhaseDone(barrier=barrier, parity=parity):
            events[at] = PhaseDone(barrier, parity ^ 1)
        case _, Arrived(barrier=(("full 0" | "full 1" | "own 0" | "own 1") as array, slot), bytes=expected):
            events[at] = Arrived((f"{array[:-1]}{1 - int(array[-1])}", slot), expected)
        case _, _:
            del events[at]
    return changed


def accepted(roles: Roles) -> bool:
    try:
        check(roles)
    except ProtocolError:
        return False
    return True


def test_what_is_accepted_is_right_in_every_interleaving() -> None:
    random_ = random.Random(3)
    verdicts = {(one, other): 0 for one in (False, True) for other in (False, True)}
    assert not Model(pair(3, 1), ARRIVALS).is_bad()
    for _ in range(400):
        roles = mutant(pair(random_.choice([1, 2, 2]), 1), random_)
        bad = Model(roles, ARRIVALS).is_bad()
        verdicts[accepted(roles), bad] += 1
    assert verdicts[True, True] == 0
    assert verdicts[False, True] > 200
    assert verdicts[True, False] > 0
