"""Loops of a node: nested, unrolled, or software-pipelined around the stages that run ahead.

A pipeline of depth D with asynchronous copies A steps ahead (A = D-1 unless the schedule says less) is CUTLASS's
multistage main loop:

    for s in 0 .. A:     copy step s into stage s; commit
    for t in 0 .. n:     wait until at most A-1 groups are in flight: step t has landed (one barrier follows)
                         copy step t+A into stage (t+A) % D; commit
                         compute on stage t % D
    wait for all

A stage copied through registers loads step t+1 before the compute of step t and stores it after. Stage indices are
written as ``t % D`` so that Triton's barrier analysis sees that the copy and the compute touch different stages: one
barrier per step. Several dynamic loops around such stages are flattened into one step counter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from texpr.lang.ir import Axis, OpName
from texpr.math.expr import IntExpr, ceildiv, const, ge, sym
from texpr.math.integer import product
from texpr.plan.errors import NotLowered
from texpr.plan.inline import axes_of
from texpr.plan.ir import LoopAxis, Node, Stage
from texpr.plan.resolve import constant
from texpr.schedule.records import Copy
from texpr.tile import build as tile
from texpr.tile.ir import Commit, For, Scalar, StoreShared, Wait
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, LowerNodes, assign, origin
from texpr.tile.scope import AxisValue, Scope, StagedTile
from texpr.tile.stages import copied_value, copy_into, is_pipelined, stage_buffer, stage_dims, tile_form

Body = Callable[[Scope, Block], None]


def emit_loops(
    loops: Sequence[LoopAxis],
    nodes: Sequence[Node],
    body: Body,
    kernel: Kernel,
    scope: Scope,
    block: Block,
    lower: LowerNodes,
) -> None:
    """Emit ``loops`` around ``nodes`` and ``body``. ``nodes`` run in the innermost dynamic loop, before the unrolled
    ones."""
    dynamic = [loop for loop in loops if not loop.unrolled]
    unrolled = [loop for loop in loops if loop.unrolled]
    pipelined = [node for node in nodes if isinstance(node, Stage) and is_pipelined(node)]
    others = [node for node in nodes if node not in pipelined]

    def innermost(at: Scope, inner: Block) -> None:
        at = lower(others, kernel, at, inner)
        _unroll(unrolled, body, at, inner)

    if pipelined and dynamic:
        _pipeline(dynamic, pipelined, innermost, kernel, scope, block)
    else:
        _nest(dynamic, innermost if not pipelined else _with(pipelined, innermost, kernel, lower), kernel, scope, block)


def _with(stages: Sequence[Node], body: Body, kernel: Kernel, lower: LowerNodes) -> Body:
    def run(at: Scope, inner: Block) -> None:
        body(lower(stages, kernel, at, inner), inner)

    return run


def _nest(loops: Sequence[LoopAxis], body: Body, kernel: Kernel, scope: Scope, block: Block) -> None:
    if not loops:
        body(scope, block)
        return
    loop, rest = loops[0], loops[1:]
    counter = kernel.name(f"{loop.axis.name}0")
    inner = Block()
    at = scope.with_axes({loop.axis: AxisValue(sym(counter), loop.size, loop.full)})
    at = at.with_fact(ge(loop.axis.extent, 1))  # in a step of the loop
    _nest(rest, body, kernel, at, inner)
    block.add(For(counter, const(0), loop.axis.extent, const(loop.size), tuple(inner.statements)))


def _unroll(loops: Sequence[LoopAxis], body: Body, scope: Scope, block: Block) -> None:
    if not loops:
        body(scope, block)
        return
    loop, rest = loops[0], loops[1:]
    extent = constant(loop.axis.extent)
    assert extent is not None
    for start in range(0, extent, loop.size):
        full = start + loop.size <= extent
        _unroll(rest, body, scope.with_axes({loop.axis: AxisValue(const(start), loop.size, full)}), block)


def _pipeline(
    loops: Sequence[LoopAxis], stages: Sequence[Stage], body: Body, kernel: Kernel, scope: Scope, block: Block
) -> None:
    asynchronous = [stage for stage in stages if stage.copy is Copy.ASYNC]
    through_registers = [stage for stage in stages if stage.copy is Copy.SYNC]
    depth, ahead = _common_depth(asynchronous, kernel)
    counter = kernel.name("step")
    count = kernel.name("steps")
    steps = product(ceildiv(loop.axis.extent, loop.size) for loop in loops)
    block.add(Scalar(count, steps, f"steps of {' x '.join(loop.axis.name for loop in loops)}"))
    buffers = {stage.name: stage_buffer(stage, kernel, scope, stage.depth) for stage in stages}

    def at_step(step: IntExpr, suffix: str, into: Block) -> Scope:
        return scope.with_axes(_positions(loops, step, suffix, kernel, into))

    def before_end(stage: Stage, step: IntExpr) -> TileExpr | None:
        """The condition that keeps a copy from running past the last step, unless its own mask does."""
        return (
            None if _masked_by_loop(loops, stage) else tile.op(OpName.LT, tile.uniform(step), tile.uniform(sym(count)))
        )

    def fetch(step: IntExpr, slot: IntExpr, into: Block) -> None:
        at = at_step(step, "next", into)
        for stage in asynchronous:
            copy_into(stage, buffers[stage.name], slot, kernel, at, into, before_end(stage, step))
        into.add(Commit())

    if asynchronous and ahead:
        early = kernel.name("ahead")
        prologue = Block()
        fetch(sym(early), sym(early), prologue)
        note = "fill the pipeline"
        block.add(For(early, const(0), const(ahead), const(1), tuple(prologue.statements), note, static=True))
    if through_registers:
        at = at_step(const(0), "first", block)
        for stage in through_registers:
            copy_into(stage, buffers[stage.name], const(0), kernel, at, block, before_end(stage, const(0)))

    inner = Block()
    step = sym(counter)
    if asynchronous and ahead:
        inner.add(Wait(ahead - 1))
        fetch(step + ahead, _slot(step + ahead, depth), inner)
    elif asynchronous:
        fetch(step, _slot(step, depth), inner)
        inner.add(Wait(0))
    loaded = []
    if through_registers:
        at = at_step(step + 1, "next", inner)
        for stage in through_registers:
            value = copied_value(stage, kernel, at, before_end(stage, step + 1))
            loaded.append(assign(f"{stage.name}_next", value, kernel, inner, stage.schedule))
    at = at_step(step, "0", inner)
    for stage in stages:
        slot = _slot(step, stage.depth)
        at = at.with_tile(
            tile_form(stage).read, StagedTile(stage_dims(tile_form(stage), kernel), buffers[stage.name].name, slot)
        )
    for loop in loops:
        at = at.with_fact(ge(loop.axis.extent, 1))
    body(at, inner)
    for stage, value in zip(through_registers, loaded, strict=True):
        slot = _slot(step + 1, stage.depth)
        inner.add(StoreShared(buffers[stage.name].name, slot, value, origin=origin(stage.name, stage.schedule)))
    block.add(For(counter, const(0), sym(count), const(1), tuple(inner.statements)))
    if asynchronous and ahead:
        block.add(Wait(0))


def _common_depth(stages: Sequence[Stage], kernel: Kernel) -> tuple[int, int]:
    """Depth and distance of the asynchronous stages of one loop: one group of copies per step serves them all."""
    shapes = {(stage.depth, stage.ahead) for stage in stages}
    if len(shapes) > 1:
        raise NotLowered(
            what="different depths of async stages in one loop",
            instead=f"depth: {max(depth for depth, _ in shapes)} for all of them",
            at=kernel.plan.record.location_of("stage"),
        )
    return next(iter(shapes), (1, 0))


def _slot(step: IntExpr, depth: int) -> IntExpr:
    return step % depth if depth > 1 else const(0)


def _masked_by_loop(loops: Sequence[LoopAxis], stage: Stage) -> bool:
    """Whether a copy's own mask already excludes steps past the end: one loop, not full, over an axis the tile has
    lanes on."""
    if len(loops) > 1 or loops[0].full:
        return False
    return any(axis is loops[0].axis for axis in axes_of(tile_form(stage).read))


def _positions(
    loops: Sequence[LoopAxis], step: IntExpr, suffix: str, kernel: Kernel, block: Block
) -> dict[Axis, AxisValue]:
    """Where every loop's axis stands at a step of the flattened loops: the last loop is the fastest."""
    found: dict[Axis, AxisValue] = {}
    rest = step
    for n, loop in reversed(list(enumerate(loops))):
        count = ceildiv(loop.axis.extent, loop.size)
        index = rest if n == 0 else rest % count
        rest = rest if n == 0 else rest // count
        name = kernel.name(f"{loop.axis.name}{'_' if suffix.isalpha() else ''}{suffix}")
        block.add(Scalar(name, index * loop.size))
        found[loop.axis] = AxisValue(sym(name), loop.size, loop.full)
    return found
