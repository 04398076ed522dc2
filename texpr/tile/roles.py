"""Roles: the same loops lowered once for each, with only the nodes that it runs.

The role that computes is lowered like a program without roles, but waits for what others fetch, and says when it has
read it. A role that fetches walks the loops around its stages and leaves out everything else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from texpr.math.expr import const
from texpr.plan.attach import node_body
from texpr.plan.consumers import computed_sizes
from texpr.plan.ir import Group, KernelPlan, Node, Reduction, Stage, Write
from texpr.schedule.words import Memory
from texpr.tile.boxes import go_on, rings_of
from texpr.tile.consumers import Instance, instances_of
from texpr.tile.gathering import fetch_step
from texpr.tile.ir import Role, Specialise, Statement
from texpr.tile.kernel import Block, Kernel, LowerNodes
from texpr.tile.loops import emit_loops
from texpr.tile.lower import lower_nodes
from texpr.tile.scope import Scope
from texpr.tile.stages import stage_buffer

LowerTiles = Callable[[Kernel, LowerNodes], Sequence[Statement]]
"""All tiles of a program for one role, its nodes lowered by the function given."""


def specialised(plan: KernelPlan, kernel: Kernel, tiles: LowerTiles) -> Specialise:
    """The roles of a program, the one that computes first."""
    return Specialise(tuple(_role(instance, plan, kernel, tiles) for instance in instances_of(plan.roles)))


def _role(instance: Instance, plan: KernelPlan, kernel: Kernel, tiles: LowerTiles) -> Role:
    role = instance.role
    own = dataclasses.replace(
        kernel,
        plan=dataclasses.replace(plan, warps=role.warps),
        needs=dataclasses.replace(kernel.needs, warps=role.warps, evaluated={}),
        spaces={},
        sizes={**kernel.sizes, **computed_sizes(plan.record, plan.tile)} if role.default else kernel.sizes,
        owned={},
        instance=instance,
        taken=[],
        through=[],
        boxed=[],
    )
    statements = tiles(own, lower_nodes if role.default else fetch_nodes)
    return Role(instance.name, role.warps, role.registers, tuple(statements), instance.default)


def fetch_nodes(nodes: Sequence[Node], kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """Lower only what a role fetches for another, with the loops around it; or only the count of it, for an instance
    that passes by a tile."""
    for node in nodes:
        match node:
            case Stage(memory=Memory.SHARED) if kernel.fetches(node):
                (ring,) = rings_of([node], kernel, scope)
                buffer = stage_buffer(node, kernel, scope, depth=0)
                if not kernel.passing:
                    fetch_step(ring, {node.name: buffer}, const(0), kernel, scope, block)
                block.add(*go_on(ring, const(1)))
            case Reduction() | Group() | Write() if _has_stages(node, kernel):
                inside = [one for one in node.body if _has_stages(one, kernel)]
                emit_loops(node.loops, inside, _nothing, kernel, scope, block, fetch_nodes)
            case _:
                pass
    return scope


def _has_stages(node: Node, kernel: Kernel) -> bool:
    """Whether a node is, or has inside of it, a stage that the role fetches."""
    if isinstance(node, Stage):
        return kernel.fetches(node)
    return any(_has_stages(inner, kernel) for inner in node_body(node))


def _nothing(scope: Scope, block: Block) -> None:
    """The body of a loop that only fetches."""
