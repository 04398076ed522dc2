"""Indices that a role which gathers holds in registers, steps ahead of the copies whose points they name.

A copy cannot start before its rows are known, and these come from memory as well. With indices of the next ``ahead``
steps in registers, a step waits for loads that began ``ahead`` steps before it:

    held[n] = indices of step n, for n in 0 .. ahead
    for t in 0 .. steps:
        coming = indices of step t + ahead
        copy rows held[0]
        held[0], ..., held[ahead - 1] = held[1], ..., coming

They are loaded as the copies want them, every thread those of its own rows: nothing moves between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from texpr.math.expr import IntExpr, const
from texpr.plan.checks import nodes_of
from texpr.plan.inline import key_of, reads_of
from texpr.plan.ir import AxisTile, Stage
from texpr.schedule.words import Copy, Memory
from texpr.tile.evaluate import evaluate
from texpr.tile.ir import Assign, Var
from texpr.tile.kernel import Block, Kernel, assign, origin
from texpr.tile.scope import Scope, StagedTile
from texpr.tile.stages import tile_copy_space, tile_form

AtStep = Callable[[IntExpr, int, str, Block], Scope]
"""Where the loops stand at a step, for what goes along them at a distance: nothing is read past the last step."""


@dataclass(frozen=True, slots=True)
class Indices:
    """What a stage in registers holds for ``reader``; ``held`` are those of this step and of the ones after it."""

    stage: Stage
    reader: Stage
    held: tuple[Var, ...]


def indices_for(copied: Sequence[Stage], kernel: Kernel) -> list[tuple[Stage, Stage]]:
    """The stages in registers of the role, each with the first of its copies that finds points by it."""
    found: dict[int, tuple[Stage, Stage]] = {}
    for reader in (stage for stage in copied if stage.copy is not Copy.TMA):
        exprs = (*tile_form(reader).read.indices, *reader.where)
        wanted = {key_of(read) for expr in exprs for read in reads_of(expr)}
        for node in nodes_of(kernel.plan.nodes):
            if isinstance(node, Stage) and node.memory is Memory.REGISTERS and kernel.fetches(node):
                assert isinstance(node.form, AxisTile)
                if key_of(node.form.read) in wanted:
                    found.setdefault(id(node), (node, reader))
    return list(found.values())


def load_first(stages: Sequence[tuple[Stage, Stage]], at_step: AtStep, kernel: Kernel, block: Block) -> list[Indices]:
    """Load the indices of as many steps as they run ahead."""
    held: dict[int, list[Var]] = {id(stage): [] for stage, _ in stages}
    for distance in dict.fromkeys(stage.ahead for stage, _ in stages):
        for n in range(distance):
            scope = at_step(const(n), distance, "first", block)
            for stage, reader in stages:
                if stage.ahead == distance:
                    held[id(stage)].append(_loaded(stage, reader, f"{stage.name}_{n}", kernel, scope, block))
    return [Indices(stage, reader, tuple(held[id(stage)])) for stage, reader in stages]


def load_next(indices: Sequence[Indices], scopes: Mapping[int, Scope], kernel: Kernel, block: Block) -> list[Var]:
    """Load the indices of the step that is as far ahead as they run; ``scopes`` are those of the steps ahead."""
    return [
        _loaded(one.stage, one.reader, f"{one.stage.name}_coming", kernel, scopes[one.stage.ahead], block)
        for one in indices
    ]


def with_indices(scope: Scope, indices: Sequence[Indices], coming: Sequence[Var]) -> Scope:
    """The scope of a step, in which copies find the indices that are held."""
    for one, loaded in zip(indices, coming, strict=True):
        value = one.held[0] if one.held else loaded
        scope = scope.with_tile(tile_form(one.stage).read, StagedTile((), value=value))
    return scope


def move_on(indices: Sequence[Indices], coming: Sequence[Var], block: Block) -> None:
    """What was held for a step is held for the one before."""
    for one, loaded in zip(indices, coming, strict=True):
        for to, value in zip(one.held, (*one.held[1:], loaded), strict=False):
            block.add(Assign(to.name, value, origin=origin(one.stage.name, one.stage.schedule)))


def _loaded(stage: Stage, reader: Stage, name: str, kernel: Kernel, scope: Scope, block: Block) -> Var:
    """The indices of a step as its reader wants them."""
    space = tile_copy_space(reader, tile_form(reader), kernel, scope)
    value = evaluate(tile_form(stage).read, scope, space, kernel.needs)
    return assign(name, value, kernel, block, stage.schedule)
