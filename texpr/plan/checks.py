"""Legality: every rule a schedule must satisfy is one function here. Each raises one error class, or returns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from texpr.contracts import ContractKind
from texpr.lang.ir import Axis, AxisRef, Const, Def, Expr, Func, Monoid, Read, Reduce, Tensor, children
from texpr.lang.show import expr_text
from texpr.math.expr import free_symbols, le
from texpr.math.prove import Proved, Refuted, Unknown, prove
from texpr.plan.access import fastest_axis, memory_of, vector_of
from texpr.plan.consumers import computed_sizes, instances
from texpr.plan.copies import count_of
from texpr.plan.errors import (
    AsyncNeedsTensor,
    AsyncTooNarrow,
    BadPosition,
    DependsOnLoop,
    NeedsFinite,
    NeverComputed,
    NotAligned,
    NotLowered,
    RankTooHigh,
    RegistersOverLimit,
    ReplicatedWrite,
    SharedOverLimit,
    StageTooDeep,
    TooManyWarps,
    UnknownFunc,
    WholeNotProved,
    near,
)
from texpr.plan.inline import reads_of
from texpr.plan.ir import (
    AxisTile,
    Compute,
    Cover,
    Dot,
    Group,
    KernelPlan,
    Node,
    Prefixes,
    Reduction,
    Stage,
    TileAxis,
    Unit,
    Update,
    Window,
    Write,
)
from texpr.plan.monoids import EXPANDED_POINTS
from texpr.plan.parts import is_in_turns, part_axis
from texpr.plan.private import copy_points
from texpr.plan.ragged import covers_groups
from texpr.plan.resolve import Context, constant, mentioned
from texpr.schedule.places import Place
from texpr.schedule.places import Stage as StageRecord
from texpr.schedule.words import Copy, LoopOf, Memory

_OPERAND_FILES = 4  # what the assembler sinks and reloads of the operands that are ready in a step
_TILE_LIMIT = 1 << 20  # elements; Triton's own limit on tensors
_MOST_INDICES = 8  # steps for which a role that gathers may hold indices in registers
_ASYNC_BYTES = 4  # PTX ISA, cp.async: cp-size is 4, 8 or 16


def check_names(context: Context) -> None:
    """Every func that ``place`` names exists and is computed by this kernel."""
    known = {func.name: func for definition in context.algorithm.defs for func in definition.funcs}
    needed = {func for definition in context.needed for func in definition.funcs}
    tensors = {param.name for param in context.algorithm.params if isinstance(param, Tensor)}
    for name, place in context.record.place.items():
        at = place.location or context.record.place.location_of(name)
        if name not in known:
            raise UnknownFunc(
                directive="place", name=name, algorithm=context.algorithm.name, near=near(name, known), at=at
            )
        if known[name] not in needed:
            raise NeverComputed(func=name, kernel=context.record.name, at=at)
    for name, stage in context.record.stage.items():
        if name not in known and name not in tensors:
            at = stage.location or context.record.stage.location_of(name)
            raise UnknownFunc(
                directive="stage",
                name=name,
                algorithm=context.algorithm.name,
                near=near(name, [*known, *tensors]),
                at=at,
            )
    for name in context.record.map:
        context.axis(name, "map", context.record.map.location_of(name))


def check_lowered(context: Context) -> None:
    """Directives that are understood but have no lowering yet are refused, never ignored."""
    record = context.record
    for name, place in record.place.items():
        at = place.location
        written = any(func.name == name for func in context.writes)
        if place.with_ is not None and not written:
            raise NotLowered(what=f"with: of {name}, which is not written here", instead="at: a loop", at=at)
        if place.via is not None and (place.via is not Memory.SHARED or not written):
            raise NotLowered(what=f"via: {place.via.value} of {name}", instead="via: shared of a written func", at=at)
        if place.where is Memory.GLOBAL and not place.invert:
            raise NotLowered(what=f"in: global of {name}", instead=f"write {name} in an earlier kernel", at=at)
    if record.scratch:
        raise NotLowered(
            what="scratch of a kernel that the compiler writes",
            instead="leave it out: what such a kernel needs is allocated for it",
            at=record.location_of("scratch"),
        )
    for name, stage in record.stage.items():
        if stage.swizzle is not None:
            raise NotLowered(what=f"swizzle: of {name}", instead="the derived swizzle", at=stage.location)


def check_once(context: Context, nodes: Sequence[Node], tile: Sequence[TileAxis]) -> None:
    """What is computed once per program does not depend on the tile the program is at."""
    moving = {t.axis for t in tile if t.cover is Cover.GRID}
    for node in nodes_of(nodes):
        exprs = (node.reads[0],) if isinstance(node, Stage) else _own_exprs(node)
        for axis in sorted(mentioned(exprs) & moving, key=lambda a: a.name):
            raise BadPosition(
                position="program",
                name=_name(node),
                why=f"it depends on {axis.name}, along which the tiles of the grid lie",
                choices="tile",
                at=context.record.location,
            )


def check_whole(context: Context, axis: Axis, size: int) -> None:
    """One tile of ``size`` covers the axis: proved from the facts."""
    proof = prove(le(axis.extent, size), context.facts)
    match proof:
        case Proved():
            return
        case Unknown(reason=reason):
            why = reason
        case Refuted(counterexample=example):
            own = {name: value for name, value in example.items() if name in free_symbols(axis.extent)}
            why = f"for example {', '.join(f'{name} = {value}' for name, value in own.items())}" if own else "never"
    extent = constant(axis.extent)
    raise WholeNotProved(
        axis=axis.name,
        size=size,
        extent=axis.extent,
        why=why,
        at=context.record.whole.location_of(axis.name),
        hint=None if extent is None else f"whole: {{{axis.name}: {1 << (extent - 1).bit_length()}}}",
    )


def check_replication(context: Context, tile: Sequence[TileAxis]) -> None:
    """Every axis of the grid is an axis of every written func: otherwise several programs would store the same
    points."""
    for func in context.writes:
        definition = context.algorithm.definition(func)
        own = set(definition.axes)
        if isinstance(definition.top, Reduce) and definition.top.shares is not None:
            continue  # a part of its own for every program
        for t in tile:
            if t.axis is part_axis(context):
                continue  # the last program stores
            single = isinstance(prove(le(t.axis.extent, t.size), context.facts), Proved)
            if t.cover is Cover.GRID and t.axis not in own and not single and not covers_groups(func, t.axis, context):
                at = context.record.grid.location_of(t.axis.name)
                hint = f"place: {{{func.name}: {{once: {t.axis.name}}}}}" if func in context.updates else None
                raise ReplicatedWrite(func=func.name, axis=t.axis.name, at=at, hint=hint)


def check_visible(
    context: Context, name: str, exprs: Sequence[Expr], sizes: Mapping[Axis, int], place: Place, own: Sequence[Axis]
) -> None:
    """Every axis that an expression mentions is held by the tile or by a loop around it."""
    for axis in sorted(mentioned(exprs) - set(sizes) - set(own), key=lambda a: a.name):
        looping = [f for f, p in context.record.place.items() if axis.name in p.loop]
        loop = f"{looping[0]}.{axis.name}" if looping else f"a loop over {axis.name}"
        raise DependsOnLoop(func=name, axis=axis.name, loop=loop, at=place.location or context.record.location)


def is_finite(context: Context, operand: Expr) -> bool:
    """Whether zero times ``operand`` is certainly zero: integers, and what the signature or the schedule says is
    finite."""
    if not operand.dtype.is_float:
        return True
    assumed = {name.strip() for entry in context.variant.assume for name in _finite_names(entry)}
    assumed |= {t.name for t in context.algorithm.inputs if t.contract(ContractKind.FINITE) is not None}
    return set(_values_read(operand)) <= assumed


def _values_read(expr: Expr) -> list[str]:
    """The names of what an expression takes values from, what is read to find them left out."""
    seen: set[int] = set()
    found: set[str] = set()

    def visit(node: Expr) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        inner = children(node)
        if isinstance(node, Read):
            found.add(node.source.name)
            inner = () if node.absent is None else (node.absent,)
        for child in inner:
            visit(child)

    visit(expr)
    return sorted(found)


def check_commutative(context: Context, definition: Def, top: Reduce, place: Place) -> None:
    """Points along one axis are combined in order, as prefixes; those of several axes have no order in a tile."""
    parts = part_axis(context) is not None and is_in_turns(context, definition)
    points = len(top.axes) - parts  # a program has one part of a tile
    if isinstance(top.op, Monoid) and not top.op.commutative and points > 1:
        raise NotLowered(
            what=f"the reduction {definition.name} by {top.op.name}, which does not commute bit for bit, over several "
            f"axes with more than {EXPANDED_POINTS} points or with a place",
            instead="commutative=True if it is, one axis, or a reduction over few constant points without place",
            at=place.location or context.record.location,
        )


def check_finite_side(context: Context, definition: Def, guard: Expr, other: Expr) -> None:
    """A guard that zeroes one operand only is exact if the other operand is finite: the schedule must say so."""
    if not is_finite(context, other):
        tensors = ", ".join(_values_read(other))
        at = context.record.place[definition.name].location if definition.name in context.record.place else None
        raise NeedsFinite(
            func=definition.name,
            guard=expr_text(guard),
            other=tensors,
            tensor=tensors,
            at=at or context.record.location,
        )


def _finite_names(entry: str) -> list[str]:
    if entry.startswith("finite(") and entry.endswith(")"):
        return entry[len("finite(") : -1].split(",")
    return []


def check_stage(context: Context, tensor: Tensor | Func, record: StageRecord, form: AxisTile | Window) -> None:
    """Depth and distance fit the kind of copy: a sync copy waits in registers, so it needs no room beside the tiles
    that are read. Async copies move at least 4 contiguous bytes per thread, and only whole elements of a tensor."""
    ahead = stage_ahead(record)
    in_loop = isinstance(record.at, LoopOf) and isinstance(form, AxisTile) and record.where is Memory.SHARED
    most = (record.depth if record.copy is Copy.SYNC else record.depth - 1) if in_loop else 0
    if record.where is Memory.REGISTERS and isinstance(record.at, LoopOf) and _is_fetched(context, tensor.name):
        most = _MOST_INDICES
    if ahead > most or (record.depth > 1 and not in_loop):
        raise StageTooDeep(
            name=tensor.name,
            depth=record.depth,
            ahead=ahead,
            most=most,
            at=record.location_of("depth") or record.location,
        )
    if record.copy is not Copy.ASYNC:
        return
    at = record.location_of("copy")
    if record.where is not Memory.SHARED:
        raise AsyncNeedsTensor(name=tensor.name, why="registers cannot be filled asynchronously", at=at)
    if isinstance(form, Window):
        if tensor.dtype.bytes < _ASYNC_BYTES:
            raise AsyncTooNarrow(
                name=tensor.name,
                proved=tensor.dtype.bytes,
                missing="a window is copied element by element",
                fact="",
                at=at,
                hint="copy: sync",
            )
        return
    memory = memory_of(tensor, context.variant.when)
    axes = [axis for axis, _ in form.axes]
    fast = fastest_axis(memory, form.read, axes)
    elements, missing = 1, f"no axis of the tile is contiguous in {tensor.name}"
    if fast is not None:
        size = dict(form.axes)[fast]
        vector = vector_of(memory, form.read.indices, form.read.boundary.mode, fast, size, context.facts)
        elements, missing = vector.elements, vector.missing
    if elements * tensor.dtype.bytes < _ASYNC_BYTES:
        raise AsyncTooNarrow(
            name=tensor.name, proved=elements * tensor.dtype.bytes, missing=f"missing: {missing}", fact=missing, at=at
        )


def _is_fetched(context: Context, name: str) -> bool:
    """Whether a role runs a stage that runs nothing but stages."""
    runs = (role.runs for role in context.record.roles.values())
    return any(f"stage.{name}" in nodes and all(node.startswith("stage.") for node in nodes) for nodes in runs)


def stage_ahead(record: StageRecord) -> int:
    """How many steps before its use a stage is copied: as the schedule says, else as far as its depth allows."""
    return record.depth - 1 if record.ahead is None else record.ahead


def check_alignment_of_reads(context: Context, plan: KernelPlan) -> None:
    """A func held in registers is read at its own axes only: threads do not see each other's registers."""
    held: dict[Func, tuple[Axis, ...]] = {}
    copied: set[Axis] = set()
    reductions: set[Func] = set()
    for node in nodes_of(plan.nodes):
        match node:
            case Reduction(funcs=funcs, copies=copies):
                held.update(dict.fromkeys(funcs, node.result))
                copied.update(copies)
                reductions.update(funcs)
            case Compute(func=func, axes=axes, memory=Memory.REGISTERS):
                held[func] = axes
            case Prefixes(funcs=funcs, axes=axes):
                held.update(dict.fromkeys(funcs, axes))
                reductions.update(funcs)
            case _:
                pass
    for node in nodes_of(plan.nodes):
        for expr in _own_exprs(node):
            for read in reads_of(expr):
                own = held.get(read.source) if isinstance(read.source, Func) else None
                if own is None:
                    continue
                for index, axis in zip(read.indices, own, strict=True):
                    at_point = isinstance(index, Const) if axis in copied else isinstance(index, AxisRef)
                    if not at_point or (isinstance(index, AxisRef) and index.axis is not axis):
                        place = context.record.place.get(read.source.name)
                        reduction = read.source in reductions
                        hint = f"write {read.source.name} in an earlier kernel" if reduction else None
                        if axis in copied:
                            hint = f"{axis.name} in grid or whole: unrolled, it is read at constant points only"
                        raise NotAligned(
                            func=read.source.name,
                            reader=_name(node),
                            index=expr_text(read),
                            at=context.record.location if place is None else place.location,
                            hint=hint,
                        )


def check_register_tiles(context: Context, plan: KernelPlan) -> None:
    """No single register tile is larger than the register file allows."""
    sizes = computed_sizes(plan.record, plan.tile)
    threads = plan.warps * 32
    for node, local in sized_nodes(plan.nodes, sizes):
        if not isinstance(node, Reduction | Prefixes | Write):
            continue
        axes = node.result if isinstance(node, Reduction) else node.axes
        elements = _elements([axis for axis in axes if axis in local], local)
        if isinstance(node, Reduction) and node.dot is None:
            elements = max(elements, _elements((*node.keep, *node.axes), local))
        if elements > _TILE_LIMIT:
            raise RankTooHigh(func=_name(node), values=elements, limit=_TILE_LIMIT, at=context.record.location)
        dtype = (node.func if isinstance(node, Write) else node.funcs[0]).dtype
        if isinstance(node, Reduction) and node.dot is not None:
            check_operands(context, plan, node, node.dot, local)
        if isinstance(node, Reduction):
            elements *= count_of(node.copies)
        values = elements // threads * max(1, dtype.compute.bits // 32)
        if values > plan.target.registers_per_thread:
            raise RegistersOverLimit(
                func=_name(node),
                values=elements // threads,
                dtype=dtype,
                target=plan.target,
                limit=plan.target.registers_per_thread,
                at=context.record.location,
            )
    if plan.warps * 32 > plan.target.max_threads:
        raise TooManyWarps(
            warps=plan.warps,
            what=str(plan.target),
            hint=f"at most {plan.target.max_threads // 32}",
            at=context.record.location_of("warps"),
        )


def check_operands(
    context: Context, plan: KernelPlan, node: Reduction, dot: Dot, sizes: Mapping[Axis, int]
) -> None:
    """One step of a contraction is unrolled over all threads: its operands are a few register files at most."""
    rows, cols, steps = (_elements(axes, sizes) for axes in (dot.rows, dot.cols, node.axes))
    if dot.unit is Unit.FMA:  # a thread multiplies all steps of its rows and columns; lanes lie 4 x 8
        values = (max(1, rows // (4 * plan.warps)) + max(1, cols // 8)) * steps
    elif dot.unit is Unit.WGMMA:  # reads operand B, and mostly A, from shared memory
        values = rows * steps // (32 * plan.warps) if dot.a_in is Memory.REGISTERS else 0
    else:
        values = (rows + cols) * steps // (32 * plan.warps)
    if values > _OPERAND_FILES * plan.target.registers_per_thread:
        raise RegistersOverLimit(
            func=f"a step of {_name(node)}",
            values=values,
            dtype=dot.a.dtype,
            target=plan.target,
            limit=plan.target.registers_per_thread,
            at=context.record.location,
            hint="a smaller step of the loop, smaller tiles, or more warps",
        )


def check_shared_budget(context: Context, plan: KernelPlan) -> None:
    """The explicit shared buffers fit the target, before anything is compiled."""
    lines = []
    total = 0
    for name, size, how in shared_buffers(plan):
        total += size
        lines.append(f"{name:12} {size:7d} bytes   {how}")
    if total > plan.target.shared_limit:
        raise SharedOverLimit(
            kernel=plan.name,
            bytes=total,
            target=plan.target,
            limit=plan.target.shared_limit,
            excerpt="\n".join(lines),
            hint="a smaller depth or smaller tiles of the largest buffer above",
            at=context.record.location,
        )


def shared_buffers(plan: KernelPlan) -> list[tuple[str, int, str]]:
    """Explicit shared memory of a kernel: (name, bytes, how it comes about)."""
    found = []
    for node in nodes_of(plan.nodes):
        match node:
            case Stage(memory=Memory.SHARED, source=source, form=AxisTile(axes=axes), depth=depth, copies=copies):
                elements = _elements([a for a, _ in axes], dict(axes))
                shape = " ".join(f"{a.name}:{n}" for a, n in axes)
                tiles = depth * count_of(copies)
                many = "".join(f" x {axis.extent} along {axis.name}" for axis in copies)
                found.append((source.name, elements * source.dtype.bytes * tiles, f"[{shape}]{many} x depth {depth}"))
            case Stage(memory=Memory.SHARED, source=source, form=Window() as window, depth=depth):
                found.append(
                    (source.name, _rounded(window.points) * source.dtype.bytes * depth, f"window {window.extent}")
                )
            case Write(copy=Copy.TMA, func=func, depth=depth):
                sizes = computed_sizes(plan.record, plan.tile) | {loop.axis: loop.size for loop in node.loops}
                widths = {**{axis.name: sizes.get(axis, 1) for axis in node.axes}, **dict(node.chunk)}
                shape = " ".join(f"{name}:{n}" for name, n in widths.items())
                several = instances(plan.record)
                each = f" x {several} instances" if several > 1 else ""
                how = f"pieces [{shape}] x depth {depth}{each}, on their way out"
                found.append((func.name, math.prod(widths.values()) * func.dtype.bytes * depth * several, how))
            case Write(func=func, update=Update(memory=Memory.SHARED) as update):
                points = copy_points(node, update, plan)
                found.append((func.name, points * func.dtype.bytes, f"a copy of {func.name} per program"))
            case Compute(memory=Memory.SHARED, func=func, window=Window() as window):
                found.append((func.name, _rounded(window.points) * func.dtype.bytes, f"window {window.extent}"))
            case _:
                pass
    return found


def sized_nodes(nodes: Sequence[Node], sizes: Mapping[Axis, int]) -> Iterator[tuple[Node, Mapping[Axis, int]]]:
    """Every node of a tree with the tile size of every axis there, its own loops included."""
    for node in nodes:
        if isinstance(node, Reduction | Write | Group):
            local = {**sizes, **{loop.axis: loop.size for loop in node.loops}}
            yield node, local
            yield from sized_nodes(node.body, local)
        else:
            yield node, sizes


def nodes_of(nodes: Sequence[Node]) -> Iterator[Node]:
    """Every node of a tree, parents first."""
    for node in nodes:
        yield node
        if isinstance(node, Reduction | Write | Group):
            yield from nodes_of(node.body)


def _own_exprs(node: Node) -> tuple[Expr, ...]:
    match node:
        case Compute(expr=expr):
            return (expr,)
        case Write(expr=expr, indices=indices, update=update):
            return (expr,) if update is None else (expr, *indices, *update.where)
        case Reduction(exprs=exprs, where=where, loops=loops):
            return (*exprs, *([] if where is None else [where]), *(expr for loop in loops for expr in loop.tested))
        case Prefixes(exprs=exprs, reset=reset):
            return exprs if reset is None else (*exprs, reset)
        case Stage() | Group():
            return ()


def _name(node: Node) -> str:
    match node:
        case Reduction(funcs=funcs) | Group(funcs=funcs) | Prefixes(funcs=funcs):
            return funcs[0].name
        case Compute(func=func) | Write(func=func):
            return func.name
        case Stage(source=source):
            return source.name


def _elements(axes: Sequence[Axis], sizes: Mapping[Axis, int]) -> int:
    total = 1
    for axis in axes:
        total *= sizes[axis]
    return total


def _rounded(points: int) -> int:
    return 1 << (points - 1).bit_length()
