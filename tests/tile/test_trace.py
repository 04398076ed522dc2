"""Tile programs as events: rings written by hand are right, and every statement of their protocol is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from tests.gluon.ring_programs import specialised, straight
from texpr.math.expr import const
from texpr.tile.ir import For, If, Specialise, Statement, TileProgram
from texpr.tile.protocol import Advance, Arrive, CopyTensor, Expect, FenceAsync, WaitBarrier, WaitStores
from texpr.tile.sync import ProtocolError, Rule
from texpr.tile.trace import check_synchronisation

Rewrite = Callable[[Statement], tuple[Statement, ...]]
PROTOCOL = (Advance, Arrive, CopyTensor, Expect, FenceAsync, WaitBarrier, WaitStores)


def rewritten(body: tuple[Statement, ...], rewrite: Rewrite) -> tuple[Statement, ...]:
    return tuple(new for item in body for new in _rewritten(item, rewrite))


def _rewritten(item: Statement, rewrite: Rewrite) -> Iterator[Statement]:
    match item:
        case For(body=body) | If(body=body):
            yield dataclasses.replace(item, body=rewritten(body, rewrite))
        case Specialise(roles=roles):
            changed = (dataclasses.replace(role, body=rewritten(role.body, rewrite)) for role in roles)
            yield dataclasses.replace(item, roles=tuple(changed))
        case _:
            yield from rewrite(item)


def statements(program: TileProgram, wanted: type | tuple[type, ...]) -> list[Statement]:
    found: list[Statement] = []

    def visit(item: Statement) -> tuple[Statement, ...]:
        if isinstance(item, wanted):
            found.append(item)
        return (item,)

    rewritten(program.body, visit)
    return found


def changed(program: TileProgram, old: Statement, *new: Statement) -> TileProgram:
    body = rewritten(program.body, lambda item: new if item is old else (item,))
    return dataclasses.replace(program, body=body)


def broken(program: TileProgram) -> Rule:
    with pytest.raises(ProtocolError) as caught:
        check_synchronisation(program)
    return caught.value.rule


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [straight, specialised])
def test_a_ring_is_right(make: Callable[[int], TileProgram], depth: int) -> None:
    check_synchronisation(make(depth))


@pytest.mark.parametrize("make", [straight, specialised])
def test_no_statement_of_the_protocol_can_be_left_out(make: Callable[[int], TileProgram]) -> None:
    program = make(3)
    for item in statements(program, PROTOCOL):
        with pytest.raises(ProtocolError):
            check_synchronisation(changed(program, item))
            raise AssertionError(f"not missed: {item}")


@pytest.mark.parametrize("make", [straight, specialised])
def test_no_arrival_or_wait_can_be_made_twice(make: Callable[[int], TileProgram]) -> None:
    program = make(3)
    for item in statements(program, (Expect, Arrive, CopyTensor)):
        broken(changed(program, item, item, item))


@pytest.mark.parametrize("make", [straight, specialised])
def test_a_wait_for_the_wrong_parity(make: Callable[[int], TileProgram]) -> None:
    program = make(3)
    for item in statements(program, WaitBarrier):
        assert isinstance(item, WaitBarrier)
        broken(changed(program, item, dataclasses.replace(item, phase=(item.phase + 1) % 2)))


@pytest.mark.parametrize("make", [straight, specialised])
def test_a_slot_that_stands_still(make: Callable[[int], TileProgram]) -> None:
    program = make(3)
    for item in statements(program, (WaitBarrier, Arrive, Expect)):
        assert isinstance(item, WaitBarrier | Arrive | Expect)
        broken(changed(program, item, dataclasses.replace(item, slot=const(0))))


def test_bytes_that_are_not_those_of_the_copies() -> None:
    for program in (straight(2), specialised(2)):
        for item in statements(program, Expect):
            assert isinstance(item, Expect)
            broken(changed(program, item, dataclasses.replace(item, bytes=item.bytes - 16)))


def test_barriers_that_count_other_arrivals() -> None:
    program = specialised(3)
    for n, barriers in enumerate(program.barriers):
        two = dataclasses.replace(barriers, arrivals=2)
        others = (*program.barriers[:n], two, *program.barriers[n + 1 :])
        assert broken(dataclasses.replace(program, barriers=others)) is Rule.DEADLOCK


def test_a_tile_freed_before_it_is_read() -> None:
    program = specialised(3)
    (wait, _), (arrive,) = statements(program, WaitBarrier), statements(program, Arrive)
    early = changed(changed(program, arrive), wait, wait, arrive)
    assert broken(early) in (Rule.UNORDERED, Rule.IN_FLIGHT)


def test_a_store_in_flight_when_its_tile_is_written_again() -> None:
    program = specialised(3)
    first, _ = statements(program, WaitStores)
    assert isinstance(first, WaitStores)
    assert broken(changed(program, first, WaitStores(1))) is Rule.IN_FLIGHT


def test_the_error_names_the_program_and_the_turns() -> None:
    program = straight(3)
    with pytest.raises(ProtocolError) as caught:
        check_synchronisation(changed(program, statements(program, WaitBarrier)[0]))
    (note,) = caught.value.__notes__
    assert note == "in tile program straight, with (K + 31)//32 = 1"
    assert "stage.w @ ring.yaml:8" in str(caught.value)
