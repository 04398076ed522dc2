"""Value numbers for the expressions of a tile program, and what is known of each.

Equal expressions are one object, so that a value is its object; numbers stand for objects in dictionaries.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from texpr.tile.ir import (
    DotStep,
    Expr,
    SharedGather,
    SharedTile,
    Statement,
    TileProgram,
    children,
    statement_exprs,
    walk,
)
from texpr.tile.uses import own_names


@dataclass(slots=True)
class Values:
    """``uses`` counts mentions by distinct parents and statements. ``names`` are the symbols, arguments and variables
    that a value depends on.

    ``mutable``: evaluated where the statement stands and never shared between statements, because it reads a shared
    buffer or continues an accumulator.
    """

    uses: dict[int, int] = field(default_factory=dict)
    names: dict[int, frozenset[str]] = field(default_factory=dict)
    mutable: set[int] = field(default_factory=set)
    _numbers: dict[int, tuple[int, Expr]] = field(default_factory=dict)

    def number(self, expr: Expr) -> int:
        known = self._numbers.get(id(expr))
        if known is not None:
            return known[0]
        parts = tuple(self.number(child) for child in children(expr))
        number = len(self._numbers)
        self._numbers[id(expr)] = (number, expr)  # holds the expression, so that its id stays its own
        self.uses[number] = 0
        for part in parts:
            self.uses[part] += 1
        self.names[number] = own_names(expr).union(*(self.names[part] for part in parts))
        if isinstance(expr, SharedTile | SharedGather | DotStep) or any(part in self.mutable for part in parts):
            self.mutable.add(number)
        return number

    def exprs(self) -> list[Expr]:
        """Every value that has a number, operands first."""
        return [expr for _, expr in sorted(self._numbers.values(), key=lambda pair: pair[0])]

    def mention(self, expr: Expr) -> None:
        """Count one use by a statement."""
        self.uses[self.number(expr)] += 1


def values_of(program: TileProgram) -> Values:
    """Number everything a program evaluates."""
    values = Values()

    def visit(statement: Statement) -> None:
        for expr in statement_exprs(statement):
            values.mention(expr)

    walk(program.body, visit)
    return values
