"""Products of a group that lag one step behind, so that the matrix unit works while the next step is computed.

    step t      lead     s = q k[t]               started, like all products of warpgroups that read staged tiles only
                lag      u += p v[t-1]            started; both are in flight
                         m, p, l of step t        from s, while u is being multiplied
                         u *= factor of step t    when that has ended

This is the pipelining within a warpgroup of FlashAttention-3 (arXiv 2407.08608, section 3.2), for any group in which
members are products and what they multiply comes from products that no running value enters. Every accumulator sees
the same operations in the same order as without it.

The tile that a lagging product reads is that of the step before: it stays for a step longer than other tiles, and need
not be there before the end of its own step. ``Reading`` says so of every stage, and what reads a ring differently has
barriers of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from texpr.lang.ir import Expr, Read
from texpr.plan.attach import node_exprs, outer_stages
from texpr.plan.checks import nodes_of
from texpr.plan.errors import CannotLag, UnknownFunc, near
from texpr.plan.inline import Key, key_of, reads_of
from texpr.plan.ir import AxisTile, Dot, Group, KernelPlan, Node, Reading, Reduction, Stage, Unit, Write
from texpr.plan.resolve import Context
from texpr.schedule.places import Group as GroupRecord
from texpr.schedule.words import Copy, Memory

_TILES = 2  # that a lagging product and the step that follows it have in shared memory


def with_overlap(context: Context, plan: KernelPlan) -> KernelPlan:
    """The plan with the stages of every group that overlaps products marked by when they are read, and with what leads
    in a step. Raises ``CannotLag`` and ``UnknownFunc``."""
    for directive, record in (("online", context.record.online), ("merge", context.record.merge)):
        if record is not None:
            _check_names(directive, record)
    if not any(isinstance(node, Group) and node.lagging for node in nodes_of(plan.nodes)):
        return plan
    return dataclasses.replace(
        plan, prologue=_replaced(context, plan, plan.prologue), body=_replaced(context, plan, plan.body)
    )


def _check_names(directive: str, record: GroupRecord) -> None:
    for name in record.overlap:
        if name not in record.funcs:
            raise UnknownFunc(
                directive="overlap",
                name=name,
                algorithm=f"the group {directive}",
                near=near(name, record.funcs),
                at=record.location_of("overlap"),
            )


def _replaced(context: Context, plan: KernelPlan, nodes: Sequence[Node]) -> tuple[Node, ...]:
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Group) and node.lagging:
            node = _overlapped(context, plan, node)
        elif isinstance(node, Reduction | Write | Group):
            node = dataclasses.replace(node, body=_replaced(context, plan, node.body))
        result.append(node)
    return tuple(result)


@dataclasses.dataclass(frozen=True, slots=True)
class _Lag:
    """A group with the products that lag in it and those that lead, by their contractions."""

    context: Context
    plan: KernelPlan
    record: GroupRecord
    group: Group
    lagging: Mapping[int, Dot]
    leading: Mapping[int, Dot]

    def refuse(self, why: str, hint: str) -> CannotLag:
        at = self.record.location_of("overlap")
        return CannotLag(func=", ".join(func.name for func in self.group.lagging), why=why, hint=hint, at=at)


def _overlapped(context: Context, plan: KernelPlan, group: Group) -> Group:
    record = context.record.online if group.directive == "online" else context.record.merge
    assert record is not None
    reductions = [node for node in group.body if isinstance(node, Reduction)]
    dots = [(node, node.dot) for node in reductions if node.dot is not None and node.dot.unit is Unit.WGMMA]
    lagging = {id(node): dot for node, dot in dots if node.funcs[0] in group.lagging}
    leading = {
        id(node): dot
        for node, dot in dots
        if node.carried is None and dot.a_in is Memory.SHARED and not node.loops and not node.live
    }
    lag = _Lag(context, plan, record, group, lagging, leading)
    check_products_that_lag(lag)
    check_loops_of_overlap(lag)
    stages = {
        id(node): _with_reading(lag, node)
        for node in group.body
        if isinstance(node, Stage) and isinstance(node.form, AxisTile)
    }
    return dataclasses.replace(
        group,
        body=tuple(stages.get(id(node), node) for node in group.body),
        leading=tuple(node.funcs[0] for node in reductions if id(node) in leading),
    )


def check_products_that_lag(lag: _Lag) -> None:
    """What lags are products of warpgroups, and others of the step can be started before them."""
    for node in lag.group.body:
        if isinstance(node, Reduction) and node.funcs[0] in lag.group.lagging and id(node) not in lag.lagging:
            hint = f"place: {{{node.funcs[0].name}: {{mma: {{op: wgmma, ...}}}}}}, or no overlap"
            why = f"{node.funcs[0].name} is not multiplied by a warpgroup, which goes on beside others"
            raise lag.refuse(why, hint)
    if not lag.leading:
        why = "no product of a warpgroup in its loop reads nothing but staged tiles, so that none can be started ahead"
        raise lag.refuse(why, "op: wgmma with both operands staged for the product that it depends on, or no overlap")


def check_loops_of_overlap(lag: _Lag) -> None:
    """The steps follow each other in one loop that brings tiles ahead."""
    unrolled = [loop.axis.name for loop in lag.group.loops if loop.unrolled]
    if unrolled:
        raise lag.refuse(f"its loop over {unrolled[0]} is unrolled", f"no unroll of {unrolled[0]}")
    skipped = [loop.axis.name for loop in lag.group.loops if loop.skip is not None]
    if skipped:
        raise lag.refuse(f"its loop over {skipped[0]} leaves out steps", "trim in place of skip, or no overlap")
    outer = [stage.name for stages in outer_stages(lag.group.loops, lag.group.body).values() for stage in stages]
    if outer:
        raise lag.refuse(f"{outer[0]} is staged in an outer one of its loops", f"stage {outer[0]} in the innermost")
    if not any(_is_brought(lag, node) for node in lag.group.body if isinstance(node, Stage)):
        raise lag.refuse("no stage of its loop is copied ahead", "copy: async or tma of what it multiplies")


def _is_brought(lag: _Lag, stage: Stage) -> bool:
    """Whether the copy of a stage goes on beside the threads that compute."""
    return stage.copy is not Copy.SYNC or lag.plan.role_of(stage) is not None


def _with_reading(lag: _Lag, stage: Stage) -> Stage:
    assert isinstance(stage.form, AxisTile)
    reading = _reading(lag, key_of(stage.form.read))
    if not reading.lags:
        return dataclasses.replace(stage, reading=reading)
    if not _is_brought(lag, stage):
        why = f"{stage.name}, which it multiplies, is copied in the step itself"
        raise lag.refuse(why, f"copy: async or tma of {stage.name}")
    if lag.plan.role_of(stage) is not None:
        if stage.depth < _TILES:
            why = f"it reads {stage.name} while the next tile of it must come in, and there is room for {stage.depth}"
            raise lag.refuse(why, f"stage: {{{stage.name}: {{depth: {_TILES}}}}}")
        return dataclasses.replace(stage, reading=reading)
    given = lag.context.record.stage[stage.name].ahead
    ahead = stage.ahead if given is not None else min(stage.ahead, max(stage.depth - _TILES, 1))
    if stage.depth - ahead < _TILES:
        why = f"it reads the tile of {stage.name} that the copy of the step {ahead} ahead overwrites"
        raise lag.refuse(why, f"stage: {{{stage.name}: {{depth: {ahead + _TILES}}}}}, or roles")
    return dataclasses.replace(stage, reading=reading, ahead=ahead)


def _reading(lag: _Lag, key: Key) -> Reading:
    """When a step's tile, the one of these reads, is read."""
    late = any(key in _operands(dot) for dot in lag.lagging.values())
    led = any(key in _operands(dot) for dot in lag.leading.values())
    other = any(key_of(read) == key for expr in _between(lag) for read in reads_of(expr))
    if late:
        return Reading.THROUGH if led or other else Reading.LAG
    return Reading.LEAD if led and not other else Reading.STEP


def _operands(dot: Dot) -> list[Key]:
    """The tiles that a product reads in shared memory."""
    return [
        key_of(operand)
        for operand, shared in ((dot.a, dot.a_in is Memory.SHARED), (dot.b, True))
        if shared and isinstance(operand, Read)
    ]


def _between(lag: _Lag) -> Iterator[Expr]:
    """What a step evaluates between the products, or in a product's registers."""
    for node in lag.group.body:
        dot = lag.lagging.get(id(node)) or lag.leading.get(id(node))
        if dot is None:
            yield from node_exprs(node)
            continue
        assert isinstance(node, Reduction)
        yield from (*dot.a_where, *dot.where)
        if dot.a_in is Memory.REGISTERS:
            yield dot.a
        if node.carried is not None:
            yield from node.carried.between
