"""Rules about where things are computed: every value is at hand when it is read, every directive has an effect, and no
program sees a part of what it must see all of. One function per rule, as in ``checks``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from texpr.errors import Location
from texpr.instructions import I8_SATURATION_FREE_K, mma_form
from texpr.lang.ir import Axis, AxisRef, BoundaryMode, Cast, Const, Def, Expr, Func, Read, Reduce, Scan
from texpr.lang.show import expr_text
from texpr.math.expr import BoolExpr, le
from texpr.math.integer import product
from texpr.math.prove import is_proved
from texpr.plan.attach import computed_by, node_body, node_exprs, node_names
from texpr.plan.checks import nodes_of, sized_nodes
from texpr.plan.consumers import computed_sizes
from texpr.plan.errors import (
    AliasNotElementwise,
    AsyncNeedsTensor,
    BadPosition,
    ByInvalid,
    InvertInvalid,
    LoopAxisInvalid,
    NoEffect,
    NoInstruction,
    NotAligned,
    NotLowered,
    PlaceAfterUse,
    PlaceIgnored,
    ReducedInGrid,
    TargetLacks,
    TrimInvalid,
    UnknownAxis,
    near,
)
from texpr.plan.inline import axes_of, key_of, reads_of
from texpr.plan.ir import (
    AxisTile,
    Compute,
    Cover,
    Dot,
    KernelPlan,
    Node,
    Prefixes,
    Reduction,
    Stage,
    TileAxis,
    Unit,
    Window,
    Write,
)
from texpr.plan.parts import check_in_turns, part_axis
from texpr.plan.resolve import Context, written_out
from texpr.plan.scans import check_place
from texpr.plan.skip import check_no_skip
from texpr.schedule.places import Place
from texpr.schedule.records import Kernel
from texpr.schedule.words import Copy, LoopOf, Memory, OrderKind, Start, Tile
from texpr.targets import Target

_MOST_PIECES = 256


def check_axis_names(context: Context) -> None:
    """Axes named by ``order``, by ``stage: by`` and by ``mma`` exist where they are named."""
    record = context.record
    order = record.order
    for name in order.axes if order is not None and order.kind is not OrderKind.FLATTEN else ():
        if name not in record.grid:
            at = (order and order.location) or record.location_of("order")
            raise UnknownAxis(directive="order", name=name, owner="the grid", near=near(name, record.grid), at=at)
    for tensor, stage in record.stage.items():
        for axis in stage.by:
            context.axis(axis, f"by of stage {tensor}", stage.location_of("by"))
    for place in record.place.values():
        for axis in (*place.mma.rows, *place.mma.cols) if place.mma is not None else ():
            context.axis(axis, "mma", place.location_of("mma"))


def check_start(kernel: Kernel, target: Target) -> None:
    """``start: early`` is for targets that have it, and for kernels that come right after another one."""
    if kernel.start is not Start.EARLY:
        return
    at = kernel.location_of("start")
    if not target.has_early_starts:
        raise TargetLacks(what="start: early", least="sm_90a", target=target, instead="start: after", at=at)
    why = "the memset of its fill comes between it and the kernel before" if kernel.fill else ""
    if kernel.extern is not None:
        why = "a kernel written by hand says itself what it waits for"
    if why:
        raise NoEffect(directive="start: early", name=kernel.name, why=why, at=at)


def check_positions(context: Context) -> None:
    """``at: func.axis`` names a loop that the kernel has."""
    places = context.record.place
    loops: dict[str, list[str]] = {}
    for definition in context.needed:
        own = [axis for func in definition.funcs if func.name in places for axis in places[func.name].loop]
        loops.update({func.name: own for func in definition.funcs})
    choices = ", ".join(["tile", *(f"{func}.{axis}" for func in places for axis in loops.get(func, []))])
    for name, place in places.items():
        if isinstance(place.at, LoopOf) and place.at.axis not in loops.get(place.at.func, []):
            why = f"kernel {context.record.name} has no such loop"
            raise BadPosition(position=str(place.at), name=name, why=why, choices=choices, at=place.location_of("at"))


def check_places(context: Context, held: Callable[[Func], bool], tile: Sequence[TileAxis]) -> None:
    """Every directive of a place has an effect on what its func is."""
    sizes = {t.axis.name: t.size for t in tile}
    for name, place in context.record.place.items():
        definition = next(d for d in context.needed if any(f.name == name for f in d.funcs))
        func = next(f for f in definition.funcs if f.name == name)
        written = func in context.writes
        if place.invert and not written:
            why = "it is not written by this kernel"
            raise InvertInvalid(func=name, why=why, hint=f"add {name} to writes", at=place.location_of("invert"))
        if place.aggregate is not None and not place.invert:
            why = "only updates of an inverted func have lanes that meet"
            raise NoEffect(directive="aggregate", name=name, why=why, at=place.location_of("aggregate"))
        reduction = isinstance(definition.top, Reduce) and held(func) and not written_out(definition, context.record)
        if isinstance(definition.top, Scan):
            check_no_skip(name, place)
            check_place(name, place, definition.top, written)
        elif not reduction:
            _check_elementwise(name, place, written)
        elif place.by and not written:
            why = "it is a reduction; only what is stored or kept in shared memory comes in pieces"
            raise ByInvalid(func=name, why=why, at=place.location_of("by"))
        _check_by(name, place, definition, {**sizes, **place.loop} if written else {})


def _check_elementwise(name: str, place: Place, written: bool) -> None:
    if place.mma is not None:
        raise NoInstruction(func=name, why="it is not a reduction", hint="remove mma", at=place.location_of("mma"))
    for axis in place.trim:
        at = place.trim.location_of(axis) or place.location_of("trim")
        raise TrimInvalid(func=name, axis=axis, why="it is not a reduction, whose guard would shorten a loop", at=at)
    check_no_skip(name, place)
    if written:
        if isinstance(place.at, LoopOf):
            why = "a written func is stored in loops of its own"
            raise BadPosition(position=str(place.at), name=name, why=why, choices="tile", at=place.location_of("at"))
        if place.where is Memory.SHARED and not place.invert:
            what = f"in: shared of {name}, which is written"
            raise NotLowered(what=what, instead="via: shared", at=place.location_of("in"))
        return
    if place.at is None:
        raise PlaceIgnored(func=name, at=place.location)
    if place.loop:
        axis = next(iter(place.loop))
        raise LoopAxisInvalid(
            func=name,
            axis=axis,
            why="it is computed for the whole tile",
            choices="none",
            at=place.loop.location_of(axis) or place.location,
            hint="remove the loop",
        )
    if place.by and place.where is not Memory.SHARED:
        why = "it is kept in registers, computed for the whole tile"
        raise ByInvalid(func=name, why=why, at=place.location_of("by"))


def _check_by(name: str, place: Place, definition: Def, sizes: Mapping[str, int]) -> None:
    own = {axis.name for axis in definition.axes}
    for axis, width in place.by.items():
        at = place.by.location_of(axis) or place.location_of("by")
        if axis not in own:
            hint = f"one of {', '.join(sorted(own))}"
            raise ByInvalid(func=name, why=f"{axis} is not one of its axes", at=at, hint=hint)
        if width > sizes.get(axis, width):
            raise ByInvalid(func=name, why=f"its tile has only {sizes[axis]} along {axis}", at=at)


def check_reduced_axes(context: Context, held: Callable[[Func], bool], tile: Sequence[TileAxis]) -> None:
    """A reduction sees its whole axis: tiles of the grid are parts of it."""
    grid = {t.axis: t for t in tile if t.cover is Cover.GRID}
    for definition in context.needed:
        if not isinstance(definition.top, Reduce) or not held(definition.funcs[0]):
            continue
        for axis in () if definition.top.shares is not None else definition.top.axes:
            cut = grid.get(axis)
            if axis is part_axis(context):
                check_in_turns(context, definition)
                continue
            if cut is not None and not is_proved(le(axis.extent, cut.size), context.facts):
                raise ReducedInGrid(func=definition.name, axis=axis.name, at=context.record.grid.location_of(axis.name))


def may_saturate(context: Context, top: Reduce, dot: Dot) -> bool:
    """Whether a matrix unit's sum may stick at the end of its range where the language wraps around: there is no proof
    that too few products are added for that."""
    form = mma_form(dot.a.dtype, dot.b.dtype, context.target) if dot.unit is Unit.MMA else None
    return form is not None and form.saturates and not is_proved(exact_sum(top), context.facts)


def exact_sum(top: Reduce) -> BoolExpr:
    """So few products of 8-bit integers are added that their sum is within 32 bits."""
    return le(product(axis.extent for axis in top.axes), I8_SATURATION_FREE_K)


def saturates(func: str, top: Reduce, at: Location | None) -> NoInstruction:
    """The error for an instruction whose sums may stick."""
    why = f"its 32-bit sums stick at the ends of their range, which more than {I8_SATURATION_FREE_K} products can reach"
    return NoInstruction(func=func, why=why, hint=f"when: {exact_sum(top)}, or the same in require", at=at)


def check_order_of_nodes(context: Context, plan: KernelPlan) -> None:
    """Every held value is computed before it is read, and no further inside loops than its readers."""
    owners = {func: node for node in nodes_of(plan.nodes) for func in computed_by(node)}
    _visit(context, plan.nodes, frozenset(), owners)


def _visit(context: Context, nodes: Sequence[Node], known: frozenset[Func], owners: Mapping[Func, Node]) -> None:
    for node in nodes:
        inside = known
        for inner in node_body(node):
            _visit(context, [inner], inside, owners)
            inside |= computed_by(inner)
        for expr in node_exprs(node):
            for read in reads_of(expr):
                source = read.source
                if isinstance(source, Func) and source in owners and source not in inside:
                    raise _late(context, source, node)
        known |= computed_by(node)


def _late(context: Context, func: Func, reader: Node) -> PlaceAfterUse:
    places = context.record.place

    def position(names: Sequence[str]) -> str:
        found = next((places[name].at for name in names if name in places), None)
        return str(found or Tile())

    names = node_names(reader)
    own = [f.name for f in context.algorithm.definition(func).funcs]
    other = position(names)
    inside = other.partition(".")[0] in own  # the reader stands in the very loop that computes what it reads
    culprit = list(names) if inside else own
    at = next((places[name].location for name in culprit if name in places), None)
    return PlaceAfterUse(
        func=func.name,
        position=position(own),
        reader=names[0],
        other=other,
        at=at or context.record.location,
        hint=f"place {names[0]} at {position(own)}" if inside else None,
    )


def check_windows_of_registers(context: Context, plan: KernelPlan) -> None:
    """What is computed over a window is computed by other threads than those that hold register values."""
    held = {f for n in nodes_of(plan.nodes) for f in computed_by(n) if not isinstance(n, Compute) or n.window is None}
    for node in nodes_of(plan.nodes):
        if not isinstance(node, Compute) or node.memory is not Memory.SHARED:
            continue
        for read in reads_of(node.expr):
            if read.source in held:
                raise NotAligned(
                    func=read.source.name,
                    reader=node.func.name,
                    index="the points of a window",
                    at=_place_location(context, node.func.name),
                    hint=f"keep {node.func.name} in registers",
                )


def _place_location(context: Context, name: str) -> Location | None:
    place = context.record.place.get(name)
    return context.record.location if place is None or place.location is None else place.location


def check_fills(context: Context, plan: KernelPlan) -> None:
    """What a stage holds where its tensor has nothing: asynchronous copies and windows of an absent tensor know only
    zero."""
    for node in nodes_of(plan.nodes):
        if not isinstance(node, Stage):
            continue
        at = context.record.stage[node.name].location
        boundary = node.form.boundary if isinstance(node.form, Window) else node.reads[0].boundary
        absent = node.reads[0].absent
        given = absent is None or _is_zero(absent)
        if node.copy is Copy.ASYNC and boundary.mode is BoundaryMode.FILL and boundary.fill != 0:
            why = f"outside of it reads give {boundary.fill}, and asynchronous copies fill with zero"
            raise AsyncNeedsTensor(name=node.name, why=why, at=at)
        if node.copy is Copy.ASYNC and not given and absent is not None:
            why = f"where it is absent reads give {expr_text(absent)}, and asynchronous copies fill with zero"
            raise AsyncNeedsTensor(name=node.name, why=why, at=at)
        defaults = {key_of(read.absent): read.absent for read in node.reads if read.absent is not None}
        if isinstance(node.form, Window) and (len(defaults) > 1 or any(axes_of(e) for e in defaults.values())):
            texts = " and ".join(expr_text(expr) for expr in defaults.values())
            what = f"window of {node.name}, which is {texts} where it is absent,"
            raise NotLowered(what=what, instead="remove the stage", at=at)


def check_window_pieces(context: Context, plan: KernelPlan) -> None:
    """A window is filled in pieces one after the other, each with code of its own: ``by`` keeps them few."""
    for node in nodes_of(plan.nodes):
        window = node.form if isinstance(node, Stage) else node.window if isinstance(node, Compute) else None
        if not isinstance(window, Window) or not isinstance(node, Stage | Compute) or not node.by:
            continue
        size = math.prod(width for _, width in node.by)
        pieces = -(-window.points // size)
        if pieces > _MOST_PIECES:
            name = node.source.name if isinstance(node, Stage) else node.func.name
            record = context.record.stage.get(name) or context.record.place.get(name)
            why = f"its window of {window.points} points is filled in {pieces} pieces of {size}; at most {_MOST_PIECES}"
            raise ByInvalid(func=name, why=why, at=record.location_of("by") if record is not None else None)


def check_map(context: Context, plan: KernelPlan) -> None:
    """Some value outside of matrix units has lanes along all axes that ``map`` spreads."""
    record = context.record
    wanted = set(record.map)
    if not wanted:
        return
    matrix = {f for n in nodes_of(plan.nodes) if isinstance(n, Reduction) and n.dot is not None for f in n.funcs}
    widest: set[str] = set()
    for node, sizes in sized_nodes(plan.nodes, computed_sizes(plan.record, plan.tile)):
        if any(_mentions(expr, func) for expr in node_exprs(node) for func in matrix):
            continue
        wide = {axis.name for axis in _axes_of_node(node) if sizes.get(axis, 1) > 1}
        widest |= wide & wanted
        if wanted <= wide:
            return
    missing = sorted(wanted - widest)
    name = missing[0] if missing else ", ".join(record.map)
    why = f"no value has lanes along {'it' if missing else 'all of them'}"
    at = record.map.location_of(missing[0]) if missing else record.location_of("map")
    raise NoEffect(directive="map", name=name, why=why, at=at)


def _axes_of_node(node: Node) -> tuple[Axis, ...]:
    match node:
        case Write(axes=axes) | Compute(axes=axes, memory=Memory.REGISTERS) | Prefixes(axes=axes):
            return axes
        case Reduction(keep=keep, axes=axes, dot=None):
            return (*keep, *axes)
        case Stage(memory=Memory.REGISTERS, form=AxisTile(axes=sized)):
            return tuple(axis for axis, _ in sized)
        case _:
            return ()


def check_stages_have_effect(context: Context, plan: KernelPlan) -> None:
    """What a stage says of its pieces and of the tiles it holds is used."""
    for node in nodes_of(plan.nodes):
        if not isinstance(node, Stage):
            continue
        record = context.record.stage[node.name]
        if node.by and isinstance(node.form, AxisTile):
            why = "only a window is fetched in pieces; this tile is fetched as it is read"
            raise NoEffect(directive="by", name=f"stage {node.name}", why=why, at=record.location_of("by"))
        if node.depth > 1 and node.ahead == 0 and node.copy is Copy.SYNC:
            why = "copies that do not run ahead need one tile"
            raise NoEffect(directive="depth", name=f"stage {node.name}", why=why, at=record.location_of("depth"))
        if node.copy is Copy.ASYNC and isinstance(node.form, Window):
            what = f"copy: async of {node.name}, whose reads overlap"
            raise NotLowered(what=what, instead="copy: sync", at=record.location_of("copy"))


def _mentions(expr: Expr, func: Func) -> bool:
    return any(read.source is func for read in reads_of(expr))


def _is_zero(expr: Expr) -> bool:
    while isinstance(expr, Cast):
        expr = expr.value
    return isinstance(expr, Const) and expr.value == 0


def check_aliases(context: Context, plan: KernelPlan) -> None:
    """An output that may lie over an input is stored only where the same program reads that input, and nothing else is
    read of it."""
    for func in context.writes:
        name = func.output.may_alias if func.output is not None else None
        if name is None:
            continue
        axes = context.algorithm.definition(func).axes
        for node in nodes_of(plan.nodes):
            for read in _reads(node):
                if read.source.name == name and not _at_own_point(read, axes):
                    raise AliasNotElementwise(
                        output=func.name,
                        input=name,
                        kernel=plan.name,
                        index=expr_text(read),
                        at=context.record.location_of("writes"),
                    )


def check_overwritten(kernels: Sequence[KernelPlan]) -> None:
    """Nothing reads an input that an earlier node or kernel may have overwritten."""
    lost: dict[str, Func] = {}
    for kernel in kernels:
        for node in kernel.nodes:
            _check_overwritten(node, kernel, lost)


def _check_overwritten(node: Node, kernel: KernelPlan, lost: dict[str, Func]) -> None:
    for inner in node_body(node):
        _check_overwritten(inner, kernel, lost)
    for read in _reads(node):
        if read.source.name in lost:
            func = lost[read.source.name]
            raise AliasNotElementwise(
                output=func.name,
                input=read.source.name,
                kernel=kernel.name,
                index=expr_text(read),
                at=kernel.record.location,
            )
    if isinstance(node, Write) and node.func.output is not None and node.func.output.may_alias is not None:
        lost[node.func.output.may_alias] = node.func


def _reads(node: Node) -> list[Read]:
    exprs: tuple[Expr, ...] = (*node.reads, *node.where) if isinstance(node, Stage) else node_exprs(node)
    return [read for expr in exprs for read in reads_of(expr)]


def _at_own_point(read: Read, axes: tuple[Axis, ...]) -> bool:
    if read.boundary.mode is not BoundaryMode.NONE or len(read.indices) != len(axes):
        return False
    return all(isinstance(i, AxisRef) and i.axis is axis for i, axis in zip(read.indices, axes, strict=True))
