"""Programs that learn from each other: what the verifier refuses, and how statements read."""

from __future__ import annotations

import pytest

from tests.gluon.programs import lit, load, pointer, program, size, space, uni
from texpr.dtypes import DType
from texpr.gluon.emit import emit
from texpr.lang.ir import ReduceOp
from texpr.math.expr import const, sym
from texpr.plan.words import Field, fields_of, word_count
from texpr.tile.communicate import AwaitTurn, LookBack, PassTurn, Publish, Receive, Ticket
from texpr.tile.ir import Assign, If, Lane, Statement, Store, TileProgram, Var
from texpr.tile.layouts import Blocked
from texpr.tile.show import show
from texpr.tile.uniform import Scalar
from texpr.tile.verify import TileError, verify

LINE = space("line", Blocked((1,), (32,), (4,), (0,)), ("i", 128))
TICKET = Ticket("tile", "words")
TOTAL = Assign("total", lit(3.0, DType.F32))
OWN = Var("total", DType.F32, None, ())
BEFORE = Var("before", DType.F32, None, ())
AT = sym("tile") + 1
N = sym("n")
PUBLISH = Publish("words", AT, N, False, (OWN,), (32,))
LOOK = LookBack(("before",), "words", const(1), N, sym("tile"), 32, ReduceOp.SUM, (DType.F32,), (32,))
END = Publish("words", AT, N, True, (BEFORE,), (32,))


WAIT = AwaitTurn("words", AT, sym("tile"))
TAKE = Receive("taken", "x", sym("tile") * 128, Lane(LINE, 0), DType.F32, LINE, (0,))
TAKEN = Var("taken", DType.F32, LINE, (0,))
LEAVE = Store("x", sym("tile") * 128, Lane(LINE, 0), None, TAKEN)
PASS = PassTurn("words", AT, sym("tile") + 1)


def made(*body: Statement) -> TileProgram:
    return program("chained", [pointer("words", DType.U64), pointer("x", DType.F32), size("n")], body)


def look(**changes: object) -> LookBack:
    fields = {name: getattr(LOOK, name) for name in LookBack.__dataclass_fields__} | changes
    return LookBack(**fields)  # type: ignore[arg-type]


def receive(**changes: object) -> Receive:
    fields = {name: getattr(TAKE, name) for name in Receive.__dataclass_fields__} | changes
    return Receive(**fields)  # type: ignore[arg-type]


BROKEN = {
    "words of another type": ((Ticket("tile", "x"),), "x has no 64-bit words"),
    "no words": ((Ticket("tile", "z"),), "no pointer parameter z"),
    "number taken": ((Ticket("n", "words"),), "parameter n is assigned"),
    "place that is not known": ((TOTAL, PUBLISH), "tile is used before it has a value"),
    "a tile": (
        (TICKET, Publish("words", AT, N, False, (load("x", DType.F32, Lane(LINE, 0)),), (32,))),
        "a tile is published",
    ),
    "too many words": ((TICKET, TOTAL, Publish("words", AT, N, False, (OWN,) * 5, (32,) * 5)), "5 words for one value"),
    "fewer bits than a float has": ((TICKET, TOTAL, Publish("words", AT, N, False, (OWN,), (16,))), "f32 in 16 bits"),
    "window": ((TICKET, look(window=24)), "24 words are looked at together"),
    "names": ((TICKET, look(names=("a", "b"))), "2 names, 1 values"),
    "name taken": ((TICKET, TOTAL, look(names=("total",))), "total has a value already"),
    "a turn among words of another type": ((TICKET, AwaitTurn("x", AT, AT)), "x has no 64-bit words"),
    "a turn that is not known": ((WAIT,), "tile is used before it has a value"),
    "a turn passed on to nobody known": ((PASS,), "tile is used before it has a value"),
    "received without a turn": ((TICKET, TAKE), "before the program's turn"),
    "received behind a turn that may not come": ((TICKET, If(lit(True, DType.BOOL), (WAIT,)), TAKE), "before the pro"),
    "received from what is loaded": (
        (TICKET, Assign("line", load("x", DType.F32, Lane(LINE, 0))), WAIT, TAKE), "its loads may move",
    ),
    "loaded from what is received": (
        (TICKET, WAIT, TAKE, Assign("line", load("x", DType.F32, Lane(LINE, 0)))), "loaded from and stored to",
    ),
    "received under a name that is taken": ((TICKET, TOTAL, WAIT, receive(name="total")), "total has a value already"),
    "received as another type": ((TICKET, WAIT, receive(dtype=DType.F16)), "x has no f16 elements"),
    "received from nowhere": ((TICKET, WAIT, receive(tensor="z")), "no pointer parameter z"),
    "words that are stored to as well": (
        (TICKET, Store("words", const(0), None, None, lit(1, DType.U64))),
        "also accessed without care",
    ),
    "words that are loaded as well": (
        (TICKET, Assign("word", load("words", DType.U64, uni(0), other=0))),
        "also accessed without care",
    ),
    "words that are stored to before": (
        (Store("words", const(0), None, None, lit(1, DType.U64)), TICKET),
        "also accessed without care",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_broken_programs_are_refused(rule: str) -> None:
    body, message = BROKEN[rule]
    with pytest.raises(TileError) as caught:
        verify(made(*body))
    assert message in caught.value.problem, caught.value.problem


WHOLE = made(TICKET, TOTAL, PUBLISH, LOOK, END, Scalar("next", AT), Store("x", sym("next"), None, None, BEFORE))


def test_statements_are_shown() -> None:
    verify(WHOLE)
    text = show(WHOLE)
    assert "\ntile = words[0], counted up\n" in text
    assert "\npublish words[tile + 1] = total   # the tile\n" in text
    assert "\nbefore = look back sum words[1 +: tile] by 32\n" in text
    assert "\npublish words[tile + 1] = before   # all up to it\n" in text


def test_words_are_moved_by_relaxed_accesses() -> None:
    source = emit(WHOLE, ("sm_80",))
    assert 'tile = gl.atomic_add(words, 1, sem="relaxed").to(gl.int32)' in source.text
    assert source.text.count("publish_f32(") == 2
    stored = next(chunk for chunk in source.preamble if "def publish_f32" in chunk)
    assert stored.count('sem="relaxed", scope="gpu")') == 1
    helper = next(chunk for chunk in source.preamble if "def look_back_add_f32" in chunk)
    assert 'gl.atomic_load(words + at, mask=at >= 0, sem="relaxed", scope="gpu")' in helper
    assert "gl.reduce(value, 0, add)" in helper


def test_fields_fill_words_in_order() -> None:
    assert fields_of((1, 32, 16)) == (Field(0, 0, 1, 0, 0), Field(1, 0, 32, 0, 1), Field(2, 0, 16, 0, 33))
    assert fields_of((1, 64, 32)) == (
        Field(0, 0, 1, 0, 0), Field(1, 0, 32, 0, 1), Field(1, 32, 32, 1, 0), Field(2, 0, 32, 2, 0),
    )  # fmt: skip
    assert [word_count(widths) for widths in ((62,), (31, 31), (32, 31), (64,), (64, 64))] == [1, 1, 2, 2, 4]


TURNS = made(TICKET, WAIT, TAKE, LEAVE, PASS)


def test_turns_are_shown() -> None:
    verify(TURNS)
    text = show(TURNS)
    assert "\nwait until words[tile + 1] is tile   # acquires\n" in text
    assert "\ntaken = receive x[128*tile + " in text
    assert "\nwords[tile + 1] = tile + 1   # releases\n" in text


def test_turns_acquire_and_release() -> None:
    text = emit(TURNS, ("sm_80",)).text
    wait, take, leave, hand_on = (text.index(part) for part in ("atomic_poll", "gl.load(", "gl.store(", "atomic_store"))
    assert wait < take < leave < hand_on
    assert text[wait:take].count('sem="acquire", scope="gpu"') == 1
    assert text[hand_on:].count('sem="release", scope="gpu"') == 1
