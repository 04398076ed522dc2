"""The tile of a cluster: what several programs compute together, each its own part of every value and buffer.

The tile program of a cluster is written for the tile of all its programs. Bit ``b`` of a program's number in the
cluster has a basis in every layout (``layouts.Bases``): how many parts further along each dim the program's part lies.
A zero says that programs which differ in that bit only have the same part: they compute it twice, or one of them has
fetched it for all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from texpr.lang.ir import Axis
from texpr.plan.errors import NotLowered
from texpr.plan.ir import AxisTile, Group, KernelPlan, Node, Reduction, Stage, Write
from texpr.tile.layouts import Bases


@dataclass(frozen=True, slots=True)
class Cluster:
    """How many programs there are along each axis; bits of their numbers belong to the last axis first."""

    axes: tuple[tuple[str, int], ...] = ()

    @property
    def programs(self) -> int:
        return math.prod(programs for _, programs in self.axes)

    def bases(self, dims: Sequence[Sequence[str]]) -> Bases:
        """The bases of a layout whose dims run along these axes, outermost first. Raises ``NotLowered`` where the parts
        of a dim are no halves of it."""
        found: list[tuple[int, ...]] = []
        for name, programs in reversed(self.axes):
            at = next((d for d, axes in enumerate(dims) if name in axes), None)
            if at is not None and dims[at][0] != name:
                what = f"a cluster along {name}, which runs inside of {dims[at][0]} in one dim of a tile,"
                raise NotLowered(what=what, instead=f"a cluster along {dims[at][0]}")
            for bit in range(programs.bit_length() - 1):
                found.append(tuple(1 << bit if d == at else 0 for d in range(len(dims))))
        return tuple(found)

    def bits(self, axes: Collection[str]) -> tuple[int, ...]:
        """The bits of a program's number that say where it is along ``axes``."""
        found: list[int] = []
        first = 0
        for name, programs in reversed(self.axes):
            width = programs.bit_length() - 1
            found += range(first, first + width) if name in axes else ()
            first += width
        return tuple(found)


NO_CLUSTER: Final = Cluster()


def cluster_of(plan: KernelPlan) -> Cluster:
    """The cluster that the programs of a kernel form; one of one program if they form none."""
    return Cluster(tuple((axis.name, programs) for axis, programs in plan.cluster))


def spanning(plan: KernelPlan) -> KernelPlan:
    """A plan for one program as that of its whole cluster: its tiles have the points of all programs."""
    if not plan.cluster:
        return plan
    programs = dict(plan.cluster)
    return dataclasses.replace(
        plan,
        tile=tuple(dataclasses.replace(t, size=t.together, programs=1) for t in plan.tile),
        prologue=tuple(_spanning(node, programs) for node in plan.prologue),
        body=tuple(_spanning(node, programs) for node in plan.body),
        epilogue=tuple(_spanning(node, programs) for node in plan.epilogue),
    )


def _spanning(node: Node, programs: dict[Axis, int]) -> Node:
    match node:
        case Stage(form=AxisTile(axes=axes) as form):
            wider = tuple((axis, size * programs.get(axis, 1)) for axis, size in axes)
            return dataclasses.replace(node, form=dataclasses.replace(form, axes=wider))
        case Reduction(body=body) | Write(body=body) | Group(body=body):
            return dataclasses.replace(node, body=tuple(_spanning(inner, programs) for inner in body))
        case _:
            return node
