"""Products that lag a step behind: the order of a step's parts, and that nothing of their protocol can be left out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import pytest

from tests.tile.interleavings import Model
from tests.tile.overlapped import COPIES, program
from tests.tile.test_trace import changed, statements
from texpr.tile.events import Arrived, EndGroup, Engine, Event, GroupsDone, PhaseDone, Use
from texpr.tile.ir import Assign, CopyAsync, DotStep, For, Specialise, Statement, TileProgram, Wait
from texpr.tile.protocol import Arrive, CopyTensor, DotWait, Expect, WaitBarrier
from texpr.tile.sync import ProtocolError, Rule, check_protocol
from texpr.tile.trace import check_synchronisation

PROTOCOL = (Arrive, CopyTensor, DotWait, Expect, WaitBarrier)


def loops(body: tuple[Statement, ...]) -> Iterator[For]:
    for item in body:
        match item:
            case For():
                yield item
                yield from loops(item.body)
            case Specialise(roles=roles):
                for role in roles:
                    yield from loops(role.body)
            case _:
                pass


def is_missed(mutant: TileProgram) -> bool:
    """Whether the checker sees nothing."""
    try:
        check_synchronisation(mutant)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("trim", ["split", "mask"])
def test_a_step_is_two_products_then_everything_else(trim: str) -> None:
    """s of this step and u of the one before are started together; what is computed from s stands before the wait for
    u; keys go back before that, values after it."""
    step = next(loop for loop in loops(program("fetched by a role", trim).body) if loop.counter == "step")
    shown = []
    for item in step.body:
        match item:
            case Assign(name=name, value=DotStep()):
                shown.append(f"start {name}")
            case Assign(name=name) if not name.startswith("s_acc"):
                shown.append(name)
            case DotWait(pending=pending, names=names):
                shown.append(f"wait {pending} {' '.join(names)}")
            case WaitBarrier(barrier=barrier) | Arrive(barrier=barrier):
                shown.append(barrier)
    started = next(name for name in shown if name.startswith("start s_acc"))
    landed = shown.index(f"wait 1 {started.removeprefix('start ')}")
    assert shown[:landed] == ["full_k", started, "start u_acc"]
    assert shown[landed + 1] == "empty_k"
    ended = shown.index("wait 0 u_acc")
    assert any(name.startswith("u_a") for name in shown[landed:ended])
    assert shown[ended - 1 : ended + 3] == ["full_v", "wait 0 u_acc", "empty_v", "u_acc"]


@pytest.mark.parametrize("trim", ["split", "mask"])
@pytest.mark.parametrize("how", COPIES)
def test_the_protocol_is_right(how: str, trim: str) -> None:
    check_synchronisation(program(how, trim))


@pytest.mark.parametrize("how", ["fetched by a role", "boxes of its own", "cp.async"])
def test_no_statement_of_the_protocol_can_be_left_out(how: str) -> None:
    right = program(how, "mask")
    for item in statements(right, PROTOCOL):
        assert not is_missed(changed(right, item)), f"not missed: {item}"


@pytest.mark.parametrize("trim", ["split", "mask"])
def test_a_wait_for_fewer_products_than_are_read(trim: str) -> None:
    right = program("fetched by a role", trim)
    for item in statements(right, DotWait):
        assert isinstance(item, DotWait)
        with pytest.raises(ProtocolError) as caught:
            check_synchronisation(changed(right, item, dataclasses.replace(item, pending=item.pending + 1)))
        assert caught.value.rule in (Rule.IN_FLIGHT, Rule.UNFINISHED)


def test_tiles_that_are_given_back_before_their_product_has_ended() -> None:
    """Where the other role could know that in no other way: it fills slots in turn, and values with fewer slots than
    keys come free later than these."""
    for how, barrier in (("keys with fewer slots", "empty_k"), ("fetched by a role", "empty_v")):
        right = program(how, "mask")
        mutants = [changed(changed(right, arrive), wait, arrive, wait) for wait, arrive in neighbours(right, barrier)]
        caught = [mutant for mutant in mutants if not is_missed(mutant)]
        assert caught, barrier


def neighbours(right: TileProgram, barrier: str) -> list[tuple[DotWait, Arrive]]:
    """The waits for products that arrivals at a barrier follow at once."""
    items = statements(right, (DotWait, Arrive))
    return [
        (wait, arrive)
        for wait, arrive in itertools.pairwise(items)
        if isinstance(wait, DotWait) and isinstance(arrive, Arrive) and arrive.barrier == barrier
    ]


def test_the_slot_of_another_step() -> None:
    right = program("fetched by a role", "mask")
    for item in statements(right, (WaitBarrier, Arrive)):
        assert isinstance(item, WaitBarrier | Arrive)
        if not item.barrier.endswith("_q"):
            other = changed(right, item, dataclasses.replace(item, slot=(item.slot + 1) % 2))
            assert not is_missed(other), f"not missed: {item}"


def test_a_ring_without_room_for_the_tile_that_lags() -> None:
    """The copy of the next step would overwrite what a lagging product reads."""
    right = program("cp.async", "mask")
    v = next(buffer for buffer in right.buffers if buffer.name.startswith("v_"))
    assert v.depth == 4
    copies = [item for item in statements(right, CopyAsync) if isinstance(item, CopyAsync) and item.buffer == v.name]
    (inside,) = [item for item in copies if item.stage is not None and "step" in str(item.stage)][-1:]
    assert inside.stage is not None
    assert not is_missed(changed(right, inside, dataclasses.replace(inside, stage=(inside.stage + 2) % 4)))


def test_copies_that_are_not_waited_for() -> None:
    right = program("cp.async, two steps ahead", "mask")
    waits = [item for item in statements(right, Wait) if isinstance(item, Wait) and item.pending]
    assert waits
    for item in waits:
        assert not is_missed(changed(right, item, Wait(item.pending + 1)))


# ---- events ----------------------------------------------------------------------------------------------------------

ARRIVALS = dict.fromkeys(("full_k", "empty_k", "full_v", "empty_v"), 1)
BYTES = 4096
Roles = dict[str, list[Event]]


def tile(ring: str, step: int, depth: int) -> list[Event]:
    """A role loads the tile of a step into its ring."""
    slot, turn = step % depth, step // depth
    full = (f"full_{ring}", slot)
    load = Use(ring, slot, True, Engine.TMA_LOAD, full, BYTES)
    return [PhaseDone((f"empty_{ring}", slot), (turn & 1) ^ 1), Arrived(full, BYTES), load]


def product(ring: str, step: int, depth: int) -> list[Event]:
    return [Use(ring, step % depth, False, Engine.WGMMA), EndGroup(Engine.WGMMA)]


def landed(ring: str, step: int, depth: int) -> PhaseDone:
    return PhaseDone((f"full_{ring}", step % depth), step // depth & 1)


def overlapped(steps: int, depth: int) -> Roles:
    """What loads two rings, and what multiplies tiles of one of them a step late."""
    load = [event for step in range(steps) for ring in "kv" for event in tile(ring, step, depth)]
    compute: list[Event] = []
    for step in range(steps):
        compute += [landed("k", step, depth), *product("k", step, depth)]
        compute += product("v", step - 1, depth) if step else []
        compute += [GroupsDone(Engine.WGMMA, 1 if step else 0), Arrived(("empty_k", step % depth))]
        compute += [landed("v", step, depth)]
        compute += [GroupsDone(Engine.WGMMA, 0), Arrived(("empty_v", (step - 1) % depth))] if step else []
    if steps:
        last = (steps - 1) % depth
        compute += [*product("v", steps - 1, depth), GroupsDone(Engine.WGMMA, 0), Arrived(("empty_v", last))]
    return {"load": load, "compute": compute}


def accepted(roles: Roles) -> bool:
    try:
        check_protocol(roles, ARRIVALS)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_two_rings_read_a_step_apart_are_right(depth: int) -> None:
    for steps in (0, 1, depth - 1, depth, depth + 1, 2 * depth + 1):
        assert accepted(overlapped(steps, depth))


def test_one_slot_is_too_few_for_what_lags() -> None:
    with pytest.raises(ProtocolError) as caught:
        check_protocol(overlapped(2, 1), ARRIVALS)
    assert caught.value.rule is Rule.DEADLOCK


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_what_is_accepted_is_right_in_every_interleaving(steps: int) -> None:
    """Every event left out, every two neighbours of the role that computes exchanged."""
    right = overlapped(steps, 2)
    assert not Model(right, ARRIVALS).is_bad()
    mutants: list[Roles] = []
    for name, events in right.items():
        mutants += [{**right, name: events[:n] + events[n + 1 :]} for n in range(len(events))]
    compute = right["compute"]
    for n in range(len(compute) - 1):
        mutants += [{**right, "compute": [*compute[:n], compute[n + 1], compute[n], *compute[n + 2 :]]}]
    wrong = 0
    for mutant in mutants:
        bad = Model(mutant, ARRIVALS).is_bad()
        assert not (bad and accepted(mutant))
        wrong += bad
    assert wrong > len(mutants) // 4
