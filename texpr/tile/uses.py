"""Which names the expressions of a tile program depend on, and which names its loops change."""

from __future__ import annotations

from texpr.math.expr import free_symbols
from texpr.tile.communicate import LookBack, Receive, Ticket
from texpr.tile.ir import (
    Argument,
    Assign,
    Expr,
    For,
    If,
    Load,
    ScalarOf,
    SharedGather,
    SharedTile,
    Statement,
    Uniform,
    Var,
    children,
    walk,
)
from texpr.tile.protocol import Advance, DotWait
from texpr.tile.uniform import FindGroup, ProgramId, Scalar


def own_names(expr: Expr) -> frozenset[str]:
    """The symbols, arguments and variables that a node itself mentions."""
    match expr:
        case Uniform(value=value):
            return free_symbols(value)
        case Argument(name=name) | Var(name=name):
            return frozenset([name])
        case Load(base=base):
            return free_symbols(base)
        case SharedTile(stage=stage) | SharedGather(stage=stage) if stage is not None:
            return free_symbols(stage)
        case _:
            return frozenset()


class NamesOf:
    """``names_of(expr)``: everything a value depends on. Remembers each expression object it has seen."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Expr, frozenset[str]]] = {}

    def __call__(self, expr: Expr) -> frozenset[str]:
        known = self._known.get(id(expr))
        if known is None:
            names = own_names(expr).union(*(self(child) for child in children(expr)))
            known = self._known[id(expr)] = (expr, names)
        return known[1]


def assigned_names(statement: Statement) -> tuple[str, ...]:
    """The names that a statement gives a (new) value."""
    match statement:
        case Scalar(name=name) | ScalarOf(name=name) | ProgramId(name=name) | Ticket(name=name) | FindGroup(name=name):
            return (name,)
        case Assign(name=name) | For(counter=name) | Advance(name=name) | Receive(name=name):
            return (name,)
        case DotWait(names=names) | LookBack(names=names):
            return names
        case _:
            return ()


def changed_by(owner: For | If) -> frozenset[str]:
    """The names that have another value in each turn of a loop, or after what may not be executed: the loop's counter
    and all that the body assigns."""
    found = {owner.counter} if isinstance(owner, For) else set()

    def visit(statement: Statement) -> None:
        found.update(assigned_names(statement))

    walk(owner.body, visit)
    return frozenset(found)
