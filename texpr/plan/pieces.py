"""Outputs that are stored in pieces: what of the tile is cut, and what the pieces read.

    place: {acc: {at: tile, loop: {k: 64}, mma: auto}, y: {at: tile, by: {j: 64}}}

The epilogue runs piece by piece and holds what it needs of one at a time. Registers that a warpgroup's instruction has
filled are cut where they are if all warps lie along the rows: every thread then has its part of every piece, and the
instruction stays as wide as it was. Any other accumulator is kept in pieces from the start, each multiplied by itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from texpr.instructions import WARPGROUP_LEAST_COLUMNS, warpgroup_warps
from texpr.lang.ir import Axis, Expr, Func
from texpr.plan.attach import node_exprs, node_names
from texpr.plan.checks import nodes_of, sized_nodes
from texpr.plan.consumers import computed_sizes
from texpr.plan.errors import ByInvalid, PieceOfRegisters
from texpr.plan.inline import reads_of
from texpr.plan.ir import AxisTile, Compute, Dot, KernelPlan, Node, Prefixes, Reduction, Stage, Unit, Write
from texpr.plan.resolve import Context
from texpr.schedule.words import Memory


def cut_in_place(dot: Dot, sizes: Mapping[Axis, int], warps: int) -> Axis | None:
    """The axis along which the registers of an accumulator can be cut, columns by columns."""
    if dot.unit is not Unit.WGMMA or len(dot.cols) != 1:
        return None
    rows = math.prod(sizes.get(axis, 1) for axis in dot.rows)
    (column,) = dot.cols
    return column if warpgroup_warps(rows, sizes.get(column, 1), warps)[1] == 1 else None


def in_pieces(plan: KernelPlan) -> KernelPlan:
    """The plan with accumulators in the pieces in which outputs want them, where they are not cut in place."""
    sizes = computed_sizes(plan.record, plan.tile)
    writes = [node for node in plan.body if isinstance(node, Write)]
    widths: dict[Func, int] = {}
    for node in reversed(plan.body):
        if not isinstance(node, Reduction) or node.dot is None or cut_in_place(node.dot, sizes, plan.warps) is not None:
            continue
        (func,) = node.funcs
        cols = [axis.name for axis in node.dot.cols]
        for write in writes:
            width = next((width for name, width in write.chunk if cols == [name]), 0)
            if width and any(read.source is func for read in reads_of(write.expr)):
                widths[func] = width
        if node.into is not None and func in widths:
            widths[node.into] = widths[func]
    body = tuple(_in_pieces(node, widths) for node in plan.body)
    return dataclasses.replace(plan, body=body) if widths else plan


def _in_pieces(node: Node, widths: Mapping[Func, int]) -> Node:
    if not isinstance(node, Reduction) or node.dot is None or node.funcs[0] not in widths:
        return node
    return dataclasses.replace(node, dot=dataclasses.replace(node.dot, piece=widths[node.funcs[0]]))


def check_pieces(context: Context, plan: KernelPlan) -> None:
    """A store in pieces reads only what exists in the same pieces, or is cut where it is."""
    _check_accumulators(context, plan)
    _check_registers(context, plan)


def _check_accumulators(context: Context, plan: KernelPlan) -> None:
    """An accumulator that one output wants in pieces exists in those pieces only."""
    sizes = computed_sizes(plan.record, plan.tile)
    for node, local in sized_nodes(plan.nodes, sizes):
        if not isinstance(node, Reduction) or node.dot is None or not node.dot.piece:
            continue
        (column,) = node.dot.cols
        pieces = ((column.name, node.dot.piece),)
        readers = [n for n in nodes_of(plan.nodes) if any(_mentions(e, node.funcs[0]) for e in node_exprs(n))]
        if node.dot.piece >= local[column] and all(not isinstance(n, Write) or len(n.chunk) < 2 for n in readers):
            continue
        others = [n for n in readers if not isinstance(n, Write) or n.chunk != pieces]
        if others:
            cut = next(n for n in readers if isinstance(n, Write) and n.chunk)
            name = node_names(others[0])[0]
            why = f"{node.funcs[0].name} is kept in pieces of {node.dot.piece} along {column.name}, and {name} reads it"
            place = context.record.place[cut.func.name]
            hint = f"by: {{{column.name}: {node.dot.piece}}}, and nothing else, for every output that reads it"
            raise ByInvalid(func=cut.func.name, why=f"{why} otherwise", at=place.location_of("by"), hint=hint)


def _check_registers(context: Context, plan: KernelPlan) -> None:
    """A store in pieces reads only what exists in pieces or is cut where it is: other registers cannot be."""
    whole: dict[str, tuple[Axis, ...]] = {}
    cut: dict[str, Axis] = {}
    for node, sizes in sized_nodes(plan.nodes, computed_sizes(plan.record, plan.tile)):
        match node:
            case Stage(memory=Memory.REGISTERS, source=source, form=AxisTile(axes=axes)):
                whole[source.name] = tuple(axis for axis, _ in axes)
            case Compute(func=func, axes=axes, memory=Memory.REGISTERS):
                whole[func.name] = axes
            case Prefixes(funcs=funcs, axes=axes):
                whole.update({func.name: axes for func in funcs})
            case Reduction(funcs=(func,), dot=Dot() as dot) if not dot.piece:
                column = cut_in_place(dot, sizes, plan.warps)
                whole[func.name] = tuple(axis for axis in node.result if axis is not column)
                if column is not None:
                    cut[func.name] = column
            case Reduction(funcs=funcs, dot=None):
                whole.update({func.name: node.result for func in funcs})
            case _:
                pass
    for node in nodes_of(plan.nodes):
        if not isinstance(node, Write):
            continue
        widths = dict(node.chunk)
        for read in reads_of(node.expr):
            column = cut.get(read.source.name)
            if column is not None and widths.get(column.name, WARPGROUP_LEAST_COLUMNS) < WARPGROUP_LEAST_COLUMNS:
                at = context.record.place[node.func.name].location_of("by")
                why = f"{read.source.name} is cut to {WARPGROUP_LEAST_COLUMNS} columns at least"
                hint = f"by: {{{column.name}: {WARPGROUP_LEAST_COLUMNS}}}"
                raise ByInvalid(func=node.func.name, why=why, at=at, hint=hint)
            for axis in whole.get(read.source.name, ()):
                if axis.name in widths:
                    place = context.record.place.get(node.func.name)
                    raise PieceOfRegisters(
                        output=node.func.name,
                        axis=axis.name,
                        name=read.source.name,
                        at=place.location_of("by") if place is not None else context.record.location,
                    )


def _mentions(expr: Expr, func: Func) -> bool:
    return any(read.source is func for read in reads_of(expr))
