"""``skip``: loops that leave out the steps in which the reduction's guard holds nowhere in the tile.

A step whose points all fail the guard adds nothing, so leaving it out is exact, also for infinities and NaN. Any
conjunct of the guard will do that mentions the axis of the loop and is known before the loop: what it reads may depend
on the tile and on loops around, not on the other loops of the reduction. Live steps are taken in ascending order, so
that sums have the same bits however the steps are found.

A list of points is an argument: it may name more than the live ones, and that it names all of them is what the caller
promises. The guard is tested in its steps as in those of any loop.

A loop is skipped or trimmed along an axis, not both: bounds of a guard are cheaper to find, and a mask finds the same
steps. Different loops of one reduction may differ in that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from texpr.contracts import ContractKind
from texpr.errors import Location
from texpr.lang.ir import Axis, Expr, Func
from texpr.lang.show import expr_text
from texpr.math.bounds import Facts, bounds
from texpr.math.expr import ceildiv, eq
from texpr.math.prove import is_proved
from texpr.plan.checks import nodes_of
from texpr.plan.errors import NotLowered, SkipInvalid
from texpr.plan.inline import axes_of, conjunction, conjuncts, reads_of
from texpr.plan.ir import AxisTile, Group, KernelPlan, LoopAxis, PointList, Reduction, Skip, Stage
from texpr.plan.resolve import Context
from texpr.plan.visit import argument, is_present
from texpr.schedule.places import Place
from texpr.schedule.places import Skip as SkipRecord
from texpr.schedule.words import Copy, Memory, SkipTest

MOST_LIVE = 64
"""The steps that a word has bits for."""


def skipping(
    context: Context,
    func: str,
    where: Expr | None,
    loops: tuple[LoopAxis, ...],
    sizes: Mapping[Axis, int],
    place: Place,
    inside: frozenset[Func],
) -> tuple[tuple[LoopAxis, ...], Expr | None]:
    """The loops of a reduction with what ``skip`` asks for, and what is left of its guard: conjuncts that hold at every
    point of the live steps are dropped. ``inside`` are the funcs computed in the loops. Raises ``SkipInvalid``."""
    parts = conjuncts(where)
    settled: list[Expr] = []
    found = {loop.axis: loop for loop in loops}
    for name, record in place.skip.items():
        at = record.location or place.skip.location_of(name)
        loop = next((loop for loop in loops if loop.axis.name == name), None)
        if loop is None:
            choices = ", ".join(loop.axis.name for loop in loops) or "none"
            raise SkipInvalid(func=func, axis=name, why="it has no such loop", hint=f"one of {choices}", at=at)
        _check_loop(func, loop, at)
        deciding = _deciding(func, parts, loop, loops, record, inside, at)
        if record.list_ is not None:
            listed = _listed(context, func, loop, record.list_, deciding, sizes, at)
            found[loop.axis] = dataclasses.replace(loop, skip=Skip(tuple(deciding), None, 0, listed))
            continue
        most = _most_steps(func, loop, record, context.facts, at)
        found[loop.axis] = dataclasses.replace(loop, skip=Skip(tuple(deciding), record.test, most))
        if loop.size == 1:
            settled += [part for part in deciding if not any(sizes.get(axis, 1) > 1 for axis in axes_of(part))]
    left = [part for part in parts if not any(part is done for done in settled)]
    return tuple(found[loop.axis] for loop in loops), conjunction(left) if left else None


def _check_loop(func: str, loop: LoopAxis, at: Location | None) -> None:
    name = loop.axis.name
    if loop.unrolled:
        why, hint = "an unrolled loop has all of its steps", f"take {name} out of unroll"
    elif loop.trim is not None:
        why, hint = "trim bounds the same loop already", f"trim or skip of {name}"
    elif loop.base is not None:
        why, hint = f"it runs over the points of the groups of {name}, which differ from tile to tile", None
    else:
        return
    raise SkipInvalid(func=func, axis=name, why=why, hint=hint, at=at)


def _deciding(
    func: str,
    parts: Sequence[Expr],
    loop: LoopAxis,
    loops: Sequence[LoopAxis],
    record: SkipRecord,
    inside: frozenset[Func],
    at: Location | None,
) -> list[Expr]:
    """The conjuncts that tell which steps are live."""
    axis, name = loop.axis, loop.axis.name
    around = loops[: loops.index(loop)] if record.test is SkipTest.STEP else ()
    unknown = {other.axis for other in loops if other is not loop and other not in around}
    mentioning = [part for part in parts if axis in axes_of(part)]
    deciding = [part for part in mentioning if not unknown & axes_of(part)]
    if not deciding:
        if mentioning:
            other = sorted(a.name for a in unknown & axes_of(mentioning[0]))[0]
            why = f"{expr_text(mentioning[0])} depends on {other} as well, another loop of {name}'s nest"
        else:
            why = f"its guard says nothing of {name}" if parts else "it has no guard (where=)"
        raise SkipInvalid(func=func, axis=name, why=why, at=at)
    for read in (read for part in deciding for read in reads_of(part)):
        if read.source in inside:
            why = f"its guard depends on {read.source.name}, which is computed inside of the loop"
            raise SkipInvalid(func=func, axis=name, why=why, hint=f"place {read.source.name} at tile", at=at)
    return deciding


def _most_steps(func: str, loop: LoopAxis, record: SkipRecord, facts: Facts, at: Location | None) -> int:
    """How many steps a mask has bits for."""
    if record.test is SkipTest.STEP:
        return 0
    most = bounds(ceildiv(loop.axis.extent, loop.size), facts).hi
    if most is None or most > MOST_LIVE:
        points = MOST_LIVE * loop.size
        why = f"a mask has {MOST_LIVE} bits, one per step, and {loop.axis.extent} <= {points} is not proved"
        hint = f"when: {loop.axis.extent} <= {points}, or test: step"
        raise SkipInvalid(func=func, axis=loop.axis.name, why=why, hint=hint, at=at)
    return max(most, 1)


def _listed(
    context: Context,
    func: str,
    loop: LoopAxis,
    name: str,
    guard: Sequence[Expr],
    sizes: Mapping[Axis, int],
    at: Location | None,
) -> PointList:
    """The list that a loop runs over: it has a row for each tile of the one axis of the grid that the guard depends on.
    """
    axis = loop.axis

    def refuse(why: str, hint: str | None = None) -> SkipInvalid:
        return SkipInvalid(func=func, axis=axis.name, why=why, hint=hint, at=at)

    tensor = argument(context.algorithm, name, "skip", context.record, at)
    contract = tensor.contract(ContractKind.LISTS)
    if contract is None or contract.limit != axis.extent:
        hint = f"{name}: hint i32[NT, {axis.extent} + 1] lists({axis.extent})"
        raise refuse(f"{name} is no list of points of {axis.name}", hint)
    if tensor.optional and not is_present(name, context.variant.when):
        raise refuse(f"{name} may be absent", f"when: present({name})")
    if loop.size > 1:
        raise refuse(f"{name} lists points, not steps of {loop.size}", f"loop: {{{axis.name}: 1}}")
    mentioned = frozenset[Axis]().union(*(axes_of(part) for part in guard))
    tiles = sorted((a for a in mentioned if a.name in context.record.grid), key=lambda a: a.name)
    if len(tiles) != 1 or tiles[0].ragged is not None:
        names = " and ".join(tile.name for tile in tiles) or "none"
        raise refuse(f"{name} has a row per tile of one axis of the grid, and the guard depends on {names}")
    (tile,) = tiles
    rows = ceildiv(tile.extent, sizes[tile])
    if not is_proved(eq(tensor.shape[0], rows), context.facts):
        why = f"{name} has {tensor.shape[0]} rows, and there are {rows} tiles of {sizes[tile]} along {tile.name}"
        raise refuse(why, f"when: {tensor.shape[0]} == {rows}")
    return PointList(dataclasses.replace(tensor, optional=False), tile, sizes[tile])


def check_no_skip(func: str, place: Place) -> None:
    """Only loops of reductions have a guard. Raises ``SkipInvalid``."""
    for axis, record in place.skip.items():
        why = "it is not a reduction, whose guard would leave out steps of a loop"
        raise SkipInvalid(func=func, axis=axis, why=why, at=record.location or place.skip.location_of(axis))


def check_tested_steps(context: Context, plan: KernelPlan) -> None:
    """Where each step is tested, nothing runs ahead: copies would be started for steps that may not come, and their
    waits would stand under the test; nor do roles test what others must agree on. Raises ``SkipInvalid``,
    ``NotLowered``."""
    for node in nodes_of(plan.nodes):
        if not isinstance(node, Reduction | Group):
            continue
        skipped = [loop for loop in node.loops if loop.skip is not None]
        tested = [loop for loop in skipped if loop.skip is not None and loop.skip.test is SkipTest.STEP]
        if tested and context.record.roles:
            name, at = tested[0].axis.name, context.record.location_of("roles")
            raise NotLowered(what=f"skip of {name} step by step in a kernel with roles", instead="test: mask", at=at)
        ahead = [inner for inner in node.body if isinstance(inner, Stage) and _runs_ahead(inner)]
        if tested and ahead:
            name, staged = tested[0].axis.name, ahead[0].name
            at = context.record.stage[staged].location
            why = f"copies of {staged} run ahead of the steps that are tested"
            hint = f"skip: {{{name}: {{test: mask}}}}, or copy: sync of {staged} without ahead"
            raise SkipInvalid(func=node.funcs[0].name, axis=name, why=why, hint=hint, at=at)


def _runs_ahead(stage: Stage) -> bool:
    tiled = isinstance(stage.form, AxisTile) and stage.memory is Memory.SHARED
    return tiled and (stage.copy is not Copy.SYNC or stage.ahead > 0)
