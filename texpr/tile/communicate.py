"""Statements by which the programs of one launch learn from each other.

They meet in an array of 64-bit words, zero before the launch. Word 0 counts the programs that have started.

Programs that look back publish a word each: its two highest bits say how much is known (0: nothing yet, 1: what one
tile comes to, 2: what everything up to it comes to), the others hold fields of a value (``plan.words``). One access
moves a word as a whole, so that no fences are needed.

Programs that take turns have a word that says whose turn it is. Passing it on releases what a program has stored, and
waiting for it acquires that: such memory is stored to and received from by one program at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from texpr.dtypes import DType
from texpr.lang.ir import Monoid, ReduceOp
from texpr.math.expr import IntExpr

if TYPE_CHECKING:
    from texpr.tile.declarations import Dims, Space
    from texpr.tile.ir import Expr


@dataclass(frozen=True, slots=True)
class Ticket:
    """``name`` = how many programs have come here before this one: programs with lower numbers have started."""

    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Publish:
    """``words[at]`` = ``values``, in ``widths`` bits each: what a tile comes to, or all up to it if ``final``. Further
    words of a value are ``stride`` apart."""

    words: str
    at: IntExpr
    stride: IntExpr
    final: bool
    values: tuple[Expr, ...]
    widths: tuple[int, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class LookBack:
    """``names`` = what ``words[first], .., words[first + count - 1]`` come to, combined by ``op`` in this order:
    ``window`` words are looked at together, from the last ones on, until one of them knows the rest. Waits for words
    that are not there yet. The names are of scalars of types ``dtypes``, in ``widths`` bits; further words of a value
    are ``stride`` apart."""

    names: tuple[str, ...]
    words: str
    first: IntExpr
    stride: IntExpr
    count: IntExpr
    window: int
    op: ReduceOp | Monoid
    dtypes: tuple[DType, ...]
    widths: tuple[int, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class AwaitTurn:
    """Until ``words[at]`` is ``turn``. From here on the program sees what the one that has passed it on had stored."""

    words: str
    at: IntExpr
    turn: IntExpr
    origin: str = ""


@dataclass(frozen=True, slots=True)
class PassTurn:
    """``words[at]`` = ``turn``, when all that the program has stored can be seen by the one that waits for it."""

    words: str
    at: IntExpr
    turn: IntExpr


@dataclass(frozen=True, slots=True)
class Receive:
    """``name`` = ``tensor[base + offset]``, a tile over ``dims`` of ``space``: what another program has stored there,
    at this moment."""

    name: str
    tensor: str
    base: IntExpr
    offset: Expr | None
    dtype: DType
    space: Space | None
    dims: Dims


Communication = Ticket | Publish | LookBack | AwaitTurn | PassTurn | Receive


def exprs_of_communication(statement: Communication) -> tuple[Expr, ...]:
    """The expressions that such a statement evaluates."""
    match statement:
        case Publish(values=values):
            return values
        case Receive(offset=offset) if offset is not None:
            return (offset,)
        case _:
            return ()
