"""What an algorithm knows of code that the user writes: its names and types, its NumPy reference, how near it comes.

``lang.ir`` mentions these; they hold no Python of the kernel but its text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from texpr.dtypes import DType

if TYPE_CHECKING:
    from texpr.lang.ir import Axis, Expr, Var
    from texpr.math.expr import IntExpr


@dataclass(frozen=True, slots=True)
class Promise:
    """How far a user's code may be from its reference: ``ulps`` units in the last place of a result (0: not at all) for
    operands that are exact; or as much as ``error(values, bounds)`` says for operands with such bounds."""

    ulps: float = 0.0
    error: Callable[..., object] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ExternCall:
    """One call of a user's kernel. ``operands`` are whole tensors and funcs, each read at axes of its own (all of them
    are ``over``), and scalars; ``results`` have ``dtypes``. ``names`` and ``results`` are those of the kernel's own
    signature, as ``dims`` are, with their values in the algorithm. ``reference`` takes the operands' arrays, and
    ``statics`` by keyword."""

    name: str
    names: tuple[str, ...]
    operands: tuple[Expr, ...]
    over: tuple[Axis, ...]
    results: tuple[str, ...]
    dtypes: tuple[DType, ...]
    dims: tuple[tuple[str, IntExpr], ...]
    statics: tuple[tuple[str, int], ...]
    reference: Callable[..., object]
    promise: Promise


class LineLayout(Enum):
    """Which thread holds which element of the tiles that a user's function is given."""

    ANY = "any"  # as the compiler likes
    THREAD = "line_in_thread"  # every line in the registers of one thread
    WARP = "line_in_warp"  # every line in one warp, element k in lane k % 32


@dataclass(frozen=True, slots=True)
class Operand:
    """A tile that a user's function takes: it varies over the ``rows`` of its tile, along the ``line``, over both, or
    over neither. ``beyond`` is what its elements are after the end of a line (None: there are none)."""

    name: str
    dtype: DType
    rows: bool
    line: bool
    beyond: int | float | bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TileOp:
    """A user's Gluon function over tiles of whole lines. It takes ``operands`` and ``statics``, and gives ``results``,
    which vary along the line, and with ``rows`` over rows, each of which is computed for itself. Of those that are
    ``per_line`` it gives one number per line, which stands at all of its places. ``name`` is the function's, ``text``
    that of the file that it stands in."""

    name: str
    file: str
    text: str
    rows: bool
    operands: tuple[Operand, ...]
    results: tuple[Var, ...]
    per_line: tuple[bool, ...]
    statics: tuple[tuple[str, int], ...]
    layout: LineLayout
    reference: Callable[..., object]
    promise: Promise
