"""Stages whose tiles stay in shared memory for later loops: rows too long for registers that are fetched once.

    for j  load x[j]  -> slot j of depth        all of them stay
           m = max(m, x[j])
    for j  l += exp(x[j] - m)                   from slot j
    for j  y[j] = exp(x[j] - m) / l             from slot j

The slot of a step is its number, as long as there are no more steps than slots. The copies of all steps are started
before the first one: one that was started later, for a step that there is not, would leave zeros in a slot that is read
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from texpr.math.expr import le
from texpr.math.prove import Proved, prove
from texpr.plan.attach import node_body, node_loops, node_names
from texpr.plan.checks import nodes_of
from texpr.plan.errors import CannotKeep, UnknownFunc, near
from texpr.plan.ir import KernelPlan, LoopAxis, Node, Stage
from texpr.plan.resolve import Context
from texpr.schedule.words import Copy, LoopOf


def check_kept(context: Context, plan: KernelPlan) -> None:
    """Raise ``CannotKeep`` or ``UnknownFunc`` unless every stage that says ``keep`` has room for the tiles of all
    steps, and what it names reads them in steps of the same size."""
    for name, record in context.record.stage.items():
        if record.keep and not isinstance(record.at, LoopOf):
            why = f"it is fetched at the {record.at}, where there is one tile of it"
            raise CannotKeep(name=name, why=why, hint="remove keep", at=record.location_of("keep"))
    for nodes in _levels(plan.nodes):
        for n, node in enumerate(nodes):
            for stage in node_body(node):
                if isinstance(stage, Stage) and stage.kept is not None:
                    check_room(context, node, stage)
                    check_readers(context, plan, stage, nodes[n + 1 :])


def _levels(nodes: Sequence[Node]) -> Iterator[Sequence[Node]]:
    yield nodes
    for node in nodes:
        yield from _levels(node_body(node))


def check_room(context: Context, owner: Node, stage: Stage) -> None:
    """One plain loop, with a slot for each of its steps."""
    record = context.record.stage[stage.name]
    assert stage.kept is not None
    axis, size = stage.kept

    def refuse(why: str, hint: str) -> CannotKeep:
        return CannotKeep(name=stage.name, why=why, hint=hint, at=record.location_of("keep"))

    fetched = any(f"stage.{stage.name}" in role.runs for role in context.record.roles.values())
    if stage.copy is not Copy.ASYNC or fetched:
        raise refuse("its tiles are no cp.async copies of the role that reads them", f"copy: async of {stage.name}")
    loops = node_loops(owner)
    if len(loops) > 1 or not _is_plain(loops[0]):
        name = node_names(owner)[0]
        raise refuse(f"the steps of {name} are not all of {axis.name}, one after the other", "no trim, skip or base")
    if record.ahead is not None:
        raise refuse("the copies of all steps are started before the first", "remove ahead")
    room = stage.depth * size
    if not isinstance(prove(le(axis.extent, room), context.facts), Proved):
        why = f"there is room for {stage.depth} tiles of {size}, and {axis.extent} <= {room} is not proved"
        raise refuse(why, f"when: {axis.extent} <= {room}, or a larger depth")


def _is_plain(loop: LoopAxis) -> bool:
    return not loop.unrolled and not loop.reverse and loop.trim is None and loop.skip is None and loop.base is None


def check_readers(context: Context, plan: KernelPlan, stage: Stage, later: Sequence[Node]) -> None:
    """What is named runs later in the same tile, in a loop whose steps are those of the stage."""
    record = context.record.stage[stage.name]
    at = record.location_of("keep")
    assert stage.kept is not None
    axis, size = stage.kept
    known = {name for node in nodes_of(plan.nodes) for name in node_names(node)}
    after = {name: node for node in later for name in node_names(node)}
    for name in record.keep:
        if name not in known:
            raise UnknownFunc(
                directive=f"keep of stage {stage.name}",
                name=name,
                algorithm=f"kernel {context.record.name}",
                near=near(name, after),
                at=at,
            )
        node = after.get(name)
        if node is None:
            why = f"{name} is not computed after the loop over {axis.name} that fetches it"
            raise CannotKeep(name=stage.name, why=why, hint=f"keep: {', '.join(after)}", at=at)
        if not any(loop.axis is axis and loop.size == size for loop in node_loops(node)):
            hint = f"place: {{{name}: {{loop: {{{axis.name}: {size}}}}}}}"
            raise CannotKeep(name=stage.name, why=f"{name} has no loop over {axis.name} by {size}", hint=hint, at=at)
