"""Loops of a node: nested, unrolled, or software-pipelined around the stages that run ahead.

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

Several dynamic loops around such stages are flattened into one step counter; those around the stages of an outer loop
are a pipeline of their own, whose body is the pipeline of the loops inside.

Tiles that are kept for later loops are all copied ahead, a = D: no copy is left for the steps, but for its group.

A loop that leaves out steps counts the live ones, which a cursor walks along (``live``); in a pipeline, every distance
at which copies run ahead has a cursor of its own, so that no copy stands under a condition.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from texpr.lang.ir import Axis, OpName
from texpr.math.expr import TRUE, IntExpr, const, ge, lt, sym
from texpr.math.integer import product
from texpr.plan.attach import outer_stages
from texpr.plan.inline import axes_of
from texpr.plan.ir import LoopAxis, Node, Reading, Stage
from texpr.plan.resolve import constant
from texpr.schedule.records import Copy, SkipTest
from texpr.tile import build as tile
from texpr.tile.boxes import Ring, await_step, fetch_boxes, give_back, go_on, rings_of
from texpr.tile.gathering import fetch_step
from texpr.tile.indices import indices_for, load_first, load_next, move_on, with_indices
from texpr.tile.ir import Barrier, Buffer, Commit, For, If, Scalar, StoreShared, Wait
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, LowerNodes, assign, origin, stage_dims
from texpr.tile.live import Cursor, Listed, LiveSteps, Mask, advance, cursor_of, holds_somewhere, live_steps, step_at
from texpr.tile.overlap import Overlap
from texpr.tile.protocol import DotWait, FenceAsync
from texpr.tile.scope import AxisValue, Scope, StagedTile
from texpr.tile.stages import copied_value, copy_into, is_pipelined, stage_buffer, tile_form, zero_in_place
from texpr.tile.trim import Steps, steps_of

Body = Callable[[Scope, Block], None]
Walk = tuple[Copy | None, int]
"""Who goes along the steps: copies of a kind at a distance, or the computation."""


@dataclass(frozen=True, slots=True)
class Drain:
    """``wait`` ends the products of the last ``steps`` steps, which are in flight when a loop is done."""

    wait: DotWait
    steps: int


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
                _pass_by(parts, pipelined, innermost, kernel, around, block)
            elif kernel.role is not None and not kernel.role.default:
                _fetch(parts, pipelined, innermost, kernel, around, block)
            else:
                inner_part = len(several) == 1 or any(loop.holds for loop in parts)
                _pipeline(
                    parts, pipelined, innermost, kernel, around, block, drain, overlap if inner_part else None
                )
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


def _pipeline(
    loops: Sequence[Steps],
    stages: Sequence[Stage],
    body: Body,
    kernel: Kernel,
    scope: Scope,
    block: Block,
    drain: Drain | None,
    overlap: Overlap | None,
) -> None:
    mine = [stage for stage in stages if kernel.fetches(stage)]
    asynchronous = [stage for stage in mine if stage.copy is Copy.ASYNC]
    rings = rings_of([s for s in stages if s.copy is Copy.TMA or not kernel.fetches(s)], kernel, scope)
    through_registers = [stage for stage in mine if stage.copy is Copy.SYNC]
    distances = [stage.ahead for stage in asynchronous]
    furthest, nearest = max(distances, default=0), min(distances, default=0)
    counter = kernel.name("step")
    count = kernel.name("steps")
    steps = product(loop.count for loop in loops)
    block.add(Scalar(count, steps, _steps_note(loops)))
    buffers = {stage.name: stage_buffer(stage, kernel, scope, stage.depth) for stage in stages}
    masks = [loop.live for loop in loops if isinstance(loop.live, Mask)]
    cursors = {
        (copy, distance): {mask.axis: cursor_of(mask, kernel, block) for mask in masks}
        for copy, distance in dict.fromkeys([*((stage.copy, stage.ahead) for stage in mine), (None, 0)])
    }

    def at_step(step: IntExpr, walk: Walk, suffix: str, into: Block) -> Scope:
        """Where the loops stand at ``step``, the one that follows the last for which this walk has been asked."""
        inside = scope.with_axes(_positions(loops, step, cursors[walk], suffix, kernel, into))
        for loop in loops:
            inside = inside.with_holding(loop.holds)  # in all steps: nothing is copied for one past the last
        return inside

    def before_end(stage: Stage, step: IntExpr) -> TileExpr | None:
        """The condition that keeps a copy from running past the last step, unless its own mask does."""
        return (
            None if _masked_by_loop(loops, stage) else tile.op(OpName.LT, tile.uniform(step), tile.uniform(sym(count)))
        )

    def fetch(wanted: Sequence[Stage], step: IntExpr, slots: bool, into: Block) -> None:
        """Start copying what every stage needs ``ahead`` steps after ``step``."""
        scopes: dict[int, Scope] = {}
        for stage in wanted:
            at = step + stage.ahead
            if stage.ahead not in scopes:
                scopes[stage.ahead] = at_step(at, (stage.copy, stage.ahead), "next", into)
            slot = _slot(at, stage.depth) if slots else at
            copy_into(stage, buffers[stage.name], slot, kernel, scopes[stage.ahead], into, before_end(stage, at))

    def fetch_rings(step: IntExpr, distance: int, into: Block) -> None:
        """Start copying the boxes of a step that rings fetch at this distance."""
        at = at_step(step, (Copy.TMA, distance), "next", into)
        for ring in own:
            if ring.ahead == distance:
                fetch_boxes(ring, buffers, step, kernel, at, into, lt(step, sym(count)))

    own = [ring for ring in rings if not ring.empty]
    distances_of_rings = dict.fromkeys(ring.ahead for ring in own)
    for distance in (distance for distance in distances_of_rings if distance):
        early = kernel.name("ahead")
        prologue = Block()
        fetch_rings(sym(early), distance, prologue)
        filling = tuple(prologue.statements)
        block.add(For(early, const(0), const(distance), const(1), filling, "fill the ring", True))
    for start, stop in itertools.pairwise(sorted({furthest - distance for distance in (*distances, 0)})):
        early = kernel.name("ahead")
        prologue = Block()
        begun = [stage for stage in asynchronous if furthest - stage.ahead <= start]
        fetch(begun, sym(early) + (start - furthest), False, prologue)
        prologue.add(Commit())
        block.add(
            For(early, const(0), const(stop - start), const(1), tuple(prologue.statements), "fill the pipeline", True)
        )
    _copy_first(through_registers, at_step, before_end, buffers, kernel, block)

    def slots_at(step: IntExpr) -> dict[str, IntExpr]:
        found = {stage.name: _slot(step, stage.depth) for stage in stages}
        return found | {stage.name: ring.slot(step) for ring in rings for stage in ring.stages}

    def with_tiles(wanted: Sequence[Stage], step: IntExpr, at: Scope) -> Scope:
        """The scope in which stages hold the tiles of a step."""
        slots = slots_at(step)
        for stage in wanted:
            dims, name = stage_dims(tile_form(stage), kernel), buffers[stage.name].name
            tile_here = StagedTile(dims, name, slots[stage.name], copies=stage.copies, part=stage.part)
            at = at.with_tile(tile_form(stage).read, tile_here)
        return at

    def zeroed(wanted: Sequence[Ring], step: IntExpr, at: Scope, into: Block) -> None:
        slots, boxed = slots_at(step), [stage for ring in wanted for stage in ring.boxes]
        zero_in_place([(stage, buffers[stage.name], slots[stage.name]) for stage in boxed], kernel, at, into)

    late = [ring for ring in rings if overlap is not None and ring.reading is Reading.LAG]
    prompt = [ring for ring in rings if ring not in late]
    shared = [ring for ring in rings if ring.empty]  # with the role that fills them

    def bring(step: IntExpr, inner: Block, waits: Block) -> Sequence[tuple[Stage, TileExpr]]:
        """Start the copies that a step starts, and wait for what it reads: in ``waits``, where a role may have fetched
        it."""
        for distance in distances_of_rings:
            fetch_rings(step + distance, distance, inner)
        waits.add(*(await_step(ring, step) for ring in prompt))
        if asynchronous and nearest:
            inner.add(Wait(nearest - 1))
        if asynchronous:
            fetch([stage for stage in asynchronous if stage.kept is None], step, True, inner)
            inner.add(Commit())
        if asynchronous and not nearest:
            inner.add(Wait(0))
        copied = [*asynchronous, *(stage for ring in prompt for stage in ring.copied)]
        if any(stage.multiplied for stage in copied):  # after the copies: Triton adds another one else
            waits.add(FenceAsync())
        loaded = []
        for distance in dict.fromkeys(stage.ahead for stage in through_registers):
            at = at_step(step + distance, (Copy.SYNC, distance), "next", inner)
            for stage in through_registers:
                if stage.ahead == distance:
                    value = copied_value(stage, kernel, at, before_end(stage, step + distance))
                    loaded.append((stage, assign(f"{stage.name}_next", value, kernel, inner, stage.schedule)))
        return loaded

    def begin(step: IntExpr, inner: Block) -> Scope:
        """The scope in which a step has all of its tiles."""
        at = with_tiles(stages, step, at_step(step, (None, 0), "0", inner))
        for loop in loops:
            at = at.with_fact(ge(loop.axis.extent, 1))
        zeroed(prompt, step, at, inner)
        return at

    def end(step: IntExpr, loaded: Sequence[tuple[Stage, TileExpr]], inner: Block) -> None:
        """Store what a step has loaded for later ones."""
        for stage, value in loaded:
            slot = _slot(step + stage.ahead, stage.depth)
            inner.add(StoreShared(buffers[stage.name].name, slot, value, origin=origin(stage.name, stage.schedule)))
        if any(stage.multiplied for stage, _ in loaded):
            inner.add(FenceAsync())

    def computed(at: Scope, inner: Block) -> None:
        since = len(kernel.taken)
        body(at.repeating(), inner)
        kernel.release(since, inner)

    def whole(step: IntExpr, inner: Block) -> None:
        loaded = bring(step, inner, inner)
        computed(begin(step, inner), inner)
        for ring in shared:  # products in flight still read the tiles of their steps
            lag = 0 if drain is None else drain.steps
            inner.add(*give_back(ring, step - lag, ge(step, lag) if lag else TRUE))
        end(step, loaded, inner)

    def overlapping(
        products: Overlap, step: IntExpr, first: bool, loaded: Sequence[tuple[Stage, TileExpr]], inner: Block
    ) -> None:
        """A step between the products that it starts and those that the step before has left."""
        at = begin(step, inner)
        products.lead(at, inner)
        if not first:
            lagging(products, step - 1, at, inner)
        products.await_leading(not first, inner)
        inner.add(*(one for ring in shared for one in give_back(ring, step) if ring.reading is Reading.LEAD))
        computed(at, inner)
        inner.add(*(one for ring in shared for one in give_back(ring, step) if ring.reading is Reading.STEP))
        inner.add(*(await_step(ring, step) for ring in late))
        if any(stage.multiplied for ring in late for stage in ring.copied):
            inner.add(FenceAsync())
        zeroed(late, step, at, inner)
        if not first:
            lagged(products, step - 1, inner)
        products.close(inner)
        end(step, loaded, inner)

    def lagging(products: Overlap, step: IntExpr, at: Scope, inner: Block) -> None:
        products.lag(with_tiles([stage for stage in stages if stage.reading.lags], step, at), inner)

    def lagged(products: Overlap, step: IntExpr, inner: Block) -> None:
        inner.add(DotWait(0, products.lagging))
        inner.add(*(one for ring in shared for one in give_back(ring, step) if ring.reading.lags))

    inner = Block()
    if overlap is None:
        whole(sym(counter), inner)
        block.add(For(counter, const(0), sym(count), const(1), tuple(inner.statements)))
    else:
        opening, ending = Block(), Block()
        overlapping(overlap, const(0), True, bring(const(0), block, opening), opening)
        overlapping(overlap, sym(counter), False, bring(sym(counter), inner, inner), inner)
        sizes = {loop.axis: AxisValue(const(0), loop.size, loop.full) for loop in loops}  # tiles lie as in any step
        lagging(overlap, sym(count) - 1, scope.with_axes(sizes), ending)
        lagged(overlap, sym(count) - 1, ending)
        some = tile.op(OpName.LT, tile.uniform(0), tile.uniform(sym(count)))
        block.add(If(some, tuple(opening.statements), "the first step has none before it"))
        block.add(For(counter, const(1), sym(count), const(1), tuple(inner.statements)))
        block.add(If(some, tuple(ending.statements), "what the last step has left"))
    if drain is not None:
        block.add(drain.wait)
    if furthest:
        block.add(Wait(0))
    elif drain is not None or (overlap is not None and len(shared) < len(rings)):
        block.add(Barrier("no warp reads the operands any more"))
    if drain is not None:
        for before in reversed(range(drain.steps)):
            last = sym(count) - 1 - before
            block.add(*(one for ring in shared for one in give_back(ring, last, ge(last, 0))))
    block.add(*(statement for ring in rings for statement in go_on(ring, sym(count))))


def _fetch(
    loops: Sequence[Steps], stages: Sequence[Stage], body: Body, kernel: Kernel, scope: Scope, block: Block
) -> None:
    """The pipeline of a role that fetches for another: the tiles of every step, as soon as there is room."""
    rings = rings_of(stages, kernel, scope)
    counter, count = kernel.name("step"), kernel.name("steps")
    block.add(Scalar(count, product(loop.count for loop in loops), _steps_note(loops)))
    buffers = {stage.name: stage_buffer(stage, kernel, scope, stage.depth) for stage in stages}
    held = indices_for(stages, kernel)
    masks = [loop.live for loop in loops if isinstance(loop.live, Mask)]
    cursors = {
        distance: {mask.axis: cursor_of(mask, kernel, block) for mask in masks}
        for distance in dict.fromkeys([0, *(stage.ahead for stage, _ in held)])
    }

    def at_step(step: IntExpr, distance: int, suffix: str, into: Block) -> Scope:
        inside = scope.with_axes(_positions(loops, step, cursors[distance], suffix, kernel, into))
        for loop in loops:
            inside = inside.with_holding(loop.holds)
        before_end = tile.op(OpName.LT, tile.uniform(step), tile.uniform(sym(count)))
        return inside.reading_only(before_end, frozenset(loop.axis for loop in loops)) if distance else inside

    indices = load_first(held, at_step, kernel, block)
    inner, step = Block(), sym(counter)
    scopes = {distance: at_step(step + distance, distance, "next" if distance else "0", inner) for distance in cursors}
    coming = load_next(indices, scopes, kernel, inner)
    at = with_indices(scopes[0], indices, coming)
    for loop in loops:
        at = at.with_fact(ge(loop.axis.extent, 1))
    for ring in rings:
        fetch_step(ring, buffers, step, kernel, at, inner)
    move_on(indices, coming, inner)
    body(at.repeating(), inner)
    block.add(For(counter, const(0), sym(count), const(1), tuple(inner.statements)))
    block.add(*(statement for ring in rings for statement in go_on(ring, sym(count))))


def _pass_by(
    loops: Sequence[Steps], stages: Sequence[Stage], body: Body, kernel: Kernel, scope: Scope, block: Block
) -> None:
    """The pipeline of a tile that another instance computes: its steps count as done."""
    rings = rings_of(stages, kernel, scope)
    counter, count = kernel.name("step"), kernel.name("steps")
    block.add(Scalar(count, product(loop.count for loop in loops), _steps_note(loops)))
    inside = Block()
    cursors: dict[Axis, Cursor] = {}
    at = scope.with_axes(_positions(loops, sym(counter), cursors, "0", kernel, inside))
    found = len(inside.statements)
    body(at.repeating(), inside)
    if len(inside.statements) > found:  # rings of loops inside of these
        block.add(For(counter, const(0), sym(count), const(1), tuple(inside.statements)))
    block.add(*(statement for ring in rings for statement in go_on(ring, sym(count))))


def _steps_note(loops: Sequence[Steps]) -> str:
    return f"steps of {' x '.join(loop.axis.name for loop in loops)}"


def _copy_first(
    stages: Sequence[Stage],
    at_step: Callable[[IntExpr, Walk, str, Block], Scope],
    before_end: Callable[[Stage, IntExpr], TileExpr | None],
    buffers: Mapping[str, Buffer],
    kernel: Kernel,
    block: Block,
) -> None:
    """Copy the steps that no earlier step loads: as many of every stage as it runs ahead."""
    for distance in dict.fromkeys(stage.ahead for stage in stages):
        for n in range(distance):
            at = at_step(const(n), (Copy.SYNC, distance), "first", block)
            for stage in stages:
                if stage.ahead == distance:
                    copy_into(stage, buffers[stage.name], const(n), kernel, at, block, before_end(stage, const(n)))
    if any(stage.multiplied for stage in stages):
        block.add(FenceAsync())


def _slot(step: IntExpr, depth: int) -> IntExpr:
    return step % depth if depth > 1 else const(0)


def _masked_by_loop(loops: Sequence[Steps], stage: Stage) -> bool:
    """Whether a copy's own mask already excludes steps past the end: one loop over all of its axis, not full, and the
    tile has lanes on that."""
    if len(loops) > 1 or loops[0].full or loops[0].trimmed or loops[0].reverse or loops[0].live:
        return False
    return any(axis is loops[0].axis for axis in axes_of(tile_form(stage).read))


def _positions(
    loops: Sequence[Steps],
    step: IntExpr,
    cursors: Mapping[Axis, Cursor],
    suffix: str,
    kernel: Kernel,
    block: Block,
) -> dict[Axis, AxisValue]:
    """Where every loop's axis stands at a step of the flattened loops: the last loop is the fastest. Cursors stand
    there and move on to the next step."""
    found: dict[Axis, AxisValue] = {}
    rest = step
    inside: IntExpr = const(1)
    for n, loop in reversed(list(enumerate(loops))):
        count = loop.count
        index = rest if n == 0 else rest % count
        rest = rest if n == 0 else rest // count
        name = kernel.name(f"{loop.axis.name}{'_' if suffix.isalpha() else ''}{suffix}")
        if isinstance(loop.live, Listed):
            loop.live.step_at(index, sym(name), block)
        elif loop.live is not None:
            cursor = cursors[loop.axis]
            step_at(cursor, sym(name), block)
            last = tile.op(OpName.EQ, tile.uniform(step % inside), tile.uniform(inside - 1))
            advance(cursor, None if inside == const(1) else last, n > 0, block)
        else:
            index = count - 1 - index if loop.reverse else index
            block.add(Scalar(name, loop.first + index * loop.by))
        inside = inside * count
        found[loop.axis] = AxisValue(sym(name), loop.size, loop.full, stop=loop.end)
    return found
