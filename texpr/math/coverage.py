"""Do the guards of the variants, tried in order, cover every call that the algorithm allows?

Atoms (alignment, presence, overlap) and type tests are free booleans, except that alignment to 32 bytes implies
alignment to 16 and that a type variable has exactly one type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from texpr.math.bounds import Facts
from texpr.math.expr import Atom, BoolExpr, TypeIn, negation
from texpr.math.model import Model, Unknown, Unsatisfiable, find_model

__all__ = ["Gap", "Unknown", "uncovered", "unreachable"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A call that satisfies the facts and no guard: sizes, and the truth of each atom that the guards mention."""

    example: dict[str, int]
    atoms: dict[Atom | TypeIn, bool]

    def __str__(self) -> str:
        sizes = [f"{name} = {value}" for name, value in self.example.items()]
        atoms = [str(atom) if holds else str(negation(atom)) for atom, holds in self.atoms.items()]
        return ", ".join(sizes + atoms)


def uncovered(guards: Sequence[BoolExpr], facts: Facts) -> Gap | Unknown | None:
    """None when each call that satisfies ``facts`` satisfies a guard, else a call that does not; or not decided."""
    match find_model(facts, *(negation(guard) for guard in guards)):
        case Unsatisfiable():
            return None
        case Model(values, atoms):
            return Gap(values, atoms)
        case unknown:
            return unknown


def unreachable(guards: Sequence[BoolExpr], facts: Facts) -> list[int]:
    """Indices of the guards that are certainly never chosen: an earlier one holds whenever they do."""
    return [
        position
        for position, guard in enumerate(guards)
        if isinstance(find_model(facts, *(negation(earlier) for earlier in guards[:position]), guard), Unsatisfiable)
    ]
