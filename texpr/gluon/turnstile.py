"""Programs that take turns, as Gluon code.

A turn is a 64-bit word. Passing it on is a store that releases, behind a barrier for all threads, and waiting for it a
load that acquires, before one (Triton lowers both so): what every thread of the one program has stored, every thread of
the next one sees.
"""

from __future__ import annotations

from texpr.gluon.expressions import loaded
from texpr.gluon.function import Function
from texpr.gluon.integers import narrow_text
from texpr.gluon.memory import pointer
from texpr.gluon.text import Text
from texpr.math.expr import IntExpr
from texpr.tile.communicate import AwaitTurn, PassTurn, Receive
from texpr.tile.ir import Literal, Load


def await_turn(f: Function, item: AwaitTurn) -> str:
    """The call that waits."""
    return f'gl.atomic_poll({_word(f, item)}, {_turn(f, item.turn)}, sem="acquire", scope="gpu")'


def pass_turn(f: Function, item: PassTurn) -> str:
    """The call that lets the next program go on."""
    return f'gl.atomic_store({_word(f, item)}, {_turn(f, item.turn)}, sem="release", scope="gpu")'


def receive(f: Function, item: Receive) -> Text:
    """What is in memory now: an ordinary load, which nothing moves before the wait."""
    zero = Literal(0.0 if item.dtype.is_float else 0, item.dtype)
    return loaded(f, Load(item.tensor, item.base, item.offset, None, zero, item.dtype, item.space, item.dims))


def _word(f: Function, item: AwaitTurn | PassTurn) -> str:
    return pointer(f, item.words, item.at).code


def _turn(f: Function, turn: IntExpr) -> str:
    return f"gl.to_tensor({narrow_text(turn, f.symbols()).code}).to(gl.uint64)"
