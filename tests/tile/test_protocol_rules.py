"""Synchronisation statements that name what is not there, or do not fit, are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.gluon.ring_programs import specialised, straight
from texpr.math.expr import const, sym
from texpr.tile.ir import Assign, For, Specialise, Statement, TileProgram, Var
from texpr.tile.protocol import Advance, CopyTensor, Expect, WaitBarrier
from texpr.tile.verify import TileError, verify


def _edited(body: tuple[Statement, ...], edit: Callable[[Statement], Statement]) -> tuple[Statement, ...]:
    found = []
    for item in body:
        match item:
            case For(body=inner):
                item = dataclasses.replace(item, body=_edited(inner, edit))
            case Specialise(roles=roles):
                item = Specialise(tuple(dataclasses.replace(role, body=_edited(role.body, edit)) for role in roles))
            case _:
                pass
        found.append(edit(item))
    return tuple(found)


def _refused(program: TileProgram, edit: Callable[[Statement], Statement]) -> str:
    verify(program)
    with pytest.raises(TileError) as refused:
        verify(dataclasses.replace(program, body=_edited(program.body, edit)))
    return refused.value.problem


def test_a_wait_needs_barriers() -> None:
    def edit(item: Statement) -> Statement:
        return dataclasses.replace(item, barrier="fall") if isinstance(item, WaitBarrier) else item

    assert _refused(straight(3), edit) == "no barriers fall"


def test_a_slot_is_one_of_the_barriers() -> None:
    def edit(item: Statement) -> Statement:
        return dataclasses.replace(item, slot=const(3)) if isinstance(item, Expect) else item

    assert _refused(straight(3), edit) == "full has 3 barriers, none is 3"


def test_coordinates_have_the_rank_of_the_map() -> None:
    def edit(item: Statement) -> Statement:
        return dataclasses.replace(item, at=item.at[:1]) if isinstance(item, CopyTensor) else item

    assert _refused(straight(3), edit).startswith("1 coordinates in tensor map")


def test_a_box_fills_its_buffer() -> None:
    def edit(item: Statement) -> Statement:
        return dataclasses.replace(item, buffer="w_shared") if isinstance(item, CopyTensor) else item

    assert _refused(straight(3), edit) == "a box of (64, 32) for buffer w_shared of shape (32, 64)"


def test_an_advanced_integer_has_a_value() -> None:
    def edit(item: Statement) -> Statement:
        return Advance("gone", sym("steps")) if isinstance(item, Advance) else item

    assert _refused(specialised(3), edit) == "gone is advanced before it has a value"


def test_tiles_do_not_cross_into_roles() -> None:
    program = specialised(3)

    def edit(item: Statement) -> Statement:
        if not isinstance(item, Specialise):
            return item
        first, *rest = item.roles
        stray = next(s for s in first.body[1].body if isinstance(s, Assign))  # type: ignore[union-attr]
        held = Var("stray", stray.value.dtype, stray.value.space, stray.value.dims)
        copied = dataclasses.replace(stray, value=held)
        return Specialise((dataclasses.replace(first, body=(copied, *first.body)), *rest))

    assert _refused(program, edit) == "stray is used before it has a value, or outside of its loop"


def test_one_role_has_the_warps_of_the_program() -> None:
    def edit(item: Statement) -> Statement:
        if not isinstance(item, Specialise):
            return item
        return Specialise(tuple(dataclasses.replace(role, default=False) for role in item.roles))

    assert _refused(specialised(3), edit) == "one role has the program's warps"
