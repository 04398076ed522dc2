"""Stages: tiles and windows fetched into registers or shared memory, and funcs computed over windows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from texpr.lang.ir import Axis, AxisRef, BoundaryMode, Cast, Expr, Func, OpName, Read, Tensor
from texpr.math.expr import IntExpr, Sym, const, maximum, substitute, sym
from texpr.plan.access import fastest_axis, memory_of, vector_of
from texpr.plan.attach import node_body
from texpr.plan.checks import nodes_of
from texpr.plan.copies import count_of, points_of
from texpr.plan.errors import NotLowered
from texpr.plan.inline import key_of, reads_of, spans
from texpr.plan.ir import AxisTile, Compute, KernelPlan, Node, Reduction, Stage, Window
from texpr.plan.resolve import origin as tile_origin
from texpr.schedule.words import Copy, Memory
from texpr.tile import build as tile
from texpr.tile.banks import ROW_OF_BANKS, best_swizzle
from texpr.tile.boxes import await_step, box_layout, fetch_boxes, give_back, go_on, rings_of
from texpr.tile.declarations import Buffer, Conflict, Space
from texpr.tile.evaluate import evaluate, is_nonempty, live, masked_load, tile_of_copy, with_absent
from texpr.tile.ir import Commit, CopyAsync, For, Load, SharedTile, StoreShared, Wait
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, assign, meet, origin, stage_dims
from texpr.tile.layouts import Bases, Nvmma, SharedLayout, Swizzled, flat, operand_swizzle, warpgroup_operand
from texpr.tile.protocol import FenceAsync
from texpr.tile.scope import AxisValue, Scope, StagedTile, StagedWindow
from texpr.tile.spaces import blocked_space, copy_space, flat_space, window_elements


def lower_stage(node: Stage, kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """A stage outside of a pipeline: fetched now, complete when the next node starts."""
    if isinstance(node.form, AxisTile) and node.memory is Memory.REGISTERS:
        if not kernel.fetches(node):
            return scope  # another role finds points by it
        read = node.form.read
        sizes = {axis: scope.lanes(axis) if axis in scope.divided else size for axis, size in node.form.axes}
        space = blocked_space(kernel.plan, kernel.grouping, sizes)
        here = scope.without_tile(read).at_part(node.part, node.form.axes)
        value = evaluate(read, here, space, kernel.needs)
        held = assign(f"{node.name}_tile", value, kernel, block, node.schedule)
        return scope.with_tile(read, StagedTile((), value=held, part=node.part))
    buffer = stage_buffer(node, kernel, scope, depth=0)
    if isinstance(node.form, Window):
        window = window_here(node.form, scope)
        fill_window(node.source, window, node, buffer, None, kernel, scope, block)
        return scope.with_window(node.source, StagedWindow(buffer.name, None, window))
    if node.copy is Copy.TMA or not kernel.fetches(node):
        (ring,) = rings_of([node], kernel, scope)
        if kernel.fetches(node):
            fetch_boxes(ring, {node.name: buffer}, const(0), kernel, scope, block)
        block.add(await_step(ring, const(0)))
        if node.copy is Copy.TMA:
            zero_in_place([(node, buffer, None)], kernel, scope, block)
        elif node.multiplied:
            block.add(FenceAsync())
        if ring.empty:
            kernel.taken += [*give_back(ring, const(0)), *go_on(ring, const(1))]
        else:
            block.add(*go_on(ring, const(1)))
    else:
        copy_into(node, buffer, None, kernel, scope, block)
        if node.copy is Copy.ASYNC:
            block.add(Commit(), Wait(0))
        if node.multiplied:
            block.add(FenceAsync())
    dims = stage_dims(node.form, kernel)
    return scope.with_tile(node.form.read, StagedTile(dims, buffer.name, copies=node.copies, part=node.part))


def with_kept(node: Node, kernel: Kernel, scope: Scope) -> Scope:
    """The scope after a node, which knows the tiles that stages in its loop have left in shared memory."""
    for stage in node_body(node):
        if isinstance(stage, Stage) and stage.kept is not None:
            form = tile_form(stage)
            buffer = stage_buffer(stage, kernel, scope, stage.depth)
            dims = stage_dims(form, kernel)
            held = StagedTile(dims, buffer.name, copies=stage.copies, kept=stage.kept, part=stage.part)
            scope = scope.with_tile(form.read, held)
    return scope


def stage_buffer(node: Stage, kernel: Kernel, scope: Scope, depth: int) -> Buffer:
    """The shared memory of a stage; ``depth`` 0 is one tile without stages. The parts of a split loop share it."""
    if id(node) in kernel.staged:
        return kernel.staged[id(node)]
    name = kernel.name(f"{node.name}_shared")
    if isinstance(node.form, Window):
        size = 1 << (node.form.points - 1).bit_length()
        extent = " x ".join(str(e) for e in node.form.extent)
        buffer = Buffer(name, node.source.dtype, (size,), depth, flat(), f"window {extent} of {node.name}")
    else:
        dims = stage_dims(node.form, kernel)
        shape = tuple(dim.size for dim in dims)
        ctas = kernel.grouping.ctas(dims)
        layout: SharedLayout | None = operand_layout(node, shape, ctas)
        if layout is None:
            boxed = node.copy is Copy.TMA
            element = node.source.dtype.bytes
            layout = box_layout(shape, element, ctas) if boxed else tile_swizzle(node, node.form, name, kernel, scope)
        note = f"{node.name}[{', '.join(str(dim) for dim in dims)}]"
        tiles = max(depth, 1) * count_of(node.copies) if node.copies else depth
        buffer = Buffer(name, node.source.dtype, shape, tiles, layout, note)
    kernel.buffer(buffer)
    kernel.staged[id(node)] = buffer
    return buffer


def operand_layout(node: Stage, shape: tuple[int, ...], ctas: Bases) -> Nvmma | None:
    """The layout of a tile that a warpgroup's instruction reads where it lies; None for other tiles."""
    if not node.multiplied:
        return None
    if len(shape) != 2:
        raise NotLowered(
            what=f"{node.name} as an operand of wgmma: its tile has {len(shape)} dims, which other nodes treat apart",
            instead="op: mma",
        )
    return warpgroup_operand((shape[0], shape[1]), node.source.dtype.bytes, ctas)


def tile_swizzle(node: Stage, form: AxisTile, name: str, kernel: Kernel, scope: Scope) -> Swizzled:
    """The swizzle of a staged tile: that of matrix operands if a matrix unit reads it, else the one under which
    writing it coalesced and reading it in the space of its readers meets the fewest bank conflicts (none, and then
    the generated code asserts so)."""
    dims = stage_dims(form, kernel)
    shape = tuple(dim.size for dim in dims)
    element = node.source.dtype.bytes
    default = operand_swizzle(shape, element, len(shape) - 1)
    reader = blocked_space(kernel.plan, kernel.grouping, dict(form.axes))
    if len(shape) != 2 or reader is None or _feeds_matrix_unit(form, kernel):
        return default
    writer = tile_copy_space(node, form, kernel, scope)
    transposed = reader.dims != dims
    swizzle, conflicts = best_swizzle((shape[0], shape[1]), element, writer.layout, reader.layout, transposed)
    if conflicts == 0 and math.prod(shape) * element >= ROW_OF_BANKS:  # in less, no two words share a bank
        kernel.conflicts.append(Conflict(name, writer, (0, 1)))
        kernel.conflicts.append(Conflict(name, reader, (1, 0) if transposed else (0, 1)))
    return swizzle


def _feeds_matrix_unit(form: AxisTile, kernel: Kernel) -> bool:
    wanted = key_of(form.read)
    for node in nodes_of(kernel.plan.nodes):
        if isinstance(node, Reduction) and node.dot is not None:
            reads = [*reads_of(node.dot.a), *reads_of(node.dot.b)]
            if any(key_of(read) == wanted for read in reads):
                return True
    return False


def tile_copy_space(node: Stage, form: AxisTile, kernel: Kernel, scope: Scope) -> Space:
    """The space a staged tile is fetched in: coalesced along the tensor's contiguous axis."""
    dims = stage_dims(form, kernel)
    memory = memory_of(node.source, scope.guard)
    fast = fastest_axis(memory, form.read, [axis for axis, _ in form.axes])
    vector = 1
    if fast is not None and dims[-1].axes[-1][0] == fast.name:
        vector = vector_of(
            memory, form.read.indices, form.read.boundary.mode, fast, dict(form.axes)[fast], scope.facts
        ).elements
    return copy_space(dims, kernel.plan.warps, vector, f"{node.name}_copy".replace(".", "_"), kernel.grouping)


def tile_form(node: Stage) -> AxisTile:
    """The form of a stage that has one element per point of the loop nest."""
    assert isinstance(node.form, AxisTile), f"{node.name} is staged as a window"
    return node.form


def is_pipelined(node: Stage, plan: KernelPlan) -> bool:
    """Whether a stage in a loop runs ahead of it: copies beside the threads do, those of another role, and register
    copies that say ``ahead``."""
    tiled = isinstance(node.form, AxisTile) and node.memory is Memory.SHARED
    return tiled and (node.copy is not Copy.SYNC or node.ahead > 0 or plan.role_of(node) is not None)


def zero_in_place(
    tiles: Sequence[tuple[Stage, Buffer, IntExpr | None]], kernel: Kernel, scope: Scope, block: Block
) -> None:
    """Zero the elements of tiles (of a stage, at a stage of its buffer) that the copy engine has brought where a guard
    fails; nothing where all of them hold. Instances that read the same tiles share the work, and wait for each other.
    """
    guarded_tiles = [one for one in tiles if any(guard not in scope.holds for guard in one[0].where)]
    if not guarded_tiles:
        return
    own = [one for n, one in enumerate(guarded_tiles) if kernel.instance is None or kernel.instance.takes(n)]
    for node, buffer, stage in own:
        _zero_where_dead(node, buffer, stage, kernel, scope.undivided(), block)
    if own:
        block.add(FenceAsync("the asynchronous proxy sees the zeros"))
    meet(kernel, block)


def _zero_where_dead(
    node: Stage, buffer: Buffer, stage: IntExpr | None, kernel: Kernel, scope: Scope, block: Block
) -> None:
    guards = [guard for guard in node.where if guard not in scope.holds]
    form = tile_form(node)
    scope = scope.at_part(node.part, form.axes)
    for point in points_of(node.copies):
        values = zip(node.copies, point, strict=True)
        at = scope.with_axes({axis: AxisValue(const(value), 1, True) for axis, value in values})
        slot = tile_of_copy(stage, node.copies, at) if node.copies else stage
        space = tile_copy_space(node, form, kernel, at)
        every = tuple(range(len(space.dims)))
        holds = tile.both([evaluate(guard, at, space, kernel.needs) for guard in guards])
        assert holds is not None
        dtype = node.source.dtype
        landed = SharedTile(buffer.name, slot, every, dtype, space, every)
        value = tile.choose(holds, landed, tile.literal(0.0 if dtype.is_float else 0, dtype))
        block.add(StoreShared(buffer.name, slot, value, origin=origin(node.name, node.schedule)))


def copied_value(node: Stage, kernel: Kernel, scope: Scope, when: TileExpr | None = None) -> TileExpr:
    """A staged tile as loaded, coalesced along the tensor's contiguous axis. Nothing is read unless ``when``."""
    form = tile_form(node)
    scope = scope.at_part(node.part, form.axes)
    space = tile_copy_space(node, form, kernel, scope)
    if when is not None and any(reads_of(index) for index in form.read.indices):
        scope, when = scope.reading_only(when), None  # the indices are found by reads of their own
    loaded = masked_load(form.read, scope, space, kernel.needs)
    needed = tile.both(_nonzero_conditions(node, form.read, scope, space, kernel))
    for condition in (needed, when):
        if condition is not None:
            loaded = guarded(loaded, condition)
    if loaded.space is None:  # all points read the same: only the condition says where they are
        loaded = guarded(loaded, tile.op(OpName.GE, tile.position(space, 0), tile.uniform(0)))
    value = with_absent(loaded, form.read, scope, space, kernel.needs)
    if needed is None or (value is loaded and loaded.other.value == 0):
        return value
    return tile.choose(needed, value, tile.literal(0.0 if value.dtype.is_float else 0, value.dtype))


def _nonzero_conditions(node: Stage, read: Read, scope: Scope, space: Space, kernel: Kernel) -> list[TileExpr]:
    """Where a staged tile is not zero, whatever lies in memory: where its guards hold, and at points that exist if a
    matrix unit multiplies it as it lies."""
    dead = [axis for axis in node.multiplied if axis in scope.axes and not scope.axes[axis].full]
    masked = dead if dead and not zero_where_dead(read, frozenset(dead)) else []
    tested = [evaluate(guard, scope, space, kernel.needs) for guard in node.where if guard not in scope.holds]
    return [*live(masked, scope, space), *tested]


def zero_where_dead(expr: Expr, dead: frozenset[Axis]) -> bool:
    """Whether the expression is zero on dead lanes of ``dead`` by itself: a read along them whose masked load yields
    0, converted at most. A read at an index that is data is not: a dead lane may find some element there."""
    match expr:
        case Read(source=Tensor(shape=shape), boundary=boundary, absent=absent):
            zero = boundary.mode is BoundaryMode.NONE or boundary.fill == 0
            along = {e.axis for e, n in zip(expr.indices, shape, strict=True) if isinstance(e, AxisRef) and spans(e, n)}
            return absent is None and zero and dead <= along
        case Cast(value=value):
            return zero_where_dead(value, dead)
        case _:
            return False


def copy_into(
    node: Stage,
    buffer: Buffer,
    stage: IntExpr | None,
    kernel: Kernel,
    scope: Scope,
    block: Block,
    when: TileExpr | None = None,
) -> None:
    """Copy a staged tile into one stage of its buffer: asynchronously if the schedule asks for it and what the hardware
    fills in where nothing is read, zero, is right."""
    for point in points_of(node.copies) if node.copies else []:
        at = scope.with_axes(
            {axis: AxisValue(const(value), 1, True) for axis, value in zip(node.copies, point, strict=True)}
        )
        copy_into(
            dataclasses.replace(node, copies=()), buffer, tile_of_copy(stage, node.copies, at), kernel, at, block, when
        )
    if node.copies:
        return
    value = copied_value(node, kernel, scope, when)
    label = origin(node.name, node.schedule)
    if node.copy is Copy.ASYNC and isinstance(value, Load) and value.other.value == 0:
        block.add(CopyAsync(buffer.name, stage, value, origin=label))
    else:
        block.add(StoreShared(buffer.name, stage, value, origin=label))


def window_here(window: Window, scope: Scope) -> Window:
    """The window with the names that the kernel has for the first indices of its tiles and loops."""
    origins: dict[str, IntExpr | int] = {
        tile_origin(axis).name: value.origin for axis, value in scope.axes.items() if value.tile is None
    }
    return dataclasses.replace(window, lo=tuple(substitute(lo, origins) for lo in window.lo))


def fill_window(
    source: Tensor | Func,
    window: Window,
    node: Stage | Compute,
    buffer: Buffer,
    stage: IntExpr | None,
    kernel: Kernel,
    scope: Scope,
    block: Block,
) -> None:
    """Fill a window piece by piece: point ``t`` of the flat buffer holds the source at ``lo + (t's row-major
    coordinates)``.

    Boundaries are applied here, so readers index the window as if the source had no edge.
    """
    size = min(window_elements(kernel.plan, node.by, window.points), buffer.shape[0])
    last = window.extent[-1]
    vector = min(8, last & -last)
    space = flat_space(f"{source.name}_point".replace(".", "_"), size, kernel.plan.warps, vector)
    count = -(-window.points // size)
    inner = Block()
    piece = sym(kernel.name("piece")) if count > 1 else const(0)
    point = tile.op(OpName.ADD, tile.position(space, 0), tile.uniform(piece * size))
    coordinates: list[TileExpr] = []
    stride = window.points
    for d, extent in enumerate(window.extent):
        stride //= extent
        at = point if stride == 1 else tile.op(OpName.FLOORDIV, point, tile.uniform(stride))
        if d:
            at = tile.op(OpName.MOD, at, tile.uniform(extent))
        coordinates.append(tile.op(OpName.ADD, at, tile.uniform(window.lo[d])))
    inside = None if window.points % size == 0 else tile.op(OpName.LT, point, tile.uniform(window.points))
    value = point_value(source, window, node, coordinates, kernel, scope, space, inside)
    value = tile.spread(value, space, 0)
    label = origin(source.name, node.schedule)
    inner.add(StoreShared(buffer.name, stage, value, (piece * size, size), origin=label))
    if isinstance(piece, Sym):
        note = f"window of {source.name}, piece by piece"
        block.add(For(piece.name, const(0), const(count), const(1), tuple(inner.statements), note, static=True))
    else:
        block.add(*inner.statements)


def point_value(
    source: Tensor | Func,
    window: Window,
    node: Stage | Compute,
    coordinates: Sequence[TileExpr],
    kernel: Kernel,
    scope: Scope,
    space: Space,
    inside: TileExpr | None,
) -> TileExpr:
    """The source at computed coordinates, the window's boundary applied."""
    if isinstance(node, Compute):
        return _func_at(node, window, coordinates, kernel, scope, space)
    axes = tuple(Axis(f"{source.name}'{d}", extent) for d, extent in enumerate(memory_of(source, scope.guard).shape))
    local = scope.with_axes({axis: _at(value, inside=False) for axis, value in zip(axes, coordinates, strict=True)})
    read = Read(source, tuple(AxisRef(axis) for axis in axes), window.boundary, node.reads[0].absent)
    loaded = masked_load(read, local, space, kernel.needs)
    return with_absent(loaded if inside is None else guarded(loaded, inside), read, local, space, kernel.needs)


def _func_at(
    node: Compute, window: Window, coordinates: Sequence[TileExpr], kernel: Kernel, scope: Scope, space: Space
) -> TileExpr:
    """A func at points of its window. It is computed only where it is defined: points beyond an edge take the value of
    the point that the boundary names, or the fill; those that no live lane reads take any."""
    points: dict[Axis, AxisValue] = {}
    outside: list[TileExpr] = []
    for axis, coordinate, edge in zip(node.axes, coordinates, window.edges, strict=True):
        last = tile.uniform(axis.extent - 1)
        match window.boundary.mode if edge else BoundaryMode.NONE:
            case BoundaryMode.WRAP:
                value = tile.op(OpName.MOD, coordinate, tile.uniform(axis.extent))
            case BoundaryMode.MIRROR:
                period = tile.uniform(maximum((axis.extent - 1) * 2, 1))
                value = tile.op(OpName.MOD, coordinate, period)
                value = tile.op(OpName.MIN, value, tile.op(OpName.SUB, period, value))
            case mode:
                value = tile.op(OpName.MIN, tile.op(OpName.MAX, coordinate, tile.uniform(0)), last)
                if mode is BoundaryMode.FILL:
                    outside.append(tile.op(OpName.NE, coordinate, value))
        points[axis] = _at(value, inside=is_nonempty(axis.extent, scope))
    result = tile.cast(evaluate(node.expr, scope.with_axes(points), space, kernel.needs), node.func.dtype)
    for beyond in outside:
        fill = window.boundary.fill
        result = tile.choose(beyond, tile.literal(float(fill) if result.dtype.is_float else fill, result.dtype), result)
    return result


def _at(coordinate: TileExpr, *, inside: bool) -> AxisValue:
    return AxisValue(const(0), 1, full=inside, tile=coordinate)


def guarded(loaded: Load, condition: TileExpr) -> Load:
    """The same load with one more condition."""
    if condition == loaded.mask:
        return loaded
    mask = condition if loaded.mask is None else tile.op(OpName.AND, condition, loaded.mask)
    space, dims = tile.join([e for e in (loaded.offset, mask) if e is not None])
    return dataclasses.replace(loaded, mask=mask, space=space, dims=dims)


def lower_window_func(node: Compute, kernel: Kernel, scope: Scope, block: Block) -> Scope:
    """A func kept in shared memory over the window that later nodes read."""
    assert node.window is not None
    if id(node) not in kernel.owned:
        size = 1 << (node.window.points - 1).bit_length()
        name = kernel.name(f"{node.func.name}_shared")
        kernel.owned[id(node)] = Buffer(name, node.func.dtype, (size,), 0, flat(), f"window of {node.func.name}")
        kernel.buffer(kernel.owned[id(node)])
    buffer = kernel.owned[id(node)]
    window = window_here(node.window, scope)
    fill_window(node.func, window, node, buffer, None, kernel, scope, block)
    return scope.with_window(node.func, StagedWindow(buffer.name, None, window))
