"""Second half of building: windows of funcs kept in shared memory, and stages put in front of the nodes that read
their tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from texpr.lang.ir import Axis, Expr, Func, Tensor
from texpr.math.expr import IntExpr, ceildiv
from texpr.plan import checks
from texpr.plan.copies import all_copied
from texpr.plan.errors import BadPosition, NotLowered, RegisterTileTooSmall, StageNotRead, StageTooDeep, WindowNotAffine
from texpr.plan.inline import axes_of, reads_of
from texpr.plan.ir import AxisTile, Compute, Group, LoopAxis, Node, Prefixes, Reduction, Stage, TileAxis, Window, Write
from texpr.plan.resolve import Context
from texpr.plan.staging import Access, Reach, stage_form, window_of, window_reach
from texpr.plan.zeroed import zeroed_by_copies
from texpr.schedule.places import Stage as StageRecord
from texpr.schedule.words import Copy, LoopOf, Memory, Position, Program, Tile

Owner = Reduction | Write | Group
"""Nodes that have loops and a body."""


def node_exprs(node: Node) -> tuple[Expr, ...]:
    """The expressions a node evaluates itself, those of its body excluded."""
    match node:
        case Compute(expr=expr):
            return (expr,)
        case Write(expr=expr, indices=indices, update=update):
            return (expr,) if update is None else (expr, *indices, *update.where)
        case Reduction(exprs=exprs, where=where, loops=loops, carried=carried, live=live):
            own = (*exprs, *([] if where is None else [where]), *(expr for loop in loops for expr in loop.tested))
            own = (*own, *live)
            return own if carried is None else (*own, *carried.between)
        case Prefixes(exprs=exprs, reset=reset):
            return exprs if reset is None else (*exprs, reset)
        case Stage(where=where):
            return where
        case Group():
            return ()


def computed_by(node: Node) -> frozenset[Func]:
    """The funcs whose values a node leaves to the nodes after it."""
    match node:
        case Reduction(funcs=funcs) | Prefixes(funcs=funcs):
            return frozenset(funcs)
        case Compute(func=func):
            return frozenset((func,))
        case Group(funcs=funcs):
            return frozenset(funcs)
        case Stage() | Write():
            return frozenset()


def node_body(node: Node) -> tuple[Node, ...]:
    """The nodes inside a node's loops."""
    match node:
        case Reduction(body=body) | Write(body=body) | Group(body=body):
            return body
        case Stage() | Compute() | Prefixes():
            return ()


def node_loops(node: Node) -> tuple[LoopAxis, ...]:
    """A node's own loops, outermost first."""
    match node:
        case Reduction(loops=loops) | Write(loops=loops) | Group(loops=loops):
            return loops
        case Stage() | Compute() | Prefixes():
            return ()


def node_names(node: Node) -> tuple[str, ...]:
    """The names by which a position may refer to a node."""
    match node:
        case Reduction(funcs=funcs) | Group(funcs=funcs) | Prefixes(funcs=funcs):
            return tuple(func.name for func in funcs)
        case Compute(func=func) | Write(func=func):
            return (func.name,)
        case Stage(source=source):
            return (source.name,)


def shared_windows(context: Context, nodes: Sequence[Node], tile: Sequence[TileAxis]) -> tuple[Node, ...]:
    """Give every func kept in shared memory its window: the box of points that later nodes read. The last one first,
    since what a window reads depends on how large it is."""
    return _windows(context, nodes, Reach(_tile_lanes(tile), {}), None)


def _windows(
    context: Context, nodes: Sequence[Node], reach: Reach, owner: Owner | None
) -> tuple[Node, ...]:
    """``nodes`` run in that order, inside of ``owner``'s loops and before its own expressions."""
    result: list[Node] = []
    for node in nodes:
        if isinstance(node, Owner) and node.body:
            node = dataclasses.replace(node, body=_windows(context, node.body, _below(node, reach), node))
        result.append(node)
    for n, node in reversed(list(enumerate(result))):
        if not isinstance(node, Compute) or node.memory is not Memory.SHARED:
            continue
        accesses = accesses_to(node.func.name, result[n + 1 :], reach)
        if owner is not None:
            accesses += [Access(r, reach) for e in node_exprs(owner) for r in reads_of(e) if r.source is node.func]
        if not accesses:
            continue  # its readers stand elsewhere, which the order of nodes refuses
        window = window_of(accesses, context.facts)
        if isinstance(window, str):
            raise WindowNotAffine(name=node.func.name, position="the tile", why=window, at=context.record.location)
        result[n] = dataclasses.replace(node, window=window)
    return tuple(result)


def _below(node: Owner, reach: Reach, below: Sequence[LoopAxis] = ()) -> Reach:
    """The reach inside of a node's loops but for those ``below``: these and all that are unrolled run inside of it."""
    inside = {loop.axis: _steps(loop) for loop in node.loops if loop.unrolled or loop in below}
    lanes = {**reach.lanes, **{loop.axis: loop.size for loop in node.loops}}
    own = {axis: size for axis, size in lanes.items() if axis not in inside}
    return dataclasses.replace(reach, lanes=own, inner={**reach.inner, **inside})


def outer_stages(loops: Sequence[LoopAxis], nodes: Sequence[Node]) -> dict[Axis, tuple[Stage, ...]]:
    """The stages among a node's ``nodes`` that stand in an outer one of its ``loops``, by that loop's axis, outermost
    first. All other nodes stand in the innermost loop that is not unrolled."""
    found: dict[Axis, tuple[Stage, ...]] = {}
    for loop in [loop for loop in loops if not loop.unrolled][:-1]:
        here = [node for node in nodes if isinstance(node, Stage) and _stands_in(node.position, loop)]
        if here:
            found[loop.axis] = tuple(here)
    return found


def _stands_in(position: Position, loop: LoopAxis) -> bool:
    return isinstance(position, LoopOf) and position.axis == loop.axis.name


def accesses_to(name: str, nodes: Sequence[Node], reach: Reach) -> list[Access]:
    """Every read of ``name`` in nodes and below them, with the reach its axes have there."""
    found: list[Access] = []
    for node in nodes:
        loops = {loop.axis: _steps(loop) for loop in node_loops(node)}
        local = dataclasses.replace(reach, inner={**reach.inner, **loops})
        if isinstance(node, Compute) and node.window is not None:
            local = window_reach(node.axes, node.window, local)
        found += [Access(read, local) for e in node_exprs(node) for read in reads_of(e) if read.source.name == name]
        found += accesses_to(name, node_body(node), local)
    return found


def attach_stages(
    context: Context, prologue: tuple[Node, ...], body: tuple[Node, ...], tile: Sequence[TileAxis]
) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Put every staged tensor, or func that an earlier kernel has stored, in front of the nodes that read it at the
    stage's position: (prologue, body)."""
    tensors: dict[str, Tensor | Func] = {p.name: p for p in context.algorithm.params if isinstance(p, Tensor)}
    tensors |= {func.name: func for func in context.stored}
    lanes = _tile_lanes(tile)
    for name, record in context.record.stage.items():
        tensor = tensors.get(name)
        if tensor is None:
            raise NotLowered(
                what=f"stage of {name}, which no earlier kernel stores",
                instead="place it in shared memory",
                at=record.location,
            )
        match record.at:
            case Program():
                stage = _whole_stage(context, tensor, record, (*prologue, *body), lanes)
                checks.check_once(context, (stage,), tile)
                prologue = (stage, *prologue)
            case Tile():
                stage, body = zeroed_by_copies(_whole_stage(context, tensor, record, body, lanes), body, lanes)
                body = (stage, *body)
            case LoopOf(func=func, axis=axis):
                body = _loop_stage(context, body, func, axis, tensor, record, lanes)
    return prologue, body


def _whole_stage(
    context: Context, tensor: Tensor | Func, record: StageRecord, nodes: Sequence[Node], lanes: Mapping[Axis, int]
) -> Stage:
    accesses = accesses_to(tensor.name, nodes, Reach(lanes, {}))
    if not accesses:
        raise _not_read(context, tensor, record, nodes)
    return _stage(context, tensor, record, accesses)


def _loop_stage(
    context: Context,
    nodes: tuple[Node, ...],
    func: str,
    axis: str,
    tensor: Tensor | Func,
    record: StageRecord,
    lanes: Mapping[Axis, int],
) -> tuple[Node, ...]:
    replaced, found = _in_loop(context, nodes, func, axis, tensor, record, lanes, {})
    if not found:
        raise BadPosition(
            position=str(record.at),
            name=tensor.name,
            why=f"kernel {context.record.name} has no such loop",
            choices=", ".join(_positions(nodes)),
            at=record.location_of("at"),
        )
    return replaced


def _in_loop(
    context: Context,
    nodes: tuple[Node, ...],
    func: str,
    axis: str,
    tensor: Tensor | Func,
    record: StageRecord,
    lanes: Mapping[Axis, int],
    inner: Mapping[Axis, IntExpr],
) -> tuple[tuple[Node, ...], bool]:
    result: list[Node] = []
    found = False
    for node in nodes:
        loops = node_loops(node)
        here = {**lanes, **{loop.axis: loop.size for loop in loops}}
        if isinstance(node, Owner) and loops:
            if func in node_names(node) and any(loop.axis.name == axis for loop in loops):
                node = _into_body(context, node, axis, tensor, record, here)
                found = True
            else:
                body, inside = _in_loop(context, node.body, func, axis, tensor, record, here, inner)
                if inside:
                    node = dataclasses.replace(node, body=body)
                    found = True
        result.append(node)
    return tuple(result), found


def _into_body(
    context: Context,
    node: Owner,
    axis: str,
    tensor: Tensor | Func,
    record: StageRecord,
    lanes: Mapping[Axis, int],
) -> Owner:
    dynamic = [loop for loop in node.loops if not loop.unrolled]
    names = [loop.axis.name for loop in dynamic]
    if dynamic and axis not in names:
        raise BadPosition(
            position=str(record.at),
            name=tensor.name,
            why="unrolled loops run inside of the others, after the stages",
            choices=", ".join(f"{node_names(node)[0]}.{name}" for name in names),
            at=record.location_of("at"),
        )
    if not dynamic and (record.depth > 1 or checks.stage_ahead(record)):
        at = record.location_of("depth") or record.location
        raise StageTooDeep(name=tensor.name, depth=record.depth, ahead=checks.stage_ahead(record), most=0, at=at)
    below = dynamic[names.index(axis) + 1 :] if dynamic else []
    reach = _below(node, Reach(lanes, {}), below)
    own = [Access(read, reach) for e in node_exprs(node) for read in reads_of(e) if read.source.name == tensor.name]
    accesses = [*own, *accesses_to(tensor.name, node.body, reach)]
    if not accesses:
        raise _not_read(context, tensor, record, (node,))
    inside = {loop.axis for loop in node.loops if loop.unrolled or loop in below}
    here = {axis: size for axis, size in lanes.items() if axis not in inside}
    stage, (owner,) = zeroed_by_copies(_stage(context, tensor, record, accesses), (node,), here)
    assert isinstance(owner, Owner)
    if record.keep:
        loop = next(loop for loop in node.loops if loop.axis.name == axis)
        stage = dataclasses.replace(stage, kept=(loop.axis, loop.size), ahead=stage.depth)
    return dataclasses.replace(owner, body=(stage, *owner.body))


def _stage(context: Context, tensor: Tensor | Func, record: StageRecord, accesses: Sequence[Access]) -> Stage:
    form = stage_form(accesses, context.facts)
    if record.where is Memory.SHARED and isinstance(form, AxisTile) and not form.axes:
        form = window_of(accesses, context.facts)  # one point: a tile without axes has no buffer
    if isinstance(form, str):
        raise WindowNotAffine(name=tensor.name, position=str(record.at), why=form, at=record.location)
    if record.where is Memory.REGISTERS and not isinstance(form, AxisTile):
        raise RegisterTileTooSmall(name=tensor.name, why="its reads overlap", at=record.location)
    checks.check_stage(context, tensor, record, form)
    copies = _copies(context, tensor, record, form, accesses)
    at = record.location
    return Stage(
        tensor,
        record.at,
        record.where,
        form,
        record.copy,
        record.depth,
        checks.stage_ahead(record),
        tuple(access.read for access in accesses),
        tuple(record.by.items()),
        "" if at is None else f"{Path(at.file).name}:{at.line}",
        copies,
    )


def _copies(
    context: Context, tensor: Tensor | Func, record: StageRecord, form: AxisTile | Window, accesses: Sequence[Access]
) -> tuple[Axis, ...]:
    """The unrolled kept axes along which the readers want different tiles."""
    mentioned = {axis for access in accesses for axis in axes_of(access.read)}
    copies = tuple(sorted(mentioned & all_copied(context), key=lambda axis: axis.name))
    plain = record.where is Memory.SHARED and isinstance(form, AxisTile)
    if copies and not (plain and (record.copy is not Copy.SYNC or not checks.stage_ahead(record))):
        raise NotLowered(
            what=f"stage of {tensor.name}, whose readers are unrolled along {', '.join(a.name for a in copies)},",
            instead="in: shared, with copy: async or tma, or without ahead",
            at=record.location,
        )
    return copies


def _steps(loop: LoopAxis) -> IntExpr:
    """How far a loop moves its axis: whole steps, whose dead lanes read as well."""
    return ceildiv(loop.axis.extent, loop.size) * loop.size


def _every(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _every(node_body(node))


def _tile_lanes(tile: Sequence[TileAxis]) -> dict[Axis, int]:
    return {t.axis: t.size for t in tile}


def _positions(nodes: Sequence[Node]) -> list[str]:
    found = ["tile"]
    for node in _every(nodes):
        found += [f"{node_names(node)[0]}.{loop.axis.name}" for loop in node_loops(node)]
    return found


def _not_read(context: Context, tensor: Tensor | Func, record: StageRecord, nodes: Sequence[Node]) -> StageNotRead:
    readers = [
        f"{node_names(node)[0]}.{node_loops(node)[-1].axis.name}" if node_loops(node) else "tile"
        for node in _every(nodes)
        if any(read.source is tensor for e in node_exprs(node) for read in reads_of(e))
    ]
    choices = ", ".join(dict.fromkeys(readers)) or "nowhere in this kernel"
    return StageNotRead(
        name=tensor.name,
        position=str(record.at),
        choices=choices,
        at=record.location_of("at") or context.record.location,
    )
