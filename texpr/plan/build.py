"""Building the loop tree: a kernel record is applied to the algorithm, one named step after the other.

Order: names are resolved, tiles cut, funcs that the schedule does not keep are inlined, every kept func becomes a
node at its position, then stages are attached where their tensors are read, and the budget checks run over the
finished tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from texpr.errors import Location
from texpr.lang.ir import Algorithm, Axis, AxisRef, Def, Expr, Func, Ranking, Reduce, Scan
from texpr.math.integer import product
from texpr.plan import boxes, checks, legality, ragged, updates
from texpr.plan.attach import attach_stages, computed_by, shared_windows
from texpr.plan.clusters import check_cluster, check_cluster_axes
from texpr.plan.consumers import check_consumers, computed_sizes
from texpr.plan.copies import check_unrolled, copied_axes
from texpr.plan.counts import device_counts
from texpr.plan.cursors import with_cursors
from texpr.plan.divided import check_divided, with_divided_stages
from texpr.plan.errors import (
    AxisCoveredTwice,
    AxisNotCovered,
    LoopAxisInvalid,
    NotLowered,
    NotWritten,
    UnknownAxis,
    UnrollNotConstant,
    WrittenTwice,
    near,
)
from texpr.plan.excerpt import in_kernel, in_variant
from texpr.plan.extern import check_externs, plan_extern, stored_by_others
from texpr.plan.flatten import steps_in_turn
from texpr.plan.groups import GroupPlan, gathered, in_order, plan_groups, with_members
from texpr.plan.guards import trimmed
from texpr.plan.inline import inline, plain_read
from texpr.plan.into import continue_accumulators
from texpr.plan.invert import inverted
from texpr.plan.ir import (
    Compute,
    Cover,
    KernelPlan,
    LoopAxis,
    Node,
    Persistence,
    Reduction,
    TileAxis,
    VariantPlan,
    Write,
)
from texpr.plan.kept import check_kept
from texpr.plan.leaders import leaders_of
from texpr.plan.lookback import order_of, scratch_of
from texpr.plan.mentions import check_mentions
from texpr.plan.overlap import with_overlap
from texpr.plan.pieces import check_pieces, in_pieces
from texpr.plan.positions import depth_of, in_loop_of, in_store_of, sizes_at
from texpr.plan.ranking import check_ranking
from texpr.plan.recut import recut
from texpr.plan.registers import check_register_budget
from texpr.plan.resolve import (
    Context,
    axes_in_play,
    constant,
    full_tiles,
    func_named,
    funcs_read,
    held_by,
    needed_definitions,
    variant_facts,
    written_out,
)
from texpr.plan.resolved import DEFAULT_WARPS
from texpr.plan.roles import compute_warps, roles_of
from texpr.plan.scan_split import with_partials
from texpr.plan.scans import Carried, carried_loop, check_scans, is_carried, position_in, prefixes_node
from texpr.plan.shares import check_shares, is_shared, program_axes, programs_of
from texpr.plan.skip import check_tested_steps, skipping
from texpr.plan.tile_trim import check_trimmed_tiles, live_parts
from texpr.plan.turnstile import check_parts_of_grid, turnstile_of
from texpr.plan.units import dot_again, dot_of
from texpr.plan.warpgroups import with_warpgroups
from texpr.plan.workspace import fills_of, lives_of, shared_slots, zeroed
from texpr.schedule.like import written_out_kernels
from texpr.schedule.places import Place
from texpr.schedule.records import Variant
from texpr.schedule.words import LoopOf, Memory, Position, Program, Tile
from texpr.targets import Target


def plan_variant(algorithm: Algorithm, variant: Variant, target: Target) -> VariantPlan:
    """The loop trees of all kernels of ``variant`` on ``target``. Raises ``PlanError`` subclasses (TX03xx, TX04xx)."""
    with in_variant(variant, target):
        return _planned(algorithm, variant, target)


def _planned(algorithm: Algorithm, variant: Variant, target: Target) -> VariantPlan:
    check_mentions(algorithm, variant)
    variant = written_out_kernels(variant)
    check_externs(algorithm, variant)
    algorithm = with_partials(algorithm, variant)
    facts = variant_facts(algorithm, variant, target)
    writer: dict[Func, str] = {}
    for record in variant.kernels:
        for name in record.writes:
            func = func_named(algorithm, name, "writes", record.location_of("writes"))
            if func in writer:
                raise WrittenTwice(name=name, first=writer[func], second=record.name, at=record.location_of("writes"))
            writer[func] = record.name
    for tensor in algorithm.outputs:
        if not any(func.output is tensor for func in writer):
            raise NotWritten(name=tensor.name, at=variant.location)
    stored: set[Func] = set()
    kernels: list[KernelPlan] = []
    reads: list[set[Func]] = []
    for record in variant.kernels:
        with in_kernel(record, variant, target):
            legality.check_start(record, target)
            written = [func_named(algorithm, name, "writes", record.location) for name in record.writes]
            if record.extern is not None:
                kernels.append(plan_extern(algorithm, variant, record, record.extern, target, stored, written))
                reads.append(stored_by_others(kernels[-1]))
                stored.update(written)
                continue
            rows, record = with_cursors(algorithm, record)
            cut = recut(rows, record, frozenset(stored), facts, variant.when)
            before = [cut.funcs.get(func, func) for func in written]
            cut, updated = inverted(cut, record, variant, before)
            writes = tuple(cut.funcs.get(func, func) for func in written)
            later = {cut.funcs.get(func, func): name for func, name in writer.items() if func not in stored}
            needed = needed_definitions(cut.algorithm, writes, frozenset(stored), later, record)
            context = Context(
                cut.algorithm,
                variant,
                record,
                target,
                facts,
                frozenset(stored),
                writes,
                needed,
                axes_in_play(needed),
                {new: old for old, new in cut.funcs.items()},
                cut.indices,
                updated,
            )
            kernels.append(plan_kernel(context))
            read = [func for definition in needed for func in funcs_read(definition)]
            reads.append({context.originals.get(func, func) for func in read})
        stored.update(written)
    legality.check_overwritten(kernels)
    workspace = shared_slots(lives_of(kernels, writer, reads))
    fixed = not any(updates.depends_on_order(kernel) for kernel in kernels)
    return VariantPlan(variant.name, target, variant.when, tuple(kernels), workspace, algorithm.defs, fixed)


def plan_kernel(context: Context) -> KernelPlan:
    """The loop tree of one kernel."""
    context = with_members(context)
    checks.check_names(context)
    checks.check_lowered(context)
    check_unrolled(context)
    legality.check_axis_names(context)
    counts = device_counts(context)
    legality.check_positions(context)
    check_cluster_axes(context)
    tile = _cut_tiles(context)
    check_consumers(context.record, tile)
    check_shares(context, tile)
    check_parts_of_grid(context, tile)
    checks.check_replication(context, tile)
    held = held_by(context.needed, context.record, context.writes)
    legality.check_places(context, held, tile)
    legality.check_reduced_axes(context, held, tile)
    check_scans(context, tile)
    kept = frozenset(func for definition in context.needed for func in definition.funcs if held(func))
    prologue, body, epilogue = _nodes(context, tile, kept)
    warps = compute_warps(context.record) or DEFAULT_WARPS
    turnstile = turnstile_of(context, body, tile)
    zeroes = scratch_of(context) if turnstile is None else (turnstile.words,)
    scratch = zeroes if turnstile is None else (turnstile.words, *turnstile.states)
    plan = KernelPlan(
        context.record.name,
        context.variant.name,
        context.target,
        context.record,
        tile,
        order_of(context),
        _persistence(context, tile),
        warps,
        prologue,
        body,
        context.writes,
        (
            *fills_of(context.record, [context.originals.get(f, f) for f in context.writes], ()),
            *(zeroed(buffer) for buffer in zeroes),
        ),
        scratch,
        epilogue=epilogue,
        counts=counts,
        cluster=tuple((t.axis, t.programs) for t in tile if t.programs > 1),
        turnstile=turnstile,
    )
    check_divided(context, plan)
    legality.check_order_of_nodes(context, plan)
    check_tested_steps(context, plan)
    check_trimmed_tiles(context, plan)
    legality.check_windows_of_registers(context, plan)
    legality.check_fills(context, plan)
    updates.check_updates(context, plan)
    legality.check_window_pieces(context, plan)
    legality.check_map(context, plan)
    legality.check_stages_have_effect(context, plan)
    legality.check_aliases(context, plan)
    checks.check_alignment_of_reads(context, plan)
    plan = in_pieces(with_warpgroups(context, plan))
    check_pieces(context, plan)
    check_kept(context, plan)
    boxes.check_boxes(context, plan)
    boxes.check_boxed_stores(context, plan)
    checks.check_register_tiles(context, plan)
    checks.check_shared_budget(context, plan)
    plan = dataclasses.replace(plan, roles=roles_of(context, plan))
    plan = with_overlap(context, plan)
    check_cluster(context, plan)
    check_register_budget(context, plan)
    return with_divided_stages(plan)


# ---- tiles ----------------------------------------------------------------------------------------------------------


def _cut_tiles(context: Context) -> tuple[TileAxis, ...]:
    record = context.record
    tiles: list[TileAxis] = []
    for name in record.reorder:
        if name not in record.grid:
            raise UnknownAxis(
                directive="reorder",
                name=name,
                owner="the grid",
                near=near(name, record.grid),
                at=record.location_of("reorder"),
            )
    for cover, sizes in ((Cover.GRID, record.grid), (Cover.WHOLE, record.whole)):
        for name, size in sizes.items():
            axis = context.axis(name, cover.value, sizes.location_of(name))
            if any(tile.axis is axis for tile in tiles):
                raise AxisCoveredTwice(axis=name, first="grid", second="whole", at=sizes.location_of(name))
            if cover is Cover.WHOLE:
                checks.check_whole(context, axis, size)
            if cover is Cover.GRID and ragged.knows_its_group(context, axis):
                tiles += ragged.grouped_tiles(context, axis, size, tiles)
                continue
            each = record.cluster.get(name, 1)
            full, missing = full_tiles(axis, size * each, context, whole=cover is Cover.WHOLE)
            tiles.append(TileAxis(axis, size, cover, full, missing, programs=each))
    tiles += program_axes(context)
    order = {name: n for n, name in enumerate(record.reorder)}
    return tuple(sorted(tiles, key=lambda t: order.get(t.axis.name, -1)))


def _persistence(context: Context, tile: Sequence[TileAxis]) -> Persistence | None:
    record = context.record.persistent
    if record is None:
        return None
    tiles = steps_in_turn(context, product(t.count for t in tile if t.cover is Cover.GRID))
    return Persistence(programs_of(context.record, tiles, context.algorithm.statics))


# ---- nodes ----------------------------------------------------------------------------------------------------------


def _nodes(
    context: Context, tile: tuple[TileAxis, ...], held: frozenset[Func]
) -> tuple[tuple[Node, ...], tuple[Node, ...], tuple[Node, ...]]:
    """What runs once per program, the body of a tile, and what comes after the last one: kept funcs at their positions
    in definition order, then the writes, stages before readers."""
    sizes = computed_sizes(context.record, tile)
    groups = plan_groups(context, held)
    carried = carried_loop(context)
    pending: list[tuple[Def, Place, Position]] = []
    for definition in context.needed:
        if not any(func in held for func in definition.funcs):
            continue
        place = next(
            (context.record.place[f.name] for f in definition.funcs if f.name in context.record.place), Place()
        )
        position = Tile() if place.at is None or is_shared(definition) else place.at
        if carried is not None and is_carried(context, definition):
            position = position_in(carried)
        pending.append((definition, place, position))

    # Innermost first: a reduction's body must be complete before the reduction itself is built.
    leaders = leaders_of(context, carried)
    stores = {f.name: _write_loops(context, f, sizes, carried) for f in context.writes if f not in leaders}
    own = {d.name: _loops(context, d, p, sizes) for d, p, _ in pending if not isinstance(d.top, Scan)}
    loops_of = {**stores, **own}
    order = sorted(range(len(pending)), key=lambda n: (-depth_of(pending[n][2], pending, context), n))
    built: dict[int, Node] = {}
    for n in order:
        definition, place, position = pending[n]
        local = sizes_at(position, sizes, loops_of, context)
        body = tuple(built[m] for m in range(len(pending)) if m in built and in_loop_of(pending[m][2], definition))
        owner = next((group for group in groups if group.owns(definition)), None)
        inlined = owner.inlined if owner is not None else frozenset()
        beside = owner.inside if owner is not None and definition in owner.definitions else frozenset()
        loops = loops_of.get(definition.name, ())
        built[n] = _node(context, definition, place, local, loops, body, held - inlined, beside)
    first = [built[n] for n in range(len(pending)) if isinstance(pending[n][2], Program)]
    at_tile = _at_tile(context, pending, built, groups, held, sizes)
    writes: list[Write] = []
    last: list[Write] = []
    for func in context.writes:
        if func in leaders:
            continue
        inner = [built[n] for n in range(len(pending)) if in_store_of(pending[n][2], func, context)]
        around = {**sizes, **{loop.axis: loop.size for loop in stores[func.name]}}
        followers = [f for f, leader in leaders.items() if leader is func]
        inner += [_write(context, f, around, _write_loops(context, f, around), (), held) for f in followers]
        when = last if is_shared(context.algorithm.definition(func)) else writes
        when.append(_write(context, func, sizes, stores[func.name], tuple(inner), held))
    nodes = continue_accumulators(context, (*first, *at_tile, *writes))
    prologue, body = nodes[: len(first)], nodes[len(first) :]
    checks.check_once(context, prologue, tile)
    prologue, body = shared_windows(context, prologue, tile), shared_windows(context, body, tile)
    return (*attach_stages(context, prologue, body, tile), tuple(last))


def _at_tile(
    context: Context,
    pending: Sequence[tuple[Def, Place, Position]],
    built: Mapping[int, Node],
    groups: Sequence[GroupPlan],
    held: frozenset[Func],
    sizes: Mapping[Axis, int],
) -> list[Node]:
    """The nodes of the tile in order, members of groups gathered into one."""
    number = {id(definition): n for n, (definition, _, _) in enumerate(pending)}
    nodes: list[Node] = []
    for item in in_order(groups, [d for d, _, position in pending if isinstance(position, Tile)], context):
        if isinstance(item, Def):
            nodes.append(built[number[id(item)]])
            continue
        names = {func.name for definition in item.definitions for func in definition.funcs}
        inner = [
            built[n]
            for n, (definition, _, position) in enumerate(pending)
            if definition in item.definitions or (isinstance(position, LoopOf) and position.func in names)
        ]
        kept = ((held | context.stored) - item.inlined) | item.counters
        loops = next(node.loops for node in inner if isinstance(node, Reduction) and node.loops)
        local = {**sizes, **{loop.axis: loop.size for loop in loops}}
        nodes.append(gathered(context, item, inner, kept.__contains__, partial(dot_again, context, local)))
    return nodes


def _loops(context: Context, definition: Def, place: Place, sizes: Mapping[Axis, int]) -> tuple[LoopAxis, ...]:
    """The loops of a kept func: those of a reduction over its reduced axes."""
    name = definition.name
    if not isinstance(definition.top, Reduce) or written_out(definition, context.record):
        return _write_loops(context, definition.funcs[0], sizes) if definition.funcs[0] in context.writes else ()
    reduced = {axis.name: axis for axis in definition.top.axes}
    loops: list[LoopAxis] = []
    for axis_name, size in place.loop.items():
        at = place.loop.location_of(axis_name)
        axis = reduced.get(axis_name)
        if axis is None:
            raise LoopAxisInvalid(
                func=name, axis=axis_name, why="it does not reduce over it", choices=", ".join(reduced), at=at
            )
        if axis in sizes:
            first = "grid" if axis_name in context.record.grid else "whole"
            raise AxisCoveredTwice(axis=axis_name, first=first, second=f"the loop of {name}", at=at)
        at_hand = {*sizes, *(loop.axis for loop in loops)}
        loops.append(_loop_axis(context, axis, size, place, at_hand))
    ragged.check_bases(context, name, place, loops)
    covered = {loop.axis for loop in loops} | set(sizes)
    for axis in definition.top.axes:
        if axis not in covered:
            loop = f"place: {{{name}: {{loop: {{{axis.name}: 64}}}}}}"
            hint = f"{loop}, or whole: {{{axis.name}: N}} where a when-guard bounds it"
            raise AxisNotCovered(axis=axis.name, func=name, at=place.location or context.record.location, hint=hint)
    return tuple(loops)


def _write_loops(
    context: Context, func: Func, sizes: Mapping[Axis, int], carried: Carried | None = None
) -> tuple[LoopAxis, ...]:
    """The loops of a written func: over its own axes that the tile does not hold."""
    place = context.record.place.get(func.name, Place())
    own = {axis.name: axis for axis in context.algorithm.definition(func).axes}
    loops = []
    if not isinstance(context.algorithm.definition(func).top, Reduce):
        for axis_name, size in place.loop.items():
            at = place.loop.location_of(axis_name)
            axis = own.get(axis_name)
            if axis is None:
                raise LoopAxisInvalid(
                    func=func.name, axis=axis_name, why="it is not one of its axes", choices=", ".join(own), at=at
                )
            if axis in sizes:
                raise AxisCoveredTwice(axis=axis_name, first="the tile", second=f"the loop of {func.name}", at=at)
            loops.append(_loop_axis(context, axis, size, place, set(sizes)))
    if carried is not None and carried.axis in own.values():
        full, missing = full_tiles(carried.axis, carried.size, context, whole=False)
        loops.append(LoopAxis(carried.axis, carried.size, full, False, missing, reverse=carried.reverse))
    covered = {loop.axis for loop in loops} | set(sizes)
    for axis in own.values():
        if axis not in covered:
            raise AxisNotCovered(axis=axis.name, func=func.name, at=context.record.location)
    ragged.check_one_group(context, func, loops, sizes)
    return tuple(loops)


def _loop_axis(context: Context, axis: Axis, size: int, place: Place, at_hand: Collection[Axis]) -> LoopAxis:
    unrolled = axis.name in place.unroll
    if unrolled and constant(axis.extent) is None:
        raise UnrollNotConstant(axis=axis.name, extent=axis.extent, at=place.location_of("unroll"))
    base = ragged.base_of(context, axis, place, at_hand)
    if base is not None:
        return LoopAxis(axis, size, False, False, f"groups of {axis.name} of multiples of {size}", base=base)
    full, missing = full_tiles(axis, size, context, whole=False)
    return LoopAxis(axis, size, full, unrolled, missing)


def _node(
    context: Context,
    definition: Def,
    place: Place,
    sizes: Mapping[Axis, int],
    loops: tuple[LoopAxis, ...],
    body: tuple[Node, ...],
    held: frozenset[Func],
    beside: frozenset[Func],
) -> Node:
    origin_line = _schedule_line(place.location)
    top = definition.top

    def keep(func: Func) -> bool:
        return func in held or func in context.stored

    if isinstance(top, Scan):
        return prefixes_node(context, definition, place, sizes, keep, origin_line)
    if not isinstance(top, Reduce) or written_out(definition, context.record):
        if len(definition.funcs) > 1:
            raise NotLowered(
                what=f"the tuple definition of {definition.name}", instead="one definition each", at=place.location
            )
        func = definition.funcs[0]
        expr = inline(context.body_of(func)[1], keep, context.body_of)
        memory = place.where or Memory.REGISTERS
        checks.check_visible(
            context, func.name, (expr,), sizes, place, definition.axes if memory is Memory.SHARED else ()
        )
        return Compute(func, definition.axes, expr, memory, None, tuple(place.by.items()), origin_line)

    if place.where is Memory.SHARED:
        raise NotLowered(
            what=f"in: shared of {definition.name}, a reduction over more points than are written out",
            instead="registers",
            at=place.location_of("in"),
        )
    checks.check_commutative(context, definition, top, place)
    exprs = tuple(inline(e, keep, context.body_of) for e in top.exprs)
    where = None if top.where is None else inline(top.where, keep, context.body_of)
    copies = copied_axes(definition, place)
    local = {**sizes, **{loop.axis: loop.size for loop in loops}, **dict.fromkeys(copies, 1)}
    where = ragged.without_bounds(where, loops, {**sizes, **{loop.axis: loop.size for loop in loops}})
    checks.check_visible(context, definition.name, exprs if where is None else (*exprs, where), local, place, ())
    inside = beside.union(func for node in body for func in computed_by(node))
    live = live_parts(context, definition, where, loops, place, inside)
    loops, where = trimmed(definition.name, where, loops, local, place, inside)
    loops, where = skipping(context, definition.name, where, loops, local, place, inside)
    for axis in definition.axes:
        if axis not in local:
            raise AxisNotCovered(axis=axis.name, func=definition.name, at=place.location or context.record.location)
    kept = definition.axes
    if isinstance(top.op, Ranking):
        at = place.location or context.record.location
        check_ranking(definition, top, top.op, local, loops, context.record.whole, at)
        kept = tuple(axis for axis in kept if axis is not top.op.into)
    dot = None if is_shared(definition) else dot_of(context, definition, top, exprs, where, local, place)
    if copies and dot is None:
        names = ", ".join(axis.name for axis in copies)
        raise NotLowered(
            what=f"unroll of {names} of {definition.name}, which is no contraction on a matrix unit,",
            instead=f"{names} in grid or whole",
            at=place.location_of("unroll"),
        )
    return Reduction(
        funcs=definition.funcs,
        keep=kept,
        axes=top.axes,
        op=top.op,
        exprs=exprs,
        where=where,
        loops=loops,
        body=body,
        dot=dot,
        schedule=origin_line,
        copies=copies,
        through_tiles=is_shared(definition),
        live=live,
    )


def _write(
    context: Context,
    func: Func,
    sizes: Mapping[Axis, int],
    loops: tuple[LoopAxis, ...],
    body: tuple[Node, ...],
    held: frozenset[Func],
) -> Write:
    definition = context.algorithm.definition(func)
    place = context.record.place.get(func.name, Place())

    def keep(other: Func) -> bool:
        return other in held or other in context.stored

    if keep(func):
        expr: Expr = plain_read(func, definition.axes)
    else:
        expr = inline(context.body_of(func)[1], keep, context.body_of)
    update = context.updates.get(func)
    if update is not None:
        conditions = tuple(inline(part, keep, context.body_of) for part in update.where)
        elements = tuple((axis, inline(index, keep, context.body_of)) for axis, index in update.elements)
        update = dataclasses.replace(update, where=conditions, elements=elements)
    indices = context.store_indices.get(func) or tuple(AxisRef(axis) for axis in definition.axes)
    indices = tuple(inline(index, keep, context.body_of) for index in indices)
    local = {**sizes, **{loop.axis: loop.size for loop in loops}}
    checks.check_visible(context, func.name, (expr,), local, place, ())
    chunk = tuple(place.by.items())
    for name, _ in chunk:
        context.axis(name, f"by of {func.name}", place.by.location_of(name))
    return Write(
        context.originals.get(func, func),
        definition.axes,
        indices,
        expr,
        loops,
        body,
        chunk,
        place.via is Memory.SHARED,
        _schedule_line(place.location or context.record.location),
        update,
        place.copy,
        place.depth,
    )


def _schedule_line(location: Location | None) -> str:
    return "" if location is None else f"{Path(location.file).name}:{location.line}"
