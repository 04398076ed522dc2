"""The loop nest as text: the debugger of a schedule.

One line per node, nesting as ``| ``, sizes always. Whatever the schedule did not say and the plan decided is printed:
guards that stay with the fact that would remove them, the width of every access, re-reads, layout conversions. Node
names are those that ``at:`` accepts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Final

from texpr.instructions import (
    WARPGROUP_MOST_COLUMNS,
    WARPGROUP_ROWS,
    WARPGROUP_WARPS,
    mma_form,
    warpgroup_form,
    warpgroup_warps,
)
from texpr.lang.ir import (
    Algorithm,
    Axis,
    Func,
    Monoid,
    Present,
    Ranking,
    ReduceOp,
    Scalar,
    Tensor,
    has_position,
)
from texpr.lang.show import index_text
from texpr.lang.user_code import TileOp
from texpr.math.bounds import Facts
from texpr.math.expr import TRUE, BoolExpr, IntExpr, free_symbols
from texpr.plan.attach import node_loops, outer_stages
from texpr.plan.checks import nodes_of, shared_buffers
from texpr.plan.clusters import shared_along
from texpr.plan.copies import count_of
from texpr.plan.divided import parts_of, starts_of
from texpr.plan.hidden import (
    conversions,
    elements_of,
    guards_kept,
    reads_per_tile,
    registers_per_thread,
    tile_sizes,
    vector_widths,
)
from texpr.plan.ir import (
    AxisTile,
    Compute,
    Cover,
    Dot,
    Extern,
    Group,
    KernelPlan,
    Node,
    Prefixes,
    Reduction,
    RolePlan,
    Scratch,
    Stage,
    TileAxis,
    Unit,
    Update,
    VariantPlan,
    Window,
    Workspace,
    Write,
)
from texpr.plan.lanes import is_kept_by_rows
from texpr.plan.online import Member
from texpr.plan.ranking import in_rounds
from texpr.plan.resolve import variant_facts
from texpr.plan.show_loops import loop_line
from texpr.plan.show_parts import turnstile_line, with_chunk_names
from texpr.plan.show_text import ceil_text, count_of_things, shortened, size_text
from texpr.schedule.records import Order, Variant
from texpr.schedule.words import Copy, Memory, OrderKind, Start

_SYMBOLS: Final = {ReduceOp.SUM: "+=", ReduceOp.PROD: "*=", ReduceOp.OR: "|=", ReduceOp.AND: "&=", ReduceOp.XOR: "^="}


def show_variant(plan: VariantPlan, algorithm: Algorithm) -> str:
    """The loop nests of all kernels of a variant, in launch order, each line ended by a newline."""
    variant = Variant(name=plan.name, target=(plan.target.name,), when=plan.guard)
    facts = variant_facts(algorithm, variant, plan.target)
    types = ", ".join(f"{name} = {dtype}" for name, dtype in algorithm.types)
    lines = [f"variant {plan.name} of {algorithm.name}   {plan.target}{f'   {types}' if types else ''}"]
    lines.append(f"when {'always' if plan.guard is TRUE else plan.guard}")
    lines += [_workspace_line(space, plan) for space in plan.workspace]
    if not plan.reproducible:
        lines.append("not run-to-run reproducible")
    return "\n".join(lines) + "\n" + "".join(show_kernel(kernel, plan.guard, facts) for kernel in plan.kernels)


def _workspace_line(space: Workspace, plan: VariantPlan) -> str:
    """A buffer, the launches between which it is needed, and those whose bytes it shares."""
    shape = ", ".join(str(extent) for extent in space.shape)
    size = _bytes_text(space.elements, space.dtype.bits)
    first, last = plan.kernels[space.first].name, plan.kernels[space.last].name
    alive = f"in {first}" if first == last else f"from {first} to {last}"
    others = [other.name for other in plan.workspace if other.slot == space.slot and other.name != space.name]
    shared = f"   shares bytes with {', '.join(others)}" if others else ""
    return f"workspace {space.name} [{shape}] {space.dtype}   {size}   {alive}{shared}"


def show_kernel(kernel: KernelPlan, guard: BoolExpr, facts: Facts) -> str:
    """The loop nest of one kernel; ``guard`` and ``facts`` are what holds where it is launched."""
    shared = sum(size for _, size, _ in shared_buffers(kernel))
    head = (
        f"kernel {kernel.name} [{kernel.variant}, {kernel.target}]",
        f"writes {', '.join(func.name for func in kernel.writes)}",
        _warps_text(kernel),
        f"shared {size_text(shared)} of {size_text(kernel.target.shared_limit)}",
        *(["starts early"] if kernel.record.start is Start.EARLY else []),
    )
    lines = [f"fill {fill.name} = {fill.value}   memset of {fill.bits}-bit numbers" for fill in kernel.fills]
    if kernel.extern is not None:
        return "\n".join([*lines, "   ".join(head[:3]), *_extern_lines(kernel.extern)]) + "\n"
    head_lines = [*lines, "   ".join(head), _tile_line(kernel), *_count_lines(kernel)]
    lines = []
    sizes = tile_sizes(kernel)
    if kernel.prologue:
        lines.append("once per program:")
        lines += ["| " + line for node in kernel.prologue for line in _node(node, kernel, sizes)]
        lines.append("for each tile:")
    lines += ["| " + line for line in _in_tile(kernel, sizes)]
    if kernel.epilogue:
        lines.append("after the last tile:")
        lines += ["| " + line for node in kernel.epilogue for line in _node(node, kernel, sizes)]
    lines += _hidden("guards kept", guards_kept(kernel), "none: every tile is full")
    lines += _hidden("vectors", vector_widths(kernel, guard, facts), "no access to global memory")
    lines += _hidden("reads/tile", reads_per_tile(kernel), "none")
    lines += _hidden("conversions", conversions(kernel), "none")
    return "\n".join([*head_lines, *with_chunk_names(lines, kernel)]) + "\n"


def _warps_text(kernel: KernelPlan) -> str:
    """``9 warps (compute x2 split i 4 x 240 registers, load 1 x 24 registers)``."""
    if not kernel.roles:
        return count_of_things(kernel.warps, "warp")
    each = [
        f"{role.name}{_times_text(role)} {role.warps}"
        + ("" if role.registers is None else f" x {role.registers} registers")
        for role in kernel.roles
    ]
    return f"{sum(role.warps * role.times for role in kernel.roles)} warps ({', '.join(each)})"


def _times_text(role: RolePlan) -> str:
    if role.times == 1:
        return ""
    return f" x{role.times} in turn" if role.split is None else f" x{role.times} split {role.split.name}"


def _extern_lines(extern: Extern) -> list[str]:
    """What a hand-written kernel is given."""
    given = [f"{name} = {_given(value)}" for name, value in extern.arguments]
    return [f"| {extern.function} of {PurePath(extern.file).name}   grid {extern.programs}", f"| {', '.join(given)}"]


def _given(value: Tensor | Func | Scratch | Scalar | Present | IntExpr) -> str:
    match value:
        case Tensor(name=name) | Func(name=name) | Scratch(name=name) | Scalar(name=name):
            return name
        case Present(tensor=tensor):
            return f"present({tensor.name})"
        case _:
            return str(value)


def _hidden(title: str, entries: Sequence[str], nothing: str) -> list[str]:
    if len(entries) <= 1:
        return [f"{title}: {entries[0] if entries else nothing}"]
    return [f"{title}:", *(f"  {entry}" for entry in entries)]


# ---- the tile ----------------------------------------------------------------------------------------------------


def _order_text(order: Order) -> str:
    match order.kind:
        case OrderKind.REVERSE:
            return f"{order.axis} reversed"
        case OrderKind.GROUP:
            return f"{order.axis} in bands of {order.by}"
        case OrderKind.HILBERT:
            return f"{' and '.join(order.axes)} in squares of {order.by} x {order.by} along Hilbert curves"
        case OrderKind.FLATTEN:
            return f"steps along {', '.join(order.axes)} in equal shares"


def _tile_line(kernel: KernelPlan) -> str:
    axes = "  ".join(_axis_tile(t) for t in kernel.tile)
    counts = [_count_text(t) for t in kernel.tile if t.cover is Cover.GRID]
    grid = " * ".join(counts) or "1"
    parts = [f"tile  {axes or 'one point'}", f"grid {grid}"]
    if kernel.cluster:
        parts.append(f"cluster {_pairs([(axis.name, programs) for axis, programs in kernel.cluster])}")
    if kernel.order is not None:
        parts.append(_order_text(kernel.order))
    if kernel.tickets is not None:
        parts.append("taken in the order in which programs start")
    if kernel.record.trim is not None:
        parts.append(f"tiles along {', '.join(kernel.record.trim.grid)} without a live point left out")
    parts += [f"{axis} visited by {name}" for axis, name in kernel.record.visit.items()]
    if kernel.record.persistent is not None:
        programs = kernel.record.persistent.programs
        most = "sms" if programs is None else str(programs.value)
        together = ", a cluster at a time," if kernel.cluster else ""
        parts.append(f"persistent: at most {most} programs{together} loop over the tiles")
    return "   ".join(parts)


def _count_lines(kernel: KernelPlan) -> list[str]:
    """The dims of tiles and loops that programs read from memory."""
    loops = [loop.axis for node in nodes_of(kernel.nodes) for loop in node_loops(node)]
    axes = [t.axis for t in kernel.tile] + loops
    used = {name for axis in axes for name in free_symbols(axis.extent)}
    counts = [count for count in kernel.counts if count.dim.name in used]
    return [
        f"dim {c.dim.name} = {c.dim.source}[], read by each program; programs are launched for {c.dim.room}"
        for c in counts
    ]


def _axis_tile(tile: TileAxis) -> str:
    whole = f" (whole {tile.axis.extent})" if tile.cover is Cover.WHOLE else ""
    parts = parts_of(tile.size)
    divided = f" = {' + '.join(map(str, parts))}" if len(parts) > 1 else ""
    return f"{tile.axis.name}:{tile.size}{divided}{whole}"


def _count_text(tile: TileAxis) -> str:
    return ceil_text(tile.axis.extent, tile.together) if tile.grouped is None else f"({tile.count})"


# ---- nodes -------------------------------------------------------------------------------------------------------


def _in_tile(kernel: KernelPlan, sizes: Mapping[Axis, int]) -> Iterator[str]:
    """The nodes of a tile; those that only the program with the last part of it has stand further in."""
    indent = ""
    for node in kernel.body:
        yield from (indent + line for line in _node(node, kernel, sizes))
        if kernel.turnstile is not None and kernel.passes_on(node):
            yield turnstile_line(kernel.turnstile)
            indent = "| "


def _node(node: Node, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> Iterator[str]:
    match node:
        case Stage():
            yield _stage_line(node, kernel)
        case Compute():
            yield _compute_line(node, kernel, sizes)
        case Prefixes():
            yield _prefixes_line(node, kernel, sizes)
        case Reduction():
            yield from _reduction(node, kernel, {**sizes, **{loop.axis: loop.size for loop in node.loops}})
        case Group():
            yield from _group(node, kernel, {**sizes, **{loop.axis: loop.size for loop in node.loops}})
        case Write():
            yield from _write(node, kernel, {**sizes, **{loop.axis: loop.size for loop in node.loops}})


def _stage_line(node: Stage, kernel: KernelPlan) -> str:
    dtype = node.source.dtype
    match node.form:
        case AxisTile(axes=axes):
            shape = ", ".join(f"{axis.name}:{size}" for axis, size in axes) or "1"
            elements = elements_of([axis for axis, _ in axes], dict(axes))
        case Window(lo=lo, extent=extent):
            shape = ", ".join(_box(low, count) for low, count in zip(lo, extent, strict=True))
            elements = node.form.points
    size = elements * dtype.bits // 8
    owner = kernel.role_of(node)
    if node.memory is Memory.REGISTERS and owner is not None:
        held = f"{node.ahead} ahead, role {owner.name}" if node.ahead else f"role {owner.name}"
        return _line(f"load {node.name}  [{shape}] {dtype} -> registers", held, node.schedule)
    if node.memory is Memory.REGISTERS:
        registers = registers_per_thread(elements, dtype, kernel)
        return _line(f"load {node.name}  [{shape}] {dtype} -> registers", registers, node.schedule)
    kept = size if isinstance(node.form, AxisTile) else _rounded(node.form.points) * dtype.bits // 8
    many = f"{node.depth} x " if node.depth > 1 else ""
    many += "".join(f"{axis.extent} along {axis.name} x " for axis in node.copies)
    how = node.copy.value
    if node.copy is not Copy.SYNC:
        whose = f"{node.ahead} ahead" if owner is None else f"role {owner.name}"
        how = f"{node.copy.value}, depth {node.depth}, {whose}"
        along = shared_along(node, kernel)
        how += f", multicast along {', '.join(axis.name for axis in along)}" if along else ""
    elif owner is not None:
        how = f"sync, depth {node.depth}, role {owner.name}"
    elif node.ahead:
        how = f"sync, {node.ahead} ahead"
    how += ", read a step later" if node.reading.lags else ""
    how += ", all kept" if node.kept is not None else ""
    by = f"   by {_pairs(node.by)}" if node.by else ""
    by += "   zero unless " + " & ".join(map(shortened, node.where)) if node.where else ""
    window = "window " if isinstance(node.form, Window) else ""
    target = f"shared {many}{size_text(kept)}"
    return _line(f"load {node.name}  {window}[{shape}] {dtype} -> {target}", f"{how}{by}", node.schedule)


def _compute_line(node: Compute, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> str:
    left = f"{node.func.name}[{_axes_text(node.axes)}] = {shortened(node.expr)}"
    dtype = node.func.dtype
    if node.window is not None:
        lo = ", ".join(_box(low, n) for low, n in zip(node.window.lo, node.window.extent, strict=True))
        kept = size_text(_rounded(node.window.points) * dtype.bits // 8)
        by = f"by {_pairs(node.by)}" if node.by else ""
        return _line(f"{left}   window [{lo}] {dtype} -> shared {kept}", by, node.schedule)
    registers = registers_per_thread(elements_of(node.axes, sizes), dtype, kernel)
    return _line(f"{left}   {_shape(node.axes, sizes)} {dtype}", registers, node.schedule)


def _group(node: Group, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> Iterator[str]:
    """The members' starts, the loops with what carries every member on, and the lanes reduced after them."""
    members = [n for n in node.body if isinstance(n, Reduction) and n.carried is not None]
    for one in members:
        kept = [axis for axis in one.keep if axis in sizes]
        rows = one.dot is not None or is_kept_by_rows(one, node.body, sizes)
        lanes = kept if rows else [*kept, *one.axes]
        many = len(one.carried.parts) if one.carried is not None else 1
        dtype = one.exprs[0].dtype
        registers = registers_per_thread(elements_of(lanes, sizes) * many, dtype, kernel)
        helpers = f"   with {count_of_things(many - len(one.funcs), 'helper sum')}" if many > len(one.funcs) else ""
        start = f"{', '.join(func.name for func in one.funcs)} = {_identity(one.op)}"
        yield _line(f"{start}   {_shape(lanes, sizes)} {dtype}{helpers}", registers, one.schedule)
    indent = ""
    named = ", ".join(func.name for func in node.funcs)
    for loop in node.loops:
        yield f"{indent}{loop_line(node.funcs[0].name, loop)}   {node.directive}: {named}{_overlap_text(node)}"
        indent += "| "
    for inner in node.body:
        if inner in members and isinstance(inner, Reduction) and inner.carried is not None:
            lines = _carried(inner, inner.carried, node, kernel, sizes)
            late = inner.funcs[0] in node.lagging
            yield from (indent + (line.replace(_WAITED, _LATE) if late else line) for line in lines)
        else:
            yield from (indent + line for line in _node(inner, kernel, sizes))
    for one in members:
        if one.dot is None and one.carried is not None and not is_kept_by_rows(one, node.body, sizes):
            kept = [axis for axis in one.keep if axis in sizes]
            names = ", ".join(func.name for func in one.funcs)
            across = ", ".join(axis.name for axis in one.axes if sizes.get(axis, 1) > 1)
            if across:
                yield f"{names} = {_op_name(one.op)} of its lanes along {across}   -> {_shape(kept, sizes)}"
        if one.carried is not None and one.carried.result is not None:
            yield f"{one.funcs[0].name} = {shortened(one.carried.result)}   online: hoisted"


_WAITED = "waited for"
_LATE = "in flight in the next step"


def _overlap_text(node: Group) -> str:
    """Which products of a step are in flight at once."""
    if not node.lagging:
        return ""
    leading, lagging = (", ".join(func.name for func in funcs) for funcs in (node.leading, node.lagging))
    return f"   overlap: {leading} of a step beside {lagging} of the step before"


def _carried(
    node: Reduction, member: Member, group: Group, kernel: KernelPlan, sizes: Mapping[Axis, int]
) -> Iterator[str]:
    """What happens to a member in a step: its rescaling, then its summand."""
    names = ", ".join(func.name for func in node.funcs)
    if member.factor_of is not None:
        helpers = f" and {count_of_things(len(member.parts) - 1, 'helper sum')}" if len(member.parts) > 1 else ""
        yield f"{names} *= {shortened(member.factor_of)}   online: rescale, 1 factor{helpers}"
    if member.shift_of is not None:
        what = "shift" if len(member.parts) == 1 else f"span, {count_of_things(len(member.parts) - 1, 'helper sum')}"
        yield f"{names} moved by {shortened(member.shift_of)}   online: {what}"
    if node.dot is not None:
        yield _dot_line(names, node, node.dot, kernel, sizes)
        return
    symbol = _SYMBOLS.get(node.op) if isinstance(node.op, ReduceOp) else None
    text = ", ".join(shortened(expr) for expr in node.exprs[: len(node.funcs)])
    where = f"   where {shortened(node.where)}" if node.where is not None else ""
    combined = f"{names} {symbol} {text}{where}" if symbol else f"{names} = {_op_name(node.op)}({names}, {text}{where})"
    across = [axis.name for axis in node.axes if sizes.get(axis, 1) > 1]
    rows = across and is_kept_by_rows(node, group.body, sizes)
    yield combined + (f"   across {', '.join(across)} in every step" if rows else "")


def _prefixes_line(node: Prefixes, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> str:
    names = ", ".join(func.name for func in node.funcs)
    values = ", ".join(shortened(expr) for expr in node.exprs)
    if isinstance(node.op, TileOp):
        statics = "".join(f", {name}={value}" for name, value in node.op.statics)
        text = f"{names} = {node.op.name}({values}{statics}) of {node.op.file}, lines along {node.axis.name}"
        elements = elements_of(node.axes, sizes) * len(node.funcs)
        dtype = node.op.results[0].dtype
        registers = registers_per_thread(elements, dtype, kernel)
        return _line(f"{text}   {_shape(node.axes, sizes)} {dtype}", registers, node.schedule)
    words = [f"{'exclusive ' if node.exclusive else ''}scan of {values} by {_op_name(node.op)} along {node.axis.name}"]
    words += ["from the last to the first"] if node.reverse else []
    words += [f"anew where {shortened(node.reset)}"] if node.reset is not None else []
    words += ["from step to step"] if node.carried else []
    if node.look_back is not None:
        bits = sum(node.look_back.widths)
        words.append(f"looking back over {node.look_back.window} tiles at a time, {bits} bits each")
    dtype = node.exprs[0].dtype
    registers = registers_per_thread(elements_of(node.axes, sizes) * len(node.funcs), dtype, kernel)
    return _line(f"{names} = {', '.join(words)}   {_shape(node.axes, sizes)} {dtype}", registers, node.schedule)


def _reduction(node: Reduction, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> Iterator[str]:
    names = ", ".join(func.name for func in node.funcs)
    dtype = node.exprs[0].dtype
    kept = [axis for axis in node.keep if axis in sizes]
    lanes = kept if node.dot is not None else [*kept, *(axis for axis in node.axes if axis in sizes)]
    values = elements_of(lanes, sizes) * len(node.funcs) * count_of(node.copies)
    registers = registers_per_thread(values, dtype, kernel)
    pieces = f"   in pieces of {node.dot.piece} columns" if node.dot is not None and node.dot.piece else ""
    pieces += "".join(f"   {axis.extent} accumulators along {axis.name}" for axis in node.copies)
    if not node.loops and node.dot is None:
        over = ", ".join(axis.name for axis in node.axes)
        left = f"{names} = {_op_name(node.op)} over {over} of {_body_text(node)}"
        if node.dot is not None:
            left = _dot_line(names, node, node.dot, kernel, sizes).replace(" += ", " = ", 1)
        made = _made(node, kept, sizes)
        yield _line(f"{left}   {_shape(lanes, sizes)} {dtype} -> {made}", registers, node.schedule)
        yield from ("| " + line for inner in node.body for line in _node(inner, kernel, sizes))
        return
    start = f"{names} continues {node.into.name}" if node.into is not None else f"{names} = {_identity(node.op)}"
    yield _line(f"{start}   {_shape(lanes, sizes)} {dtype}{pieces}", registers, node.schedule)
    yield from _loops(node, node.funcs[0].name, kernel, sizes)
    indent = "| " * len(node.loops)
    if node.dot is not None:
        yield indent + _dot_line(names, node, node.dot, kernel, sizes)
    else:
        symbol = _SYMBOLS.get(node.op) if isinstance(node.op, ReduceOp) else None
        combined = f"= {_op_name(node.op)}({names}, {_body_text(node)})"
        yield f"{indent}{names} {f'{symbol} {_body_text(node)}' if symbol else combined}"
    across = [axis.name for axis in node.axes if sizes.get(axis, 1) > 1]
    if across and node.dot is None and not isinstance(node.op, Ranking):
        yield f"{names} = {_op_name(node.op)} of its lanes along {', '.join(across)}   -> {_shape(kept, sizes)}"


def _made(node: Reduction, kept: Sequence[Axis], sizes: Mapping[Axis, int]) -> str:
    """The shape of what a reduction without loops yields; for a ranking, with the way it is found."""
    if not isinstance(node.op, Ranking):
        return _shape(kept, sizes)
    count, width = sizes[node.op.into], elements_of(node.axes, sizes)
    how = f"{count} rounds" if in_rounds(count, width, False) else f"bitonic, {width} keys"
    return f"{_shape([*kept, node.op.into], sizes)} by {how}"


def _dot_line(names: str, node: Reduction, dot: Dot, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> str:
    rows, cols = elements_of(dot.rows, sizes), elements_of(dot.cols, sizes)
    steps = elements_of(node.axes, sizes)
    left = f"{names} += {shortened(dot.a)} * {shortened(dot.b)}"
    for side, guards in (("a", dot.a_where), ("b", dot.b_where)):
        if guards:
            left += f"   {side} where {' & '.join(shortened(guard) for guard in guards)}"
    if dot.where:
        left += f"   in the end where {' & '.join(shortened(guard) for guard in dot.where)}"
    tile = f"[{rows} x {steps}] x [{steps} x {cols}]"
    if dot.unit is Unit.FMA:
        return f"{left}   fma {tile}: {rows * cols * steps // (kernel.warps * 32)} a thread"
    if dot.unit is Unit.WGMMA:
        return f"{left}   {_warpgroup_text(dot, rows, cols, steps, kernel)}"
    form = mma_form(dot.a.dtype, dot.b.dtype, kernel.target)
    assert form is not None
    each = max(1, rows * cols * steps // (form.m * form.n * form.k * kernel.warps))
    instead = f"   instead of wgmma: {dot.instead}" if dot.instead else ""
    return f"{left}   mma {form.name} {dot.a.dtype} x {dot.b.dtype}, {tile}: {each} a warp{instead}"


def _warpgroup_text(dot: Dot, rows: int, cols: int, steps: int, kernel: KernelPlan) -> str:
    """The instruction of a warpgroup, how often each group issues it in a step, and where its operands are."""
    form = warpgroup_form(dot.a.dtype, dot.b.dtype, kernel.target)
    assert form is not None
    counts: dict[str, int] = {}
    for (_, height), (_, width) in itertools.product(starts_of(rows, rows), starts_of(cols, dot.piece or cols)):
        along_rows, along_cols = warpgroup_warps(height, width, kernel.warps)
        columns = min(width // along_cols, WARPGROUP_MOST_COLUMNS)
        blocks = max(1, height // (WARPGROUP_ROWS // WARPGROUP_WARPS * along_rows))
        name = form.name(columns)
        counts[name] = counts.get(name, 0) + blocks * (width // along_cols // columns) * (steps // form.k)
    names, each = " and ".join(counts), " + ".join(map(str, counts.values()))
    flight = f"{dot.in_flight} in flight" if dot.in_flight else _WAITED
    what = f"wgmma {names} {dot.a.dtype} x {dot.b.dtype}, [{rows} x {steps}] x [{steps} x {cols}]"
    coarse = ", sums of about 14 bits" if form.coarse else ""
    return f"{what}: {each} a warpgroup, a {dot.a_in.value}, b shared, {flight}{coarse}"


def _write(node: Write, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> Iterator[str]:
    yield from _loops(node, node.func.name, kernel, sizes)
    indent = "| " * len(node.loops)
    left = f"{node.func.name}[{index_text(node.func, node.indices)}]"
    expr = shortened(node.expr)
    value = "" if expr == left else f" = {expr}"
    where = "workspace" if node.func.output is None else "global"
    if node.update is not None:
        yield indent + _update_line(node, node.update, left, where, sizes)
        return
    chunk = f"   in pieces of {_pairs(node.chunk)}" if node.chunk else ""
    via = "   via shared" if node.via_shared else ""
    via += f", tma, depth {node.depth}" if node.copy is Copy.TMA else ""
    shape = _shape(node.axes, sizes)
    yield indent + _line(f"store {left}{value}   {shape} {node.func.dtype} -> {where}{via}{chunk}", "", node.schedule)


def _update_line(node: Write, update: Update, left: str, where: str, sizes: Mapping[Axis, int]) -> str:
    conditions = [shortened(part) for part in update.where] + [f"{axis.name} == 0" for axis in update.once]
    guard = f"   where {' & '.join(conditions)}" if conditions else ""
    symbol = _SYMBOLS.get(update.op)
    combined = f"{symbol} {shortened(node.expr)}" if symbol else f"= {update.op.value}(.., {shortened(node.expr)})"
    shared = update.memory is Memory.SHARED
    last = "stored to" if update.owned else "once per element to"
    how = f"atomic in shared, then {last} {where}" if shared else f"atomic in {where}"
    how = f"equal keys of a warp together, {how}" if update.aggregate else how
    how = f"stored to {where}: keys differ" if update.single else how
    shape = _shape([axis for axis in node.axes if axis not in update.once], sizes)
    return _line(f"update {left} {combined}{guard}   {shape} {node.func.dtype}", how, node.schedule)


def _loops(node: Reduction | Write, name: str, kernel: KernelPlan, sizes: Mapping[Axis, int]) -> Iterator[str]:
    """A node's loops and what stands in them, its own expressions excepted."""
    early = outer_stages(node.loops, node.body)
    indent = ""
    for loop in node.loops:
        yield indent + loop_line(name, loop)
        indent += "| "
        yield from (indent + _stage_line(stage, kernel) for stage in early.get(loop.axis, ()))
    for inner in node.body:
        if not any(inner in stages for stages in early.values()):
            yield from (indent + line for line in _node(inner, kernel, sizes))


# ---- words -------------------------------------------------------------------------------------------------------


def _box(low: IntExpr, extent: int) -> str:
    """One dim of a window; the first index of a tile along ``i`` is written ``i0``."""
    return f"{str(low).replace('.0', '0')}..+{extent}"


def _line(left: str, right: str, schedule: str) -> str:
    place = f"   ({PurePath(schedule).name})" if schedule else ""
    return f"{left}{f'   {right}' if right else ''}{place}"


def _body_text(node: Reduction) -> str:
    shown = node.exprs[:1] if has_position(node.op) else node.exprs
    where = f"   where {shortened(node.where)}" if node.where is not None else ""
    return ", ".join(shortened(expr) for expr in shown) + where


def _op_name(op: ReduceOp | Monoid | Ranking | TileOp) -> str:
    return op.value if isinstance(op, ReduceOp) else op.name


def _identity(op: ReduceOp | Monoid | Ranking) -> str:
    if isinstance(op, Ranking):
        return "nothing"
    if isinstance(op, Monoid):
        return ", ".join(repr(const.value) for const in op.identity)
    match op:
        case ReduceOp.SUM | ReduceOp.OR | ReduceOp.XOR | ReduceOp.ANY:
            return "0"
        case ReduceOp.PROD:
            return "1"
        case ReduceOp.MAX | ReduceOp.ARGMAX:
            return "least value"
        case ReduceOp.MIN | ReduceOp.ARGMIN:
            return "greatest value"
        case ReduceOp.ALL | ReduceOp.AND:
            return "all ones"


def _shape(axes: Sequence[Axis], sizes: Mapping[Axis, int]) -> str:
    return f"[{', '.join(f'{axis.name}:{sizes[axis]}' for axis in axes if axis in sizes)}]"


def _axes_text(axes: Sequence[Axis]) -> str:
    return ", ".join(axis.name for axis in axes)


def _pairs(pairs: Sequence[tuple[str, int]]) -> str:
    return " ".join(f"{name}:{size}" for name, size in pairs)


def _bytes_text(elements: IntExpr, bits: int) -> str:
    text = str(elements)
    return f"{bits // 8} * {text if text.isidentifier() or text.isdigit() else f'({text})'} bytes"


def _rounded(points: int) -> int:
    return 1 << (points - 1).bit_length()
