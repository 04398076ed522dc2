"""Loops of roles that do not compute a pipeline's steps: they fetch for another, or pass by what another computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from texpr.math.expr import IntExpr, const, ge, sym
from texpr.plan.ir import Stage
from texpr.tile.boxes import go_on, rings_of
from texpr.tile.gathering import fetch_step
from texpr.tile.indices import indices_for, load_first, load_next, move_on, with_indices
from texpr.tile.ir import For
from texpr.tile.kernel import Block, Kernel
from texpr.tile.scope import Scope
from texpr.tile.stages import stage_buffer
from texpr.tile.trim import Steps
from texpr.tile.walk import count_steps, walk_along


def emit_fetching(
    loops: Sequence[Steps],
    stages: Sequence[Stage],
    body: Callable[[Scope, Block], None],
    kernel: Kernel,
    scope: Scope,
    block: Block,
) -> None:
    """The pipeline of a role that fetches for another: the tiles of every step, as soon as there is room."""
    rings = rings_of(stages, kernel, scope)
    counter = kernel.name("step")
    count = count_steps(loops, kernel, block)
    buffers = {stage.name: stage_buffer(stage, kernel, scope, stage.depth) for stage in stages}
    held = indices_for(stages, kernel)
    walk = walk_along(loops, count, [0, *(stage.ahead for stage, _ in held)], kernel, scope, block)
    axes = frozenset(loop.axis for loop in loops)

    def at_step(step: IntExpr, distance: int, suffix: str, into: Block) -> Scope:
        inside = walk.at(step, distance, suffix, into)
        return inside.reading_only(walk.is_step(step), axes) if distance else inside

    indices = load_first(held, at_step, kernel, block)
    inner, step = Block(), sym(counter)
    distances = dict.fromkeys([0, *(stage.ahead for stage, _ in held)])
    scopes = {
        distance: at_step(step + distance, distance, "next" if distance else "0", inner) for distance in distances
    }
    coming = load_next(indices, scopes, kernel, inner)
    at = with_indices(scopes[0], indices, coming)
    for loop in loops:
        at = at.with_fact(ge(loop.axis.extent, 1))
    for ring in rings:
        fetch_step(ring, buffers, step, kernel, at, inner)
    move_on(indices, coming, inner)
    body(at.repeating(), inner)
    block.add(For(counter, const(0), count, const(1), tuple(inner.statements)))
    block.add(*(statement for ring in rings for statement in go_on(ring, count)))


def emit_passing_by(
    loops: Sequence[Steps],
    stages: Sequence[Stage],
    body: Callable[[Scope, Block], None],
    kernel: Kernel,
    scope: Scope,
    block: Block,
) -> None:
    """The pipeline of a tile that another instance computes: its steps count as done."""
    rings = rings_of(stages, kernel, scope)
    counter = kernel.name("step")
    count = count_steps(loops, kernel, block)
    inside = Block()
    at = walk_along(loops, count, [None], kernel, scope, inside).at(sym(counter), None, "0", inside)
    found = len(inside.statements)
    body(at.repeating(), inside)
    if len(inside.statements) > found:  # rings of loops inside of these
        block.add(For(counter, const(0), count, const(1), tuple(inside.statements)))
    block.add(*(statement for ring in rings for statement in go_on(ring, count)))
