"""Loops of a node: nested, unrolled, or software-pipelined around the stages that run ahead (``pipeline``).

Several dynamic loops around such stages are flattened into one step counter (``walk``); those around the stages of an
outer loop are a pipeline of their own, whose body is the pipeline of the loops inside. A role that fetches for another
runs the same loops without their computation (``fetching``).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from texpr.lang.ir import Axis
from texpr.math.expr import const, ge, sym
from texpr.plan.attach import outer_stages
from texpr.plan.ir import LoopAxis, Node, Stage
from texpr.plan.resolve import constant
from texpr.schedule.words import SkipTest
from texpr.tile.fetching import emit_fetching, emit_passing_by
from texpr.tile.ir import For, If
from texpr.tile.kernel import Block, Kernel, LowerNodes
from texpr.tile.live import Listed, LiveSteps, advance, cursor_of, holds_somewhere, live_steps, step_at
from texpr.tile.overlap import Overlap
from texpr.tile.pipeline import Body, Drain, emit_pipeline
from texpr.tile.scope import AxisValue, Scope
from texpr.tile.stages import is_pipelined
from texpr.tile.trim import steps_of
from texpr.tile.uniform import Scalar


def emit_loops(
    loops: Sequence[LoopAxis],
    nodes: Sequence[Node],
    body: Body,
    kernel: Kernel,
    scope: Scope,
    block: Block,
    lower: LowerNodes,
    found: Mapping[Axis, LiveSteps] | None = None,
    drain: Drain | None = None,
    overlap: Overlap | None = None,
) -> None:
    """Emit ``loops`` around ``nodes`` and ``body``. ``nodes`` run in the innermost dynamic loop, before the unrolled
    ones, but for the stages of outer loops. ``found``: live steps that are known already. ``drain`` ends what the last
    step of a pipeline has left in flight; with ``overlap`` products of a step go on in the next one, but for the few
    steps at the edges of a loop that is split by its guard."""
    dynamic = [loop for loop in loops if not loop.unrolled]
    unrolled = [loop for loop in loops if loop.unrolled]
    live = found if found is not None else _live_of(dynamic, kernel, scope, block)
    outer = outer_stages(loops, nodes)
    if outer:
        axis, stages = next(iter(outer.items()))
        inside = 1 + next(n for n, loop in enumerate(dynamic) if loop.axis is axis)
        rest = [node for node in nodes if node not in stages]

        def below(at: Scope, inner: Block) -> None:
            emit_loops([*dynamic[inside:], *unrolled], rest, body, kernel, at, inner, lower, live, drain)

        emit_loops(dynamic[:inside], stages, below, kernel, scope, block, lower, live, drain)
        return
    pipelined = [node for node in nodes if isinstance(node, Stage) and is_pipelined(node, kernel.plan)]
    others = [node for node in nodes if node not in pipelined]

    def innermost(at: Scope, inner: Block) -> None:
        at = lower(others, kernel, at, inner)
        _unroll(unrolled, body, at, inner)

    if pipelined and dynamic:
        steps = [steps_of(loop, live.get(loop.axis), kernel, scope.undivided(), block) for loop in dynamic]
        several = list(itertools.product(*steps))
        for parts in several:
            around = scope.repeating() if len(several) > 1 else scope
            if kernel.passing:
                emit_passing_by(parts, pipelined, innermost, kernel, around, block)
            elif kernel.role is not None and not kernel.role.default:
                emit_fetching(parts, pipelined, innermost, kernel, around, block)
            else:
                inner_part = len(several) == 1 or any(loop.holds for loop in parts)
                late = overlap if inner_part else None
                emit_pipeline(parts, pipelined, innermost, kernel, around, block, drain, late)
    else:
        inmost = innermost if not pipelined else _with(pipelined, innermost, kernel, lower)
        _nest(dynamic, live, inmost, kernel, scope, block)


def _live_of(loops: Sequence[LoopAxis], kernel: Kernel, scope: Scope, block: Block) -> dict[Axis, LiveSteps]:
    """The live steps of every loop for which they are found ahead of it."""
    return {
        loop.axis: live_steps(loop, loop.skip, kernel, scope.undivided(), block)
        for loop in loops
        if loop.skip is not None and loop.skip.test is not SkipTest.STEP
    }


def _with(stages: Sequence[Node], body: Body, kernel: Kernel, lower: LowerNodes) -> Body:
    def run(at: Scope, inner: Block) -> None:
        since = len(kernel.taken)
        body(lower(stages, kernel, at, inner), inner)
        kernel.release(since, inner)

    return run


def _nest(
    loops: Sequence[LoopAxis], live: Mapping[Axis, LiveSteps], body: Body, kernel: Kernel, scope: Scope, block: Block
) -> None:
    if not loops:
        body(scope, block)
        return
    loop, rest = loops[0], loops[1:]
    for steps in steps_of(loop, live.get(loop.axis), kernel, scope.undivided(), block):
        inner = Block()
        counter = kernel.name(f"{loop.axis.name}{'_done' if steps.reverse or steps.live is not None else '0'}")
        start = sym(counter)
        bounds = steps.first, steps.stop, const(steps.by)
        if steps.live is not None:
            start = sym(kernel.name(f"{loop.axis.name}0"))
            bounds = const(0), steps.count, const(1)
            if isinstance(steps.live, Listed):
                steps.live.step_at(sym(counter), start, inner)
            else:
                cursor = cursor_of(steps.live, kernel, block)
                step_at(cursor, start, inner)
                advance(cursor, None, False, inner)
        elif steps.reverse:
            start = sym(kernel.name(f"{loop.axis.name}0"))
            from_end = (steps.count - 1) * steps.by - sym(counter)
            inner.add(Scalar(start.name, from_end, f"from the last tile along {loop.axis.name} to the first"))
        at = steps.at(start, scope).with_fact(ge(loop.axis.extent, 1)).repeating()  # in a step of the loop
        if loop.skip is not None and steps.live is None:
            condition = holds_somewhere(loop.skip.guard, f"{loop.axis.name}_any", kernel, at, inner)
            tested = Block()
            _nest(rest, live, body, kernel, at, tested)
            inner.add(If(condition, tuple(tested.statements), "unless the guard holds nowhere in the tile"))
        else:
            _nest(rest, live, body, kernel, at, inner)
        block.add(For(counter, *bounds, tuple(inner.statements)))


def _unroll(loops: Sequence[LoopAxis], body: Body, scope: Scope, block: Block) -> None:
    if not loops:
        body(scope, block)
        return
    loop, rest = loops[0], loops[1:]
    extent = constant(loop.axis.extent)
    assert extent is not None
    starts = range(0, extent, loop.size)
    for start in reversed(starts) if loop.reverse else starts:
        full = start + loop.size <= extent
        _unroll(rest, body, scope.with_axes({loop.axis: AxisValue(const(start), loop.size, full)}), block)
