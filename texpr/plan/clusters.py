"""Clusters: programs that run together on neighbouring tiles, and fetch once what is the same for several of them.

    grid: {i: 128, j: 256}
    cluster: {i: 2}

The programs of a cluster compute one tile that is as many times as large along the axes named. Each has its own part of
it, in its own registers and shared memory; a box that a role fetches and that no named axis moves through is fetched by
one of the programs for all of them (multicast). The slot it goes to is free when every program has read what was in it.

Numbers of tiles need not be divisible: a tile that lies partly, or with one of its programs wholly, beyond the end of
an axis is cut off there like any other. What would need values of other programs (sums along the axes named, guards
that are tested for a whole tile) is refused here.
"""

from __future__ import annotations

from texpr.errors import Location
from texpr.lang.index import to_int_expr
from texpr.lang.ir import Axis, Expr, Monoid, Ranking
from texpr.math.expr import Const
from texpr.plan.access import affine_in
from texpr.plan.attach import node_loops, node_names
from texpr.plan.checks import nodes_of
from texpr.plan.errors import ByInvalid, ClusterInvalid, NoEffect, NotLowered, TargetLacks, UnknownAxis, near
from texpr.plan.inline import axes_of
from texpr.plan.ir import (
    AxisTile,
    Compute,
    Cover,
    KernelPlan,
    LoopAxis,
    Node,
    Prefixes,
    Reduction,
    Stage,
    Write,
)
from texpr.plan.resolve import Context
from texpr.schedule.words import Copy, Memory


def check_cluster_axes(context: Context) -> None:
    """The axes along which programs form a cluster are cut by the grid into tiles of several points, on a target that
    has clusters. Raises ``UnknownAxis``, ``ClusterInvalid`` or ``TargetLacks``."""
    record = context.record
    for name in record.cluster:
        at = record.cluster.location_of(name)
        if name not in record.grid:
            raise UnknownAxis(directive="cluster", name=name, owner="the grid", near=near(name, record.grid), at=at)
        if record.grid[name] == 1:
            why = f"tiles of one point along {name} have no parts for several programs"
            raise ClusterInvalid(why=why, hint=f"a larger tile of {name} in grid, or another axis", at=at)
    if not record.cluster:
        return
    at = record.location_of("cluster")
    if not context.target.has_tensor_copies:
        raise TargetLacks(what="cluster", least="sm_90a", target=context.target, instead="no cluster", at=at)
    if not context.target.has_multicast:
        raise ClusterInvalid(why=f"{context.target} has no copies that go to several programs at once", at=at)


def check_cluster(context: Context, plan: KernelPlan) -> None:
    """The programs of a cluster need no values of each other, and have something in common. Raises ``ClusterInvalid``,
    ``ByInvalid``, ``NotLowered`` or ``NoEffect``."""
    if not plan.cluster:
        return
    at = context.record.location_of("cluster")
    if not plan.roles:
        raise NotLowered(what="a cluster of programs without roles", instead="roles, one of which fetches", at=at)
    _check_directives(plan, at)
    _check_roles(context, plan)
    for node in nodes_of(plan.nodes):
        why = _needs_others(node, plan)
        if why:
            name = node_names(node)[0]
            raise ClusterInvalid(why=f"{name} {why}, which programs of a cluster do not do together", at=at)
        if isinstance(node, Write):
            _check_pieces(context, node, plan)
    if not any(shared_along(node, plan) for node in nodes_of(plan.nodes) if isinstance(node, Stage)):
        along = " and ".join(axis.name for axis, _ in plan.cluster)
        why = f"no box that a role fetches is the same along {along}"
        raise NoEffect(directive="cluster", name=plan.name, why=why, at=at)


def _check_roles(context: Context, plan: KernelPlan) -> None:
    """Instances of a role do not divide what programs divide: their parts would lie across programs."""
    for role in plan.roles:
        if role.split is not None and any(axis is role.split for axis, _ in plan.cluster):
            why = f"its programs divide {role.split.name}, and so do the instances of {role.name}"
            at = context.record.roles[role.name].location_of("split")
            raise ClusterInvalid(why=why, hint=f"warps: {role.warps * role.times}, without times and split", at=at)


def _check_directives(plan: KernelPlan, at: Location | None) -> None:
    """What a kernel says of its tiles as a whole is said of the tiles of one program."""
    record = plan.record
    given = {
        "map": bool(record.map),
        "trim": record.trim is not None,
        "visit": bool(record.visit),
        "grid of a ragged axis": any(t.grouped is not None for t in plan.tile),
        "split_reduction by program": any(t.cover is Cover.PROGRAM for t in plan.tile),
        "dims that only the device knows": bool(plan.counts),
        "programs that wait for each other": plan.tickets is not None,
    }
    for what, found in given.items():
        if found:
            raise NotLowered(what=f"cluster beside {what}", instead="remove cluster", at=at)


def _needs_others(node: Node, plan: KernelPlan) -> str:
    """What a node does with its tile that its parts cannot do each by itself, or that nobody has tried."""
    match node:
        case Prefixes():
            return "is a scan"
        case Reduction(op=Ranking()):
            return "is ranked"
        case Reduction(op=Monoid(commutative=False)):
            return "is reduced in order"
        case Reduction(live=live) if live:
            return "is left out where a guard holds nowhere"
        case Write(update=update) if update is not None:
            return "is updated point by point"
        case Compute(memory=Memory.SHARED) | Stage(memory=Memory.SHARED, copy=Copy.SYNC | Copy.ASYNC):
            return "is brought to shared memory by the threads"
        case _:
            return next(filter(None, (_odd_loop(loop, plan) for loop in node_loops(node))), "")


def _odd_loop(loop: LoopAxis, plan: KernelPlan) -> str:
    """What is odd about a loop. Where a trimmed one begins and ends must be known without looking at all lanes."""
    if loop.base is not None:
        return f"goes through groups of {loop.axis.name}"
    if loop.skip is not None:
        return f"leaves out steps of {loop.axis.name}"
    for half in () if loop.trim is None else loop.trim.halves:
        along = sorted(axis.name for axis, _ in plan.cluster if axis in axes_of(half.bound))
        if along and not _is_linear(half.bound, plan):
            return f"leaves out steps of {loop.axis.name} by a guard found in data along {along[0]}"
    if loop.trim is not None and loop.trim.congruence is not None:
        return f"leaves out steps of {loop.axis.name}"
    return ""


def _is_linear(bound: Expr, plan: KernelPlan) -> bool:
    """Whether the extremes of a bound over a tile are at its ends."""
    value = to_int_expr(bound)
    if value is None:
        return False
    wide = [t.axis.name for t in plan.tile if t.together > 1 and t.axis in axes_of(bound)]
    slopes = affine_in(value, wide)
    return all(isinstance(slopes.get(name), Const) for name in wide)


def _check_pieces(context: Context, node: Write, plan: KernelPlan) -> None:
    """Pieces of an output are pieces of every program's part."""
    for axis, _ in plan.cluster:
        if any(name == axis.name for name, _ in node.chunk):
            place = context.record.place[node.func.name]
            why = f"the programs of a cluster divide {axis.name}, and a piece along it would lie in one of them"
            hint = "a cluster along another axis, or remove by"
            raise ByInvalid(func=node.func.name, why=why, at=place.location_of("by"), hint=hint)


def shared_along(stage: Stage, plan: KernelPlan) -> tuple[Axis, ...]:
    """The axes along which programs of a cluster get a stage's box from one of them."""
    if stage.copy is not Copy.TMA or not isinstance(stage.form, AxisTile) or plan.role_of(stage) is None:
        return ()
    moving = {axis for axis, _ in stage.form.axes}
    return tuple(axis for axis, _ in plan.cluster if axis not in moving)
