"""What is known while one expression is lowered: where every axis stands, which values and buffers exist, and what
may be assumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from texpr.lang.ir import Axis, Func, Read, Tensor, Var
from texpr.lang.ir import Expr as Condition
from texpr.math.bounds import Facts
from texpr.math.expr import BoolExpr, IntExpr
from texpr.plan.copies import point_read
from texpr.plan.inline import Key, key_of
from texpr.plan.ir import Window
from texpr.tile.declarations import PhysicalDim
from texpr.tile.ir import Expr
from texpr.tile.ir import Var as Carry


@dataclass(frozen=True, slots=True)
class AxisValue:
    """Where an axis stands inside the tile: ``origin + lane`` with ``size`` lanes (1: no lanes, the same for all
    threads).

    ``live`` is False-able: when not ``full``, lanes with ``origin + lane >= extent`` are dead. ``start`` is the
    offset of this piece inside the staged tile. ``tile`` overrides everything: an index computed per element (the
    points of a window), which when not ``full`` may lie outside of the extent. ``stop`` is where the points end, if
    that is not the extent: lanes from there on are dead.
    """

    origin: IntExpr
    size: int
    full: bool
    start: int = 0
    tile: Expr | None = None
    stop: IntExpr | None = None

    def piece(self, start: int, size: int) -> AxisValue:
        """``size`` lanes from lane ``start`` of the tile on."""
        return AxisValue(self.origin + (start - self.start), size, self.full, start, stop=self.stop)


@dataclass(frozen=True, slots=True)
class StagedTile:
    """A staged tile with one element per point of ``dims``: in a shared buffer (at ``stage``, of which
    every point of ``copies`` has a tile), or a register value. ``kept``: there is one for each step of this size along
    this axis, at the stage that is the number of the step.
    ``part`` is where it begins in the program's tile along the axes whose tiles come in parts, and ``before`` the part
    that was staged before it."""

    dims: tuple[PhysicalDim, ...]
    buffer: str = ""
    stage: IntExpr | None = None
    value: Expr | None = None
    width: int = 0
    copies: tuple[Axis, ...] = ()
    kept: tuple[Axis, int] | None = None
    part: tuple[tuple[Axis, int], ...] = ()
    before: StagedTile | None = None

    def covering(self, axes: Mapping[Axis, AxisValue]) -> StagedTile:
        """The part in which the axes stand."""
        staged: StagedTile | None = self
        while staged is not None and any(axes[axis].start < start for axis, start in staged.part):
            staged = staged.before
        assert staged is not None, "no part covers the tile"
        return staged


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a value that is held in several: where its axes stand."""

    at: Mapping[Axis, AxisValue]
    value: Expr


@dataclass(frozen=True, slots=True)
class StagedWindow:
    """A box of a tensor or func in a flat shared buffer, row-major over ``window.extent``."""

    buffer: str
    stage: IntExpr | None
    window: Window


@dataclass(frozen=True, slots=True)
class Scope:
    """An immutable environment; the ``with_`` methods give extended copies. ``holds``: parts of guards that are true
    all over the tile. ``only``: a condition without which nothing is read, or nothing that moves along ``only_along``
    if these are given. ``repeated``: what is emitted here may run more than once. ``divided``: where axes stand in the
    tile of which this is a part."""

    axes: Mapping[Axis, AxisValue]
    facts: Facts
    guard: BoolExpr
    values: Mapping[Func, Expr] = field(default_factory=dict)
    pieces: Mapping[Func, tuple[Piece, ...]] = field(default_factory=dict)
    copies: Mapping[tuple[Func, tuple[int, ...]], Expr] = field(default_factory=dict)
    tiles: Mapping[Key, StagedTile] = field(default_factory=dict)
    windows: Mapping[Tensor | Func, StagedWindow] = field(default_factory=dict)
    variables: Mapping[Var, Expr] = field(default_factory=dict)
    holds: frozenset[Condition] = frozenset()
    only: Expr | None = None
    only_along: frozenset[Axis] | None = None
    carries: Mapping[Func, tuple[Carry, ...]] = field(default_factory=dict)
    repeated: bool = False
    divided: Mapping[Axis, AxisValue] = field(default_factory=dict)

    def with_carry(self, func: Func, state: tuple[Carry, ...]) -> Scope:
        """``state`` holds what the scan that defines ``func`` has come to."""
        return dataclasses.replace(self, carries={**self.carries, func: state})

    def with_part(self, axis: Axis, part: AxisValue) -> Scope:
        """The part of a tile along ``axis`` that one of several roles has."""
        divided = {**self.divided, axis: self.axes[axis]}
        return dataclasses.replace(self, axes={**self.axes, axis: part}, divided=divided)

    def undivided(self) -> Scope:
        """The scope of the whole tile, which all roles have in common: their loops make the same steps."""
        return dataclasses.replace(self, axes={**self.axes, **self.divided}, divided={}) if self.divided else self

    def with_axes(self, axes: Mapping[Axis, AxisValue]) -> Scope:
        return dataclasses.replace(self, axes={**self.axes, **axes})

    def with_value(self, func: Func, value: Expr) -> Scope:
        return dataclasses.replace(self, values={**self.values, func: value})

    def with_pieces(self, func: Func, pieces: tuple[Piece, ...]) -> Scope:
        return dataclasses.replace(self, pieces={**self.pieces, func: pieces})

    def with_copies(self, func: Func, copies: Mapping[tuple[int, ...], Expr]) -> Scope:
        added = {(func, point): value for point, value in copies.items()}
        return dataclasses.replace(self, copies={**self.copies, **added})

    def held(self, read: Read) -> Expr | None:
        """The value that is held for a read of a func, if one is."""
        if not isinstance(read.source, Func):
            return None
        value = self.values.get(read.source)
        return self.copies.get((read.source, point_read(read.indices))) if value is None else value

    def with_tile(self, read: Read, tile: StagedTile) -> Scope:
        if any(start for _, start in tile.part):
            tile = dataclasses.replace(tile, before=self.tiles[key_of(read)])
        return dataclasses.replace(self, tiles={**self.tiles, key_of(read): tile})

    def without_tile(self, read: Read) -> Scope:
        """Where nothing is staged for a read, not even another part of its tile."""
        key = key_of(read)
        return dataclasses.replace(self, tiles={k: tile for k, tile in self.tiles.items() if k != key})

    def at_part(self, part: Sequence[tuple[Axis, int]], sizes: Sequence[tuple[Axis, int]]) -> Scope:
        """Where the axes of ``part`` stand in that part of the tile."""
        known = dict(sizes)
        return self.with_axes({axis: self.axes[axis].piece(start, known[axis]) for axis, start in part})

    def with_window(self, source: Tensor | Func, window: StagedWindow) -> Scope:
        return dataclasses.replace(self, windows={**self.windows, source: window})

    def with_variables(self, variables: Mapping[Var, Expr]) -> Scope:
        return dataclasses.replace(self, variables={**self.variables, **variables})

    def with_holding(self, conditions: Iterable[Condition]) -> Scope:
        return dataclasses.replace(self, holds=self.holds.union(conditions))

    def reading_only(self, condition: Expr, along: frozenset[Axis] | None = None) -> Scope:
        return dataclasses.replace(self, only=condition, only_along=along)

    def repeating(self) -> Scope:
        return dataclasses.replace(self, repeated=True)

    def with_fact(self, fact: BoolExpr) -> Scope:
        return dataclasses.replace(self, facts=self.facts.assume(fact))

    def is_inside(self, axis: Axis) -> bool:
        """Whether live lanes of an axis lie inside its extent: always, but for coordinates of a window that reaches
        beyond the source."""
        value = self.axes[axis]
        return value.tile is None or value.full

    def lanes(self, axis: Axis) -> int:
        """How many lanes an axis has here (1 when it is uniform or computed per element)."""
        value = self.axes[axis]
        return 1 if value.tile is not None else value.size
