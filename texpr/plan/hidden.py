"""What a loop nest hides: guards that stay, the width of accesses, re-reads, layout conversions. One line of text each,
for ``show``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.ir import Axis, AxisRef, BoundaryMode, Expr, Func, Read, Tensor
from texpr.lang.show import expr_text
from texpr.lang.user_code import TileOp
from texpr.math.bounds import Facts
from texpr.math.expr import BoolExpr
from texpr.plan.access import fastest_axis, memory_of, vector_of
from texpr.plan.attach import node_body, node_exprs, node_loops, outer_stages
from texpr.plan.chains import held_in_rows
from texpr.plan.consumers import computed_sizes
from texpr.plan.inline import axes_of, key_of, reads_of
from texpr.plan.ir import (
    AxisTile,
    Compute,
    Cover,
    Dot,
    Group,
    KernelPlan,
    LoopAxis,
    Node,
    Prefixes,
    Reduction,
    Stage,
    Unit,
    Write,
)
from texpr.plan.resolve import constant


@dataclass(frozen=True, slots=True)
class Site:
    """A read or store of global memory: the node it belongs to, the loops around it, and the axes that have lanes."""

    node: Node
    read: Read
    loops: tuple[LoopAxis, ...]
    store: bool = False


def tile_sizes(kernel: KernelPlan) -> dict[Axis, int]:
    """The size of every axis of the tile, loops excluded, as one instance of the role that computes has it."""
    return computed_sizes(kernel.record, kernel.tile)


def all_nodes(nodes: Iterable[Node], loops: tuple[LoopAxis, ...] = ()) -> Iterator[tuple[Node, tuple[LoopAxis, ...]]]:
    """Every node with the loops around what it evaluates, its own included; parents first."""
    for node in nodes:
        inner = (*loops, *node_loops(node))
        yield node, inner
        early = outer_stages(node_loops(node), node_body(node))
        for n, loop in enumerate(node_loops(node), len(loops) + 1):
            yield from all_nodes(early.get(loop.axis, ()), inner[:n])
        yield from all_nodes([n for n in node_body(node) if not any(n in stages for stages in early.values())], inner)


def elements_of(axes: Iterable[Axis], sizes: Mapping[Axis, int]) -> int:
    """Elements of a tile over ``axes``."""
    return math.prod(sizes.get(axis, 1) for axis in axes)


def registers_per_thread(elements: int, dtype: DType, kernel: KernelPlan) -> str:
    """``64 registers/thread`` for so many values spread over the program."""
    bits = max(32, dtype.compute.bits) if dtype.is_float else dtype.bits
    registers = elements * bits / 32 / (kernel.warps * 32)
    return f"{registers:g} registers/thread" if registers >= 1 else "1 register/thread"


def guards_kept(kernel: KernelPlan) -> list[str]:
    """Tiles and loops whose last step may reach past the end of their axis, with the fact that would rule it out."""
    found: dict[str, None] = {}
    for t in kernel.tile:
        if not t.full:
            what = "the tile covers more than the axis" if t.cover is Cover.WHOLE else "the last tile may be partial"
            found[_guard(t.axis, t.missing, what)] = None
    for node, _ in all_nodes(kernel.nodes):
        for loop in node_loops(node):
            if not loop.full:
                found[_guard(loop.axis, loop.missing, "the last step may be partial")] = None
    return list(found)


def _guard(axis: Axis, missing: str, what: str) -> str:
    return f"{axis.name} < {axis.extent}   {what}; {missing} removes it"


# ---- accesses ----------------------------------------------------------------------------------------------------


def sites(kernel: KernelPlan) -> list[Site]:
    """Every read and store of global memory in execution order: stages where they fetch, other reads where they are
    evaluated."""
    held = _held(kernel)
    found: list[Site] = []
    nodes = list(all_nodes(kernel.nodes))
    staged = [(node, {key_of(read) for read in node.reads}, loops) for node, loops in nodes if isinstance(node, Stage)]
    together: dict[tuple[LoopAxis, ...], set[object]] = {}  # members of a group load in one step what they share
    for node, loops in nodes:
        if isinstance(node, Stage):
            read = node.form.read if isinstance(node.form, AxisTile) else node.reads[0]
            if not any(start for _, start in node.part):  # the parts of a tile are one access of it
                found.append(Site(node, read, loops))
            continue
        carried = isinstance(node, Reduction) and node.carried is not None
        seen = together.setdefault(loops, set()) if carried else set()
        for expr in node_exprs(node):
            for read in reads_of(expr):
                key = key_of(read)
                fetched = any(
                    read.source is stage.source and key in keys and _serves(stage, around, loops)
                    for stage, keys, around in staged
                )
                if read.source in held or fetched or key in seen:
                    continue
                seen.add(key)
                found.append(Site(node, read, loops))
        if isinstance(node, Write):
            found.append(Site(node, Read(node.func, node.indices), loops, store=True))
    return found


def _serves(stage: Stage, around: Sequence[LoopAxis], loops: Sequence[LoopAxis]) -> bool:
    """Whether the tile of a stage in the loops ``around`` it is there in ``loops``: inside of its own, or kept."""
    if len(around) <= len(loops) and all(one is other for one, other in zip(around, loops, strict=False)):
        return True
    return stage.kept is not None and any((loop.axis, loop.size) == stage.kept for loop in loops)


def _held(kernel: KernelPlan) -> set[Tensor | Func]:
    held: set[Tensor | Func] = set()
    for node, _ in all_nodes(kernel.nodes):
        match node:
            case Reduction(funcs=funcs) | Prefixes(funcs=funcs):
                held.update(funcs)
            case Compute(func=func):
                held.add(func)
            case Group(seen=seen):
                held.update(() if seen is None else (seen[0],))
            case Stage() | Write():
                pass
    return held


def vector_widths(kernel: KernelPlan, guard: BoolExpr, facts: Facts) -> list[str]:
    """Per tensor, the narrowest access: how many bytes a thread moves at once, and the fact that would widen it."""
    widths: dict[str, tuple[int, str]] = {}
    for site in sites(kernel):
        sizes = {**tile_sizes(kernel), **{loop.axis: loop.size for loop in site.loops}}
        memory = memory_of(site.read.source, guard)
        lanes = sorted((a for a in axes_of(site.read) if sizes.get(a, 1) > 1), key=lambda a: a.name)
        fast = fastest_axis(memory, site.read, lanes)
        if not lanes:
            width, why = memory.dtype.bits // 8, "one element for all threads"
        elif fast is None:
            width, why = memory.dtype.bits // 8, "not contiguous along an axis of the tile"
        else:
            mode = BoundaryMode.NONE if site.store else site.read.boundary.mode
            vector = vector_of(memory, site.read.indices, mode, fast, sizes[fast], facts)
            width = vector.elements * memory.dtype.bits // 8
            why = f"along {fast.name}{f'; missing: {vector.missing}' if vector.missing else ''}"
        known = widths.get(memory.name)
        if known is None or width < known[0]:
            widths[memory.name] = (width, why)
    return [f"{name} {width} bytes ({why})" for name, (width, why) in widths.items()]


def reads_per_tile(kernel: KernelPlan) -> list[str]:
    """Per tensor, how often one of its elements is fetched for a tile: once for every node that reads it, every point
    it is read at, and every step of a loop that the read does not move with."""
    found: dict[str, list[tuple[str, str]]] = {}
    for site in sites(kernel):
        if site.store:
            continue
        again = [loop for loop in site.loops if loop.axis not in _moving(site)]
        factors = [_steps(loop) for loop in again]
        reader = "stage" if isinstance(site.node, Stage) else _name(site.node)
        name = site.read.source.name
        found.setdefault(name, []).append((reader, " * ".join(f for f in factors if f != "1") or "1"))
    lines = []
    for name, reads in found.items():
        counts: dict[tuple[str, str], int] = {}
        for reader, factor in reads:
            counts[reader, factor] = counts.get((reader, factor), 0) + 1
        texts = []
        for (reader, factor), count in counts.items():
            times = factor if count == 1 else str(count) if factor == "1" else f"{count} * {factor}"
            texts.append(f"{times}x by {reader}" if reader != "stage" else f"{times}x, staged")
        lines.append(f"{name} {', '.join(texts)}")
    return lines


def _moving(site: Site) -> set[Axis]:
    node = site.node
    if isinstance(node, Stage):
        return {axis for read in node.reads for axis in axes_of(read)}
    return set(axes_of(site.read))


def _steps(loop: LoopAxis) -> str:
    extent = constant(loop.axis.extent)
    if extent is not None:
        return str(-(-extent // loop.size))
    text = str(loop.axis.extent)
    return f"ceil({text if text.isidentifier() else f'({text})'}/{loop.size})"


def _name(node: Node) -> str:
    match node:
        case Reduction(funcs=funcs) | Group(funcs=funcs) | Prefixes(funcs=funcs):
            return funcs[0].name
        case Compute(func=func) | Write(func=func):
            return func.name
        case Stage():
            return node.name


# ---- layouts -----------------------------------------------------------------------------------------------------


def conversions(kernel: KernelPlan) -> list[str]:
    """Values that change layout on the way: through shared memory, with a barrier."""
    found: dict[str, None] = {}
    matrix = {func for node, _ in all_nodes(kernel.nodes) for func in _accumulators(node)}
    passed_on = held_in_rows(kernel)
    staged = {key_of(read) for node, _ in all_nodes(kernel.nodes) if isinstance(node, Stage) for read in node.reads}
    for node, _ in all_nodes(kernel.nodes):
        if isinstance(node, Reduction) and node.dot is not None:
            for side, expr in (("a", node.dot.a), ("b", node.dot.b)):
                in_place = passed_on if side == "a" and node.funcs[0] in passed_on else frozenset()
                for text in _operand_conversions(node.dot, expr, staged, in_place):
                    found[f"{text} -> operand {side} of {node.funcs[0].name}"] = None
        if isinstance(node, Prefixes) and _moves(node, kernel):
            names = ", ".join(func.name for func in node.funcs)
            if isinstance(node.op, TileOp):
                found[f"{names}: operands -> layout {node.op.layout.value} of {node.op.name}, and back"] = None
                continue
            found[f"{names}: rows -> runs along {node.axis.name}, one a thread, and back"] = None
        if isinstance(node, Write):
            sources = {read.source for read in reads_of(node.expr)}
            products = sorted(f.name for f in sources & matrix if isinstance(f, Func))
            if products:  # all is computed in the layout of one of them
                via = "explicit shared memory" if node.via_shared else "shared memory"
                found[f"{node.func.name}: layout of {products[0]} -> rows of {node.func.name}, through {via}"] = None
                for read in _full_reads(node, matrix):
                    found[f"{expr_text(read)}: rows -> layout of {products[0]}"] = None
    return list(found)


def _moves(node: Prefixes, kernel: KernelPlan) -> bool:
    """Whether a scan leaves the layout that memory is accessed in: unless lanes lie along another, contiguous axis."""
    if isinstance(node.op, TileOp):
        return True
    sizes = tile_sizes(kernel)
    for other, loops in all_nodes(kernel.nodes):
        if other is node:
            sizes |= {loop.axis: loop.size for loop in loops}
    last = node.axes[-1]
    return sizes[node.axis] > 1 and (last is node.axis or sizes[last] < 32)


def _accumulators(node: Node) -> Sequence[Func]:
    if isinstance(node, Reduction) and node.dot is not None and node.dot.unit is not Unit.FMA:
        return node.funcs
    return ()


def _operand_conversions(
    dot: Dot, expr: Expr, staged: set[tuple[object, ...]], in_place: frozenset[Func]
) -> list[str]:
    """Operand reads that come straight from global memory (loaded in rows) or from registers, and are moved into the
    unit's layout; those ``in_place`` are where the unit wants them."""
    reads = [read for read in reads_of(expr) if key_of(read) not in staged and read.source not in in_place]
    return [f"{expr_text(read)}: rows" for read in reads if axes_of(read) & {*dot.rows, *dot.cols}]


def _full_reads(node: Write, matrix: set[Func]) -> list[Read]:
    """Reads of an epilogue that span the whole tile."""
    return [
        read
        for read in reads_of(node.expr)
        if read.source not in matrix and set(node.axes) <= axes_of(read) and _is_plain(read)
    ]


def _is_plain(read: Read) -> bool:
    return all(isinstance(index, AxisRef) for index in read.indices)
