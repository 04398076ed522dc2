"""Pipelines: loops whose stages run ahead of their use.

A pipeline of asynchronous copies that run A steps ahead of their use is CUTLASS's multistage main loop. Stage s holds
D tiles and runs a steps ahead (a = D-1 unless the schedule says less); A is the largest a of the loop, B the least:

    for g in 0 .. A:     copy step g - (A - a) of every stage that has begun (g >= A - a); commit
    for t in 0 .. n:     wait until at most B-1 groups are in flight: step t of every stage has landed (a barrier
                         follows)
                         copy step t+a of every stage into its tile (t+a) % D; commit
                         compute on the tiles t % D
    wait for all

Groups land in order and every step makes one, so one count serves all stages: step t of a stage is in group t + A - a,
and A + t groups have been made when step t begins. With B = 0 the step first copies, then waits for all.

Boxes that the copy engine fetches arrive by a phase of a barrier instead, which is waited for where it is needed; a
ring of them is filled like the groups above, but by copies that are left out where there is no such step.

A stage copied through registers loads step t+a before the compute of step t and stores it after: D >= a tiles are
enough. Tile numbers are written as ``t % D`` so that Triton's barrier analysis sees that the copy and the compute touch
different tiles: one barrier per step. A product that is still in flight when the next step begins reads tiles that
copies leave alone until it has ended (``plan.warpgroups``); the last one ends before the pipeline does.

Tiles that are kept for later loops are all copied ahead, a = D: no copy is left for the steps, but for its group.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from texpr.math.expr import TRUE, IntExpr, const, ge, lt, sym
from texpr.plan.ir import Reading, Stage
from texpr.schedule.words import Copy
from texpr.tile.boxes import Ring, await_step, fetch_boxes, give_back, go_on, rings_of
from texpr.tile.declarations import Buffer
from texpr.tile.ir import Barrier, Commit, For, If, StoreShared, Wait
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, assign, origin, stage_dims
from texpr.tile.overlap import Overlap
from texpr.tile.protocol import DotWait, FenceAsync
from texpr.tile.scope import AxisValue, Scope, StagedTile
from texpr.tile.stages import copied_value, copy_into, stage_buffer, tile_form, zero_in_place
from texpr.tile.trim import Steps
from texpr.tile.walk import Walk, count_steps, walk_along

Body = Callable[[Scope, Block], None]
Loaded = Sequence[tuple[Stage, TileExpr]]
"""What a step holds in registers until it has been computed: the tiles of later steps."""


@dataclass(frozen=True, slots=True)
class Drain:
    """``wait`` ends the products of the last ``steps`` steps, which are in flight when a loop is done."""

    wait: DotWait
    steps: int


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """A pipeline while it is emitted. ``asynchronous`` and ``through_registers`` are the stages that its own threads
    copy, ``rings`` those that the copy engine or another role fetches, of which the ``late`` ones are waited for
    between the products of a step and those of the step before."""

    stages: tuple[Stage, ...]
    asynchronous: tuple[Stage, ...]
    through_registers: tuple[Stage, ...]
    rings: tuple[Ring, ...]
    late: tuple[Ring, ...]
    buffers: Mapping[str, Buffer]
    walk: Walk
    kernel: Kernel

    @property
    def count(self) -> IntExpr:
        return self.walk.count

    @property
    def own(self) -> list[Ring]:
        """The rings that are filled here."""
        return [ring for ring in self.rings if not ring.empty]

    @property
    def shared(self) -> list[Ring]:
        """The rings that another role fills."""
        return [ring for ring in self.rings if ring.empty]

    @property
    def prompt(self) -> list[Ring]:
        """The rings that a step waits for before anything else."""
        return [ring for ring in self.rings if ring not in self.late]

    @property
    def furthest(self) -> int:
        return max((stage.ahead for stage in self.asynchronous), default=0)

    @property
    def nearest(self) -> int:
        return min((stage.ahead for stage in self.asynchronous), default=0)

    def slots(self, step: IntExpr) -> dict[str, IntExpr]:
        """Which tile of every stage is that of a step."""
        found = {stage.name: _slot(step, stage.depth) for stage in self.stages}
        return found | {stage.name: ring.slot(step) for ring in self.rings for stage in ring.stages}


def emit_pipeline(
    loops: Sequence[Steps],
    stages: Sequence[Stage],
    body: Body,
    kernel: Kernel,
    scope: Scope,
    block: Block,
    drain: Drain | None,
    overlap: Overlap | None,
) -> None:
    """Emit flattened ``loops`` around ``body``, with the copies of ``stages``. ``drain`` ends what the last steps leave
    in flight; with ``overlap`` products of a step go on in the next one."""
    counter, pipeline = _begun(loops, stages, overlap is not None, kernel, scope, block)
    _fill(pipeline, block)
    step, count = sym(counter), pipeline.count
    inner = Block()
    if overlap is None:
        _step(pipeline, step, body, drain, inner)
        block.add(For(counter, const(0), count, const(1), tuple(inner.statements)))
    else:
        opening, ending = Block(), Block()
        loaded = _bring(pipeline, const(0), block, opening)
        _overlapping_step(pipeline, overlap, const(0), True, loaded, body, opening)
        loaded = _bring(pipeline, step, inner, inner)
        _overlapping_step(pipeline, overlap, step, False, loaded, body, inner)
        sizes = {loop.axis: AxisValue(const(0), loop.size, loop.full) for loop in loops}  # tiles lie as in any step
        _start_lagging(pipeline, overlap, count - 1, scope.with_axes(sizes), ending)
        _end_lagging(pipeline, overlap, count - 1, ending)
        some = pipeline.walk.is_step(const(0))
        block.add(If(some, tuple(opening.statements), "the first step has none before it"))
        block.add(For(counter, const(1), count, const(1), tuple(inner.statements)))
        block.add(If(some, tuple(ending.statements), "what the last step has left"))
    if drain is not None:
        block.add(drain.wait)
    if pipeline.furthest:
        block.add(Wait(0))
    elif drain is not None or (overlap is not None and pipeline.own):
        block.add(Barrier("no warp reads the operands any more"))
    for before in reversed(range(drain.steps if drain is not None else 0)):
        last = count - 1 - before
        block.add(*(one for ring in pipeline.shared for one in give_back(ring, last, ge(last, 0))))
    block.add(*(statement for ring in pipeline.rings for statement in go_on(ring, count)))


def _begun(
    loops: Sequence[Steps], stages: Sequence[Stage], overlaps: bool, kernel: Kernel, scope: Scope, block: Block
) -> tuple[str, _Pipeline]:
    """The counter of the steps, and the pipeline."""
    mine = [stage for stage in stages if kernel.fetches(stage)]
    rings = tuple(rings_of([s for s in stages if s.copy is Copy.TMA or not kernel.fetches(s)], kernel, scope))
    counter = kernel.name("step")
    count = count_steps(loops, kernel, block)
    buffers = {stage.name: stage_buffer(stage, kernel, scope, stage.depth) for stage in stages}
    walkers = [*((stage.copy, stage.ahead) for stage in mine), (None, 0)]
    return counter, _Pipeline(
        tuple(stages),
        tuple(stage for stage in mine if stage.copy is Copy.ASYNC),
        tuple(stage for stage in mine if stage.copy is Copy.SYNC),
        rings,
        tuple(ring for ring in rings if overlaps and ring.reading is Reading.LAG),
        buffers,
        walk_along(loops, count, walkers, kernel, scope, block),
        kernel,
    )


# ---- copies ----------------------------------------------------------------------------------------------------------


def _fill(pipeline: _Pipeline, block: Block) -> None:
    """Start the copies of the steps that no earlier step starts."""
    for distance in (distance for distance in dict.fromkeys(ring.ahead for ring in pipeline.own) if distance):
        early, filling = pipeline.kernel.name("ahead"), Block()
        _fetch_rings(pipeline, sym(early), distance, filling)
        block.add(For(early, const(0), const(distance), const(1), tuple(filling.statements), "fill the ring", True))
    furthest = pipeline.furthest
    begins = sorted({furthest - distance for distance in (*(stage.ahead for stage in pipeline.asynchronous), 0)})
    for start, stop in itertools.pairwise(begins):
        early, filling = pipeline.kernel.name("ahead"), Block()
        begun = [stage for stage in pipeline.asynchronous if furthest - stage.ahead <= start]
        _fetch(pipeline, begun, sym(early) + (start - furthest), False, filling)
        filling.add(Commit())
        turns = const(stop - start)
        block.add(For(early, const(0), turns, const(1), tuple(filling.statements), "fill the pipeline", True))
    _copy_first(pipeline, block)


def _fetch(pipeline: _Pipeline, wanted: Sequence[Stage], step: IntExpr, slots: bool, block: Block) -> None:
    """Start copying what every stage needs ``ahead`` steps after ``step``."""
    walk, scopes = pipeline.walk, dict[int, Scope]()
    for stage in wanted:
        at = step + stage.ahead
        if stage.ahead not in scopes:
            scopes[stage.ahead] = walk.at(at, (stage.copy, stage.ahead), "next", block)
        slot = _slot(at, stage.depth) if slots else at
        buffer, when = pipeline.buffers[stage.name], walk.before_end(stage, at)
        copy_into(stage, buffer, slot, pipeline.kernel, scopes[stage.ahead], block, when)


def _fetch_rings(pipeline: _Pipeline, step: IntExpr, distance: int, block: Block) -> None:
    """Start copying the boxes of a step that rings fetch at this distance."""
    at = pipeline.walk.at(step, (Copy.TMA, distance), "next", block)
    for ring in pipeline.own:
        if ring.ahead == distance:
            fetch_boxes(ring, pipeline.buffers, step, pipeline.kernel, at, block, lt(step, pipeline.count))


def _copy_first(pipeline: _Pipeline, block: Block) -> None:
    """Copy through registers the steps that no earlier step loads: as many of every stage as it runs ahead."""
    walk, stages = pipeline.walk, pipeline.through_registers
    for distance in dict.fromkeys(stage.ahead for stage in stages):
        for step in map(const, range(distance)):
            at = walk.at(step, (Copy.SYNC, distance), "first", block)
            for stage in (stage for stage in stages if stage.ahead == distance):
                buffer, when = pipeline.buffers[stage.name], walk.before_end(stage, step)
                copy_into(stage, buffer, step, pipeline.kernel, at, block, when)
    if any(stage.multiplied for stage in stages):
        block.add(FenceAsync())


# ---- a step ----------------------------------------------------------------------------------------------------------


def _step(pipeline: _Pipeline, step: IntExpr, body: Body, drain: Drain | None, block: Block) -> None:
    loaded = _bring(pipeline, step, block, block)
    _compute(pipeline, _begin(pipeline, step, block), body, block)
    lag = 0 if drain is None else drain.steps
    for ring in pipeline.shared:  # products in flight still read the tiles of their steps
        block.add(*give_back(ring, step - lag, ge(step, lag) if lag else TRUE))
    _end(pipeline, step, loaded, block)


def _bring(pipeline: _Pipeline, step: IntExpr, block: Block, waits: Block) -> Loaded:
    """Start the copies that a step starts, and wait for what it reads: in ``waits``, where a role may have fetched it.
    """
    asynchronous, nearest = pipeline.asynchronous, pipeline.nearest
    for distance in dict.fromkeys(ring.ahead for ring in pipeline.own):
        _fetch_rings(pipeline, step + distance, distance, block)
    waits.add(*(await_step(ring, step) for ring in pipeline.prompt))
    if asynchronous and nearest:
        block.add(Wait(nearest - 1))
    if asynchronous:
        _fetch(pipeline, [stage for stage in asynchronous if stage.kept is None], step, True, block)
        block.add(Commit())
    if asynchronous and not nearest:
        block.add(Wait(0))
    copied = [*asynchronous, *(stage for ring in pipeline.prompt for stage in ring.copied)]
    if any(stage.multiplied for stage in copied):  # after the copies: Triton adds another one else
        waits.add(FenceAsync())
    return _load_ahead(pipeline, step, block)


def _load_ahead(pipeline: _Pipeline, step: IntExpr, block: Block) -> Loaded:
    """Load what passes through registers on its way to the tiles of later steps."""
    loaded, kernel = [], pipeline.kernel
    for distance in dict.fromkeys(stage.ahead for stage in pipeline.through_registers):
        at = pipeline.walk.at(step + distance, (Copy.SYNC, distance), "next", block)
        for stage in (stage for stage in pipeline.through_registers if stage.ahead == distance):
            value = copied_value(stage, kernel, at, pipeline.walk.before_end(stage, step + distance))
            loaded.append((stage, assign(f"{stage.name}_next", value, kernel, block, stage.schedule)))
    return loaded


def _begin(pipeline: _Pipeline, step: IntExpr, block: Block) -> Scope:
    """The scope in which a step has all of its tiles."""
    at = _with_tiles(pipeline, pipeline.stages, step, pipeline.walk.at(step, (None, 0), "0", block))
    for loop in pipeline.walk.loops:
        at = at.with_fact(ge(loop.axis.extent, 1))
    _zero(pipeline, pipeline.prompt, step, at, block)
    return at


def _with_tiles(pipeline: _Pipeline, wanted: Sequence[Stage], step: IntExpr, at: Scope) -> Scope:
    """The scope in which stages hold the tiles of a step."""
    slots = pipeline.slots(step)
    for stage in wanted:
        dims, name = stage_dims(tile_form(stage), pipeline.kernel), pipeline.buffers[stage.name].name
        tile_here = StagedTile(dims, name, slots[stage.name], copies=stage.copies, part=stage.part)
        at = at.with_tile(tile_form(stage).read, tile_here)
    return at


def _zero(pipeline: _Pipeline, wanted: Sequence[Ring], step: IntExpr, at: Scope, block: Block) -> None:
    """Zero what guards leave out of the boxes of a step."""
    slots, boxed = pipeline.slots(step), [stage for ring in wanted for stage in ring.boxes]
    found = [(stage, pipeline.buffers[stage.name], slots[stage.name]) for stage in boxed]
    zero_in_place(found, pipeline.kernel, at, block)


def _compute(pipeline: _Pipeline, at: Scope, body: Body, block: Block) -> None:
    since = len(pipeline.kernel.taken)
    body(at.repeating(), block)
    pipeline.kernel.release(since, block)


def _end(pipeline: _Pipeline, step: IntExpr, loaded: Loaded, block: Block) -> None:
    """Store what a step has loaded for later ones."""
    for stage, value in loaded:
        slot, buffer = _slot(step + stage.ahead, stage.depth), pipeline.buffers[stage.name]
        block.add(StoreShared(buffer.name, slot, value, origin=origin(stage.name, stage.schedule)))
    if any(stage.multiplied for stage, _ in loaded):
        block.add(FenceAsync())


# ---- a step whose products overlap -----------------------------------------------------------------------------------


def _overlapping_step(
    pipeline: _Pipeline, products: Overlap, step: IntExpr, first: bool, loaded: Loaded, body: Body, block: Block
) -> None:
    """A step between the products that it starts and those that the step before has left."""
    at = _begin(pipeline, step, block)
    products.lead(at, block)
    if not first:
        _start_lagging(pipeline, products, step - 1, at, block)
    products.await_leading(not first, block)
    _give_back(pipeline, Reading.LEAD, step, block)
    _compute(pipeline, at, body, block)
    _give_back(pipeline, Reading.STEP, step, block)
    block.add(*(await_step(ring, step) for ring in pipeline.late))
    if any(stage.multiplied for ring in pipeline.late for stage in ring.copied):
        block.add(FenceAsync())
    _zero(pipeline, pipeline.late, step, at, block)
    if not first:
        _end_lagging(pipeline, products, step - 1, block)
    products.close(block)
    _end(pipeline, step, loaded, block)


def _start_lagging(pipeline: _Pipeline, products: Overlap, step: IntExpr, at: Scope, block: Block) -> None:
    """Start the products that a step has left."""
    lagging = [stage for stage in pipeline.stages if stage.reading.lags]
    products.lag(_with_tiles(pipeline, lagging, step, at), block)


def _end_lagging(pipeline: _Pipeline, products: Overlap, step: IntExpr, block: Block) -> None:
    """Wait for the products that a step has left, and give back the tiles that they have read."""
    block.add(DotWait(0, products.lagging))
    block.add(*(one for ring in pipeline.shared for one in give_back(ring, step) if ring.reading.lags))


def _give_back(pipeline: _Pipeline, reading: Reading, step: IntExpr, block: Block) -> None:
    """Give back the tiles of a step that are read at this place."""
    block.add(*(one for ring in pipeline.shared for one in give_back(ring, step) if ring.reading is reading))


def _slot(step: IntExpr, depth: int) -> IntExpr:
    return step % depth if depth > 1 else const(0)
