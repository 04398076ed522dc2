"""The protocol checker: rings that work, every rule broken, and brute force over all interleavings as its judge."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence

import pytest

from tests.tile.interleavings import Model
from texpr.tile.events import Arrived, EndGroup, Engine, Event, Fenced, GroupsDone, PhaseDone, Use
from texpr.tile.sync import ProtocolError, Rule, check_protocol

TILE = 4096
Roles = dict[str, list[Event]]


def producer(steps: int, depth: int) -> list[Event]:
    """A role that loads ``steps`` tiles into a ring by TMA."""
    events: list[Event] = []
    for step in range(steps):
        slot, turn = step % depth, step // depth
        full = ("full", slot)
        events += [PhaseDone(("empty", slot), (turn & 1) ^ 1), Arrived(full, TILE)]
        events += [Use("x", slot, True, Engine.TMA_LOAD, full, TILE)]
    return events


def consumer(steps: int, depth: int, flying: int = 1) -> list[Event]:
    """A role that multiplies the tiles with ``flying`` wgmmas in flight, so that it frees a tile so many steps late."""
    events: list[Event] = []
    for step in range(steps):
        slot, turn = step % depth, step // depth
        events += [PhaseDone(("full", slot), turn & 1), Use("x", slot, False, Engine.WGMMA), EndGroup(Engine.WGMMA)]
        events += [GroupsDone(Engine.WGMMA, flying)]
        if step >= flying:
            events += [Arrived(("empty", (step - flying) % depth))]
    events += [GroupsDone(Engine.WGMMA, 0)]
    return [*events, *(Arrived(("empty", step % depth)) for step in range(max(0, steps - flying), steps))]


def ring(steps: int, depth: int) -> Roles:
    return {"load": producer(steps, depth), "compute": consumer(steps, depth)}


def check(roles: Roles, consumers: int = 1) -> None:
    check_protocol(roles, {"full": 1, "empty": consumers})


def broken(roles: Roles, consumers: int = 1) -> Rule:
    with pytest.raises(ProtocolError) as caught:
        check(roles, consumers)
    return caught.value.rule


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_ring_is_right_for_every_number_of_steps(depth: int) -> None:
    for steps in (0, 1, depth - 1, depth, depth + 1, 2 * depth + 1):
        check(ring(steps, depth))


def test_a_ring_of_one_tile_cannot_be_freed_a_step_late() -> None:
    assert broken(ring(2, 1)) is Rule.DEADLOCK


@pytest.mark.parametrize("flying", [0, 1, 2, 3])
def test_a_ring_has_room_for_all_steps_in_flight(flying: int) -> None:
    for depth in (flying + 1, flying + 2):
        for steps in (0, 1, depth - 1, depth, depth + 1, 2 * depth + 1):
            check({"load": producer(steps, depth), "compute": consumer(steps, depth, flying)})
    if flying:
        assert broken({"load": producer(9, flying), "compute": consumer(9, flying, flying)}) is Rule.DEADLOCK


def test_a_tile_that_is_freed_while_the_second_step_in_flight_reads_it() -> None:
    events = consumer(7, 4, 2)
    early = [GroupsDone(Engine.WGMMA, 3) if event == GroupsDone(Engine.WGMMA, 2) else event for event in events]
    assert broken({"load": producer(7, 4), "compute": early}) is Rule.IN_FLIGHT


def test_two_consumers_of_one_ring() -> None:
    check({"load": producer(7, 3), "a": consumer(7, 3), "b": consumer(7, 3)}, consumers=2)


def test_one_role_that_loads_ahead_of_itself() -> None:
    depth, steps, events = 3, 8, list[Event]()

    def load(step: int) -> None:
        if step < steps:
            full = ("full", step % depth)
            events.extend([Arrived(full, TILE), Use("x", step % depth, True, Engine.TMA_LOAD, full, TILE)])

    for step in range(depth - 1):
        load(step)
    for step in range(steps):
        events.extend([PhaseDone(("full", step % depth), step // depth & 1), Use("x", step % depth, False)])
        load(step + depth - 1)
    check({"program": events})


def test_a_store_through_shared_memory() -> None:
    tile: list[Event] = [GroupsDone(Engine.TMA_STORE, 0), Use("y", 0, True), Fenced()]
    tile += [Use("y", 0, False, Engine.TMA_STORE), EndGroup(Engine.TMA_STORE)]
    check({"program": [*tile, *tile, GroupsDone(Engine.TMA_STORE, 0)]})


def test_cp_async_that_arrives_when_it_has_landed() -> None:
    load: list[Event] = [Use("x", 0, True, Engine.CP_ASYNC), Arrived(("full", 0), copies=True)]
    compute: list[Event] = [PhaseDone(("full", 0), 0), Fenced(), Use("x", 0, False, Engine.WGMMA)]
    compute += [EndGroup(Engine.WGMMA), GroupsDone(Engine.WGMMA, 0)]
    check({"load": load, "compute": compute})
    assert broken({"load": load, "compute": [e for e in compute if not isinstance(e, Fenced)]}) is Rule.UNFENCED
    early: list[Event] = [load[0], Arrived(("full", 0))]
    assert broken({"load": early, "compute": compute}) is Rule.IN_FLIGHT


THREADS = 3  # of the role that gathers
GATHERED = {"full": THREADS + 1, "empty": 1}


def gatherer(steps: int, depth: int) -> list[Event]:
    """A role whose threads gather one tile a step, beside a box that they have the copy engine fetch."""
    events: list[Event] = []
    for step in range(steps):
        slot, turn = step % depth, step // depth
        full = ("full", slot)
        events += [PhaseDone(("empty", slot), (turn & 1) ^ 1), Arrived(full, TILE)]
        events += [Use("w", slot, True, Engine.TMA_LOAD, full, TILE), Use("x", slot, True, Engine.CP_ASYNC)]
        events += [Arrived(full, copies=True, count=THREADS)]
    return events


def multiplier(steps: int, depth: int) -> list[Event]:
    """The role that multiplies both tiles: it fences what threads wrote."""
    events: list[Event] = []
    for event in consumer(steps, depth):
        events += [event] if not isinstance(event, Use) else [Fenced(), event, dataclasses.replace(event, buffer="w")]
    return events


def gathering(steps: int, depth: int) -> Roles:
    return {"gather": gatherer(steps, depth), "compute": multiplier(steps, depth)}


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_ring_that_threads_fill_is_right_for_every_number_of_steps(depth: int) -> None:
    for steps in (0, 1, depth - 1, depth, depth + 1, 2 * depth + 1):
        check_protocol(gathering(steps, depth), GATHERED)


def gathered_wrongly(role: str, change: Callable[[Event], Sequence[Event]], arrivals: dict[str, int]) -> Rule:
    roles = gathering(5, 2)
    roles[role] = [new for event in roles[role] for new in change(event)]
    with pytest.raises(ProtocolError) as caught:
        check_protocol(roles, arrivals)
    return caught.value.rule


def copies(event: Event) -> bool:
    return isinstance(event, Arrived) and event.copies


def test_threads_that_never_say_that_their_copies_have_landed() -> None:
    assert gathered_wrongly("gather", lambda e: [] if copies(e) else [e], GATHERED) is Rule.DEADLOCK


def test_fewer_or_more_threads_than_a_barrier_counts() -> None:
    same = list[Event]
    for arrivals in (THREADS + 2, THREADS, 1):
        rule = gathered_wrongly("gather", lambda e: same([e]), {**GATHERED, "full": arrivals})
        assert rule in (Rule.DEADLOCK, Rule.MISCOUNTED)


def test_threads_that_arrive_before_their_copies_have_landed() -> None:
    def at_once(event: Event) -> Sequence[Event]:
        return [dataclasses.replace(event, copies=False)] if isinstance(event, Arrived) else [event]

    assert gathered_wrongly("gather", at_once, GATHERED) is Rule.IN_FLIGHT


def test_stores_that_only_arrivals_for_copies_follow() -> None:
    def stored(event: Event) -> Sequence[Event]:
        threads = isinstance(event, Use) and event.engine is Engine.CP_ASYNC
        return [dataclasses.replace(event, engine=Engine.THREADS)] if threads else [event]

    assert gathered_wrongly("gather", stored, GATHERED) is Rule.UNORDERED


def test_products_of_what_threads_wrote_without_a_fence() -> None:
    no_fence = gathered_wrongly("compute", lambda e: [] if isinstance(e, Fenced) else [e], GATHERED)
    assert no_fence is Rule.UNFENCED
    roles = gathering(2, 2)
    fences = [n for n, event in enumerate(roles["compute"]) if isinstance(event, Fenced)]
    for n in fences:  # before the wait the writes have not happened
        events = list(roles["compute"])
        events[n - 1 : n + 1] = [events[n], events[n - 1]]
        with pytest.raises(ProtocolError) as caught:
            check_protocol({**roles, "compute": events}, GATHERED)
        assert caught.value.rule is Rule.UNFENCED


def without(events: Sequence[Event], wanted: Callable[[Event], bool], which: int = 0) -> list[Event]:
    """All but the ``which``-th event that is ``wanted``."""
    found = [n for n, event in enumerate(events) if wanted(event)]
    return [event for n, event in enumerate(events) if n != found[which]]


def test_a_tile_that_is_read_before_it_has_landed() -> None:
    roles = ring(5, 2)
    roles["compute"] = without(roles["compute"], lambda e: isinstance(e, PhaseDone), 4)
    assert broken(roles) in (Rule.IN_FLIGHT, Rule.MISCOUNTED)


def test_a_tile_that_is_overwritten_under_its_reader() -> None:
    roles = ring(5, 2)
    roles["load"] = without(roles["load"], lambda e: isinstance(e, PhaseDone), 2)
    assert broken(roles) in (Rule.IN_FLIGHT, Rule.MISCOUNTED)


def test_a_tile_that_is_freed_while_wgmma_reads_it() -> None:
    roles = ring(5, 2)
    roles["compute"] = [GroupsDone(e.engine, 2) if isinstance(e, GroupsDone) else e for e in roles["compute"]]
    assert broken(roles) is Rule.IN_FLIGHT


def test_threads_that_write_what_others_read() -> None:
    assert broken({"a": [Use("y", 0, True)], "b": [Use("y", 0, False)]}) is Rule.UNORDERED


def test_a_missing_arrival() -> None:
    roles = ring(5, 2)
    roles["compute"] = without(roles["compute"], lambda e: isinstance(e, Arrived), 0)
    assert broken(roles) in (Rule.DEADLOCK, Rule.STALE)


def test_an_arrival_too_many() -> None:
    roles = ring(2, 2)
    roles["compute"].append(Arrived(("empty", 0)))
    assert broken(roles) is Rule.MISCOUNTED


def test_a_wait_for_the_other_parity() -> None:
    roles = ring(5, 2)
    roles["compute"] = [PhaseDone(e.barrier, e.parity ^ 1) if isinstance(e, PhaseDone) else e for e in roles["compute"]]
    assert broken(roles) is Rule.DEADLOCK


def test_a_phase_that_may_complete_before_the_wait_for_the_one_before() -> None:
    full, go = ("full", 0), ("empty", 0)
    load: list[Event] = [Arrived(full), PhaseDone(full, 0), PhaseDone(go, 0), Arrived(full)]
    assert broken({"load": load, "compute": [Arrived(go), PhaseDone(full, 0)]}) is Rule.OVERRUN
    check({"load": load, "compute": [PhaseDone(full, 0), Arrived(go)]})


def test_a_wait_that_may_pass_on_an_older_phase() -> None:
    full = ("full", 0)
    load: list[Event] = [Arrived(full), PhaseDone(full, 0), Arrived(full), PhaseDone(full, 1), Arrived(full)]
    assert broken({"load": load, "compute": [PhaseDone(full, 0)]}) is Rule.STALE
    check({"load": load[:1], "compute": [PhaseDone(full, 0)]})


def test_bytes_that_do_not_come() -> None:
    roles = ring(3, 2)
    roles["load"] = [Arrived(e.barrier, e.bytes + 16) if isinstance(e, Arrived) else e for e in roles["load"]]
    with pytest.raises(ProtocolError, match=r"16 bytes missing") as caught:
        check(roles)
    assert caught.value.rule is Rule.DEADLOCK


def test_a_load_that_nobody_waits_for() -> None:
    assert broken({"load": producer(1, 1)}) is Rule.UNFINISHED


def test_a_store_in_flight_at_the_end() -> None:
    events: list[Event] = [Use("y", 0, True), Fenced(), Use("y", 0, False, Engine.TMA_STORE)]
    events += [EndGroup(Engine.TMA_STORE)]
    assert broken({"program": events}) is Rule.UNFINISHED


def test_a_store_of_what_threads_wrote_without_a_fence() -> None:
    events: list[Event] = [Use("y", 0, True), Use("y", 0, False, Engine.TMA_STORE), EndGroup(Engine.TMA_STORE)]
    assert broken({"program": [*events, GroupsDone(Engine.TMA_STORE, 0)]}) is Rule.UNFENCED


def mutant(roles: Roles, random_: random.Random) -> Roles:
    """One event removed, repeated, moved or changed."""
    changed = {name: list(events) for name, events in roles.items()}
    name = random_.choice([name for name, events in changed.items() if events])
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
        case _, GroupsDone(engine=engine, pending=pending):
            events[at] = GroupsDone(engine, pending + 1)
        case _, Arrived(copies=True, count=count) if random_.random() < 0.5:
            events[at] = dataclasses.replace(events[at], count=count + random_.choice([-1, 1]))
        case _, Arrived(barrier=(array, slot)):
            events[at] = dataclasses.replace(events[at], barrier=(array, slot ^ 1))
        case _, event:
            events.append(event)
    return changed


def accepted(roles: Roles, arrivals: dict[str, int]) -> bool:
    try:
        check_protocol(roles, arrivals)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize(
    ("make", "arrivals", "times"), [(ring, {"full": 1, "empty": 1}, 5), (gathering, GATHERED, 3)]
)
def test_what_is_accepted_is_right_in_every_interleaving(
    make: Callable[[int, int], Roles], arrivals: dict[str, int], times: int
) -> None:
    """And most of what is wrong nowhere is accepted: the rest depends on luck that no program should count on, or lacks
    a fence, of which interleavings know nothing."""
    random_ = random.Random(5)
    verdicts = {(one, other): 0 for one in (False, True) for other in (False, True)}
    for _ in range(600):
        roles = make(random_.choice([1, 2, 3, 4]), 2)
        for _ in range(random_.choice([1, 1, 2])):
            roles = mutant(roles, random_)
        bad = Model(roles, arrivals).is_bad()
        verdicts[accepted(roles, arrivals), bad] += 1
    assert verdicts[True, True] == 0
    assert verdicts[False, True] > 300
    assert verdicts[True, False] > times * verdicts[False, False]


def test_what_is_accepted_of_two_consumers_is_right_in_every_interleaving() -> None:
    random_ = random.Random(7)
    verdicts = {(one, other): 0 for one in (False, True) for other in (False, True)}
    for _ in range(200):
        steps = random_.choice([1, 2, 3])
        roles = {"load": producer(steps, 2), "a": consumer(steps, 2), "b": consumer(steps, 2)}
        roles = mutant(roles, random_)
        bad = Model(roles, {"full": 1, "empty": 2}).is_bad()
        verdicts[accepted(roles, {"full": 1, "empty": 2}), bad] += 1
    assert verdicts[True, True] == 0
    assert verdicts[False, True] > 70
    assert verdicts[True, False] > 3 * verdicts[False, False]
