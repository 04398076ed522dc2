"""Choosing spaces: which axes are fused into one physical dim, which axis is contiguous, how wide threads access
memory.

The grouping is made once per kernel, so that values computed by different nodes share their dims and need no
conversion: two axes are fused only if every node and every read treats them alike. The axis that most memory traffic
walks with stride 1 gets a dim of its own, last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from texpr.instructions import (
    WARPGROUP_MOST_COLUMNS,
    WARPGROUP_ROWS,
    WARPGROUP_WARPS,
    mma_form,
    warpgroup_form,
    warpgroup_warps,
)
from texpr.lang.ir import Axis, BoundaryMode, Expr, Func, Tensor
from texpr.math.bounds import Facts
from texpr.math.expr import BoolExpr
from texpr.plan.access import fastest_axis, memory_of, vector_of
from texpr.plan.attach import node_exprs, node_loops
from texpr.plan.chains import works_on_rows
from texpr.plan.checks import nodes_of
from texpr.plan.errors import MapDoesNotFit, NotLowered
from texpr.plan.inline import axes_of, reads_of
from texpr.plan.ir import Compute, Dot, Group, KernelPlan, Prefixes, Reduction, Stage, Unit, Write
from texpr.plan.resolve import constant
from texpr.schedule.words import Memory
from texpr.tile.clusters import NO_CLUSTER, Cluster, cluster_of
from texpr.tile.declarations import PhysicalDim, Space
from texpr.tile.layouts import Bases, Blocked, MmaV2, MmaV3, Operand, blocked, mapped, mma_warps, part_of, row_warps

_PIECES = 32


@dataclass(frozen=True, slots=True)
class Grouping:
    """The kernel's axes with lanes, partitioned into physical dims in canonical order (contiguous axis last), the
    widest vector that is proved along the contiguous axis, how many lanes may lie along it, and the cluster that has
    parts of the tiles."""

    groups: tuple[tuple[Axis, ...], ...]
    vector: int
    row_lanes: int = 32
    cluster: Cluster = NO_CLUSTER

    def ctas(self, dims: Sequence[PhysicalDim]) -> Bases:
        """Which part of a tile over ``dims`` each program of the cluster has."""
        return self.cluster.bases([[name for name, _ in dim.axes] for dim in dims])

    def dims(self, sizes: Mapping[Axis, int]) -> tuple[PhysicalDim, ...]:
        """The dims of a tile with these axis sizes; axes of size 1 or absent vanish."""
        found = []
        for group in self.groups:
            axes = tuple((axis.name, sizes[axis]) for axis in group if sizes.get(axis, 1) > 1)
            if axes:
                found.append(PhysicalDim(axes))
        return tuple(found)


def all_sizes(plan: KernelPlan) -> dict[Axis, int]:
    """The tile size of every axis of a kernel, loops included (an axis has one size per kernel or the plan refused
    it)."""
    sizes = {t.axis: t.size for t in plan.tile}
    for node in nodes_of(plan.nodes):
        for loop in node_loops(node):
            sizes[loop.axis] = max(loop.size, sizes.get(loop.axis, 1))
    return sizes


def grouping(plan: KernelPlan, facts: Facts, guard: BoolExpr) -> Grouping:
    """Partition the kernel's axes."""
    sizes = all_sizes(plan)
    wide = [axis for axis, size in sizes.items() if size > 1]
    signatures: dict[Axis, list[object]] = {axis: [] for axis in wide}
    structure: dict[Axis, list[object]] = {axis: [] for axis in wide}  # of the nodes alone, not of what they read
    weight: dict[Axis, float] = dict.fromkeys(wide, 0.0)
    vector: dict[Axis, int] = dict.fromkeys(wide, 1)
    order: dict[Axis, None] = {}

    def access(
        source: Tensor | Func, indices: tuple[Expr, ...], boundary: BoundaryMode, axes: Sequence[Axis], bonus: float
    ) -> None:
        memory = memory_of(source, guard)
        fast = fastest_axis(memory, indices, axes)
        if fast is None:
            return
        elements = 1.0
        for axis in axes:
            elements *= sizes[axis]
        weight[fast] += elements * memory.dtype.bits * bonus
        vector[fast] = max(vector[fast], vector_of(memory, indices, boundary, fast, sizes[fast], facts).elements)

    for node in nodes_of(plan.nodes):
        match node:
            case Write(func=func, axes=axes, indices=indices):
                for axis in axes:
                    order[axis] = None
                for axis in wide:
                    structure[axis].append(axis in axes)
                access(func, indices, BoundaryMode.NONE, [a for a in axes if a in wide], 1.5)
            case Reduction(keep=keep, axes=reduced, dot=dot):
                for axis in wide:
                    structure[axis].append((axis in keep, axis in reduced, _side(axis, dot)))
                for axis in (*keep, *reduced):
                    order.setdefault(axis, None)
            case Compute(axes=axes):
                for axis in wide:
                    structure[axis].append(axis in axes)
            case Prefixes(axes=axes, axis=along):
                for axis in wide:
                    structure[axis].append((axis in axes, axis is along))
                for axis in axes:
                    order.setdefault(axis, None)
            case Stage() | Group():
                pass
        for expr in node_exprs(node):
            for read in reads_of(expr):
                mentioned = axes_of(read)
                for axis in wide:
                    signatures[axis].append(axis in mentioned)
                if isinstance(read.source, Tensor) or read.source not in _held(plan):
                    access(read.source, read.indices, read.boundary.mode, [a for a in wide if a in mentioned], 1.0)
    for axis in wide:
        order.setdefault(axis, None)
    ranked = [axis for axis in order if axis in signatures]
    fast = max(ranked, key=lambda a: (weight[a], ranked.index(a)), default=None)
    groups: dict[object, list[Axis]] = {}
    for axis in ranked:
        key: object = (*structure[axis], *signatures[axis])
        if _in_contraction(axis, plan):  # a matrix unit's rows (columns, steps) are one dim, however they are read
            key = ("contraction", *structure[axis])
        elif axis is fast:
            key = "fast"
        groups.setdefault(key, []).append(axis)
    for group in groups.values():  # the axis that most traffic walks with stride 1 varies fastest
        group.sort(key=lambda axis: weight[axis])
    for key in [key for key, group in groups.items() if fast in group]:
        groups[key] = groups.pop(key)
    widest = vector[fast] if fast is not None else 1
    lanes = _row_lanes(plan, widest)
    return Grouping(tuple(tuple(group) for group in groups.values()), widest, lanes, cluster_of(plan))


def _row_lanes(plan: KernelPlan, vector: int) -> int:
    """A kernel that passes tiles through shared memory without a matrix unit reads them along another axis than it
    writes them: 128 bytes of a row per warp (still whole cache lines) leave lanes for that other axis, which is what
    a conflict-free swizzle needs."""
    for node in nodes_of(plan.nodes):
        if isinstance(node, Reduction) and node.dot is not None:
            return 32
    staged = [n for n in nodes_of(plan.nodes) if isinstance(n, Stage) and n.memory is Memory.SHARED]
    return 8 if staged and vector > 1 else 32


def _held(plan: KernelPlan) -> set[Func]:
    held: set[Func] = set()
    for node in nodes_of(plan.nodes):
        match node:
            case Reduction(funcs=funcs) | Prefixes(funcs=funcs):
                held.update(funcs)
            case Compute(func=func):
                held.add(func)
            case Group(seen=(func, _)):
                held.add(func)
            case _:
                pass
    return held


def _in_contraction(axis: Axis, plan: KernelPlan) -> bool:
    """Whether a matrix unit (or its fma stand-in) runs over the axis."""
    dots = [n for n in nodes_of(plan.nodes) if isinstance(n, Reduction) and n.dot is not None]
    return any(axis in (*n.axes, *n.dot.rows, *n.dot.cols) for n in dots if n.dot is not None)


def _side(axis: Axis, dot: Dot | None) -> str:
    if dot is None:
        return ""
    return "rows" if axis in dot.rows else "cols" if axis in dot.cols else "reduced"


def blocked_space(plan: KernelPlan, group: Grouping, sizes: Mapping[Axis, int], name: str = "tile") -> Space | None:
    """The space in which elementwise values over these axes are computed: as ``map`` says when all of its axes are
    here, else coalesced. None without lanes."""
    dims = group.dims(sizes)
    if not dims:
        return None
    maps = plan.record.map
    named = {axis for dim in dims for axis, _ in dim.axes}
    if maps and all(axis in named for axis in maps):
        layout = mapped(tuple(dim.axes for dim in dims), {k: v for k, v in maps.items() if k in named}, plan.warps)
        if layout is None:
            lanes = warps = 1
            for axis, record in maps.items():
                if axis in named:
                    lanes *= record.lanes
                    warps *= record.warps
            raise MapDoesNotFit(lanes=lanes, warps=warps, have=plan.warps, at=plan.record.location_of("map"))
        return Space(name, dims, layout)
    return copy_space(dims, plan.warps, group.vector, name, group)


def copy_space(dims: tuple[PhysicalDim, ...], warps: int, vector: int, name: str, group: Grouping) -> Space:
    """A coalesced space over given dims, the last one contiguous in memory."""
    shape = tuple(d.size for d in dims)
    return Space(name, dims, blocked(shape, warps, vector, len(dims) - 1, group.row_lanes, group.ctas(dims)))


def flat_space(name: str, size: int, warps: int, vector: int) -> Space:
    """A one-dimensional space for the points of a window."""
    dim = PhysicalDim(((name, size),))
    return Space(name, (dim,), blocked((size,), warps, vector, 0))


def accumulator_space(plan: KernelPlan, group: Grouping, dot: Dot, sizes: Mapping[Axis, int], func: Func) -> Space:
    """The space of the accumulator of ``func``, a contraction: rows x columns in the unit's layout."""
    name = func.name.replace(".", "_")
    row, col = (_one_dim(group.dims({a: sizes[a] for a in axes}), plan) for axes in (dot.rows, dot.cols))
    ctas = group.ctas((row, col))
    rows, cols = part_of((row.size, col.size), ctas)
    if dot.unit is Unit.MMA:
        form = mma_form(dot.a.dtype, dot.b.dtype, plan.target)
        assert form is not None
        choose = row_warps(rows, plan.warps) if works_on_rows(plan, dot) else None
        warps = choose or mma_warps(rows, cols, plan.warps)
        return Space(name, (row, col), MmaV2(warps, (form.m, form.n), ctas))
    if dot.unit is Unit.WGMMA:
        whole = warpgroup_form(dot.a.dtype, dot.b.dtype, plan.target)
        assert whole is not None
        split = warpgroup_warps(rows, cols, plan.warps)
        columns = min(cols // split[1], WARPGROUP_MOST_COLUMNS)
        return Space(name, (row, col), MmaV3(split, (WARPGROUP_ROWS // WARPGROUP_WARPS, columns, whole.k), ctas))
    return Space(name, (row, col), _fma_layout(rows, cols, plan.warps, ctas))


def _one_dim(dims: tuple[PhysicalDim, ...], plan: KernelPlan) -> PhysicalDim:
    """The dim that a contraction's rows or columns form; of one element if none of their axes has lanes."""
    if len(dims) > 1:
        names = ", ".join(str(dim) for dim in dims)
        raise NotLowered(
            what=f"a contraction whose rows or columns ({names}) are reduced or stored apart",
            instead="another kernel for what does not run over all of them",
            at=plan.record.location,
        )
    return dims[0] if dims else PhysicalDim(())


def _fma_layout(rows: int, cols: int, warps: int, ctas: Bases) -> Blocked:
    """Outer products in registers: 4 x 4 values per thread where the tile has them, lanes 4 x 8."""
    each = (min(4, max(1, rows // (4 * warps))), min(4, max(1, cols // 8)))
    return Blocked(each, (4, 8), (warps, 1), (1, 0), ctas)


def operand_space(accumulator: Space, index: int, reduced: PhysicalDim, k_width: int) -> Space:
    """The space of operand A (index 0: rows x K) or B (1: K x columns) of an accumulator."""
    layout = accumulator.layout
    assert isinstance(layout, MmaV2 | MmaV3 | Blocked)
    dims = (accumulator.dims[0], reduced) if index == 0 else (reduced, accumulator.dims[1])
    return Space(f"{accumulator.name}_{'ab'[index]}", dims, Operand(index, layout, k_width))


def window_elements(plan: KernelPlan, by: Sequence[tuple[str, int]], points: int) -> int:
    """How many points of a window are computed at once: the product of ``by``, else four per thread, or more where the
    pieces, each of which has code of its own, would be many."""
    if by:
        return math.prod(size for _, size in by)
    size = plan.warps * 32 * 4
    while size * _PIECES < points:
        size *= 2
    return size


def literal_extent(axis: Axis) -> int:
    """The extent of an unrolled axis."""
    extent = constant(axis.extent)
    assert extent is not None
    return extent
