"""Instances of the role that computes: which part of a tile, or which tiles, one of them has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from texpr.lang.ir import Axis
from texpr.plan.ir import RolePlan
from texpr.tile.scope import AxisValue, Scope


@dataclass(frozen=True, slots=True)
class Instance:
    """Number ``number`` of the ``times`` instances of a role; with ``split`` each has its part of the tile along it."""

    role: RolePlan
    number: int

    @property
    def name(self) -> str:
        return self.role.name if self.role.times == 1 else f"{self.role.name}_{self.number}"

    @property
    def default(self) -> bool:
        """Whether it runs on the program's own warps."""
        return self.role.default and self.number == 0

    @property
    def in_turn(self) -> bool:
        """Whether instances take tiles in turn."""
        return self.role.times > 1 and self.role.split is None

    def part(self, scope: Scope) -> Scope:
        """The scope of a tile, with the part of it that the instance has."""
        axis = self.role.split
        if axis is None:
            return scope
        whole = scope.axes[axis]
        size = whole.size // self.role.times
        start = self.number * size
        return scope.with_part(axis, AxisValue(whole.origin + start, size, whole.full, start, stop=whole.stop))

    def takes(self, task: int) -> bool:
        """Whether it does number ``task`` of what is to be done once for all instances that share a tile."""
        return self.role.split is None or self.number == task % self.role.times

    def stores(self, axes: tuple[Axis, ...]) -> bool:
        """Whether it stores what has these axes: what all instances have computed is stored by the first."""
        return self.role.split in axes or self.takes(0)


def instances_of(roles: tuple[RolePlan, ...]) -> Iterator[Instance]:
    """The instances of all roles, the one on the program's warps first."""
    return (Instance(role, number) for role in roles for number in range(role.times))
