"""What a kernel's plan says of programs that take turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from texpr.lang.ir import Axis, Func

if TYPE_CHECKING:
    from texpr.plan.ir import LoopAxis, Scratch


@dataclass(frozen=True, slots=True)
class Turnstile:
    """How programs combine what they have of a tile: in turn along ``axis``, a program for every point of it. A program
    combines its own values of ``funcs`` with those that the one before it has left in ``states``, a row for every tile
    with the elements of each component one after the other, and leaves them to the next one; the last one goes on with
    them. In ``words``, a counter of programs, then for every tile whose turn it is.

    With a ``shared`` loop, its steps in all tiles are one sequence, of which every program has a share; rows and words
    are those of programs. From its last tile to its first, a program leaves what the next one goes on with, and goes on
    with what the one before has left.
    """

    funcs: tuple[Func, ...]
    axis: Axis
    words: Scratch
    states: tuple[Scratch, ...]
    shared: LoopAxis | None = None
