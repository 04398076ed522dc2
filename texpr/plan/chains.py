"""Contractions that work on whole rows: what they yield is an operand of the next product, or is reduced along its
rows.

An accumulator and an operand A of the same rows have the same values in the same threads if every warp holds whole
rows (the layouts of ``mma.sync``, PTX ISA, "Matrix Fragments"): the values then pass on without moving. So the warps of
such contractions lie along the rows, wherever the tile has rows for all of them.
"""

from __future__ import annotations

import math

from texpr.instructions import WARPGROUP_ROWS, WARPGROUP_WARPS, mma_form
from texpr.lang.ir import Func
from texpr.plan.attach import node_loops
from texpr.plan.checks import nodes_of
from texpr.plan.consumers import computed_sizes
from texpr.plan.ir import Dot, KernelPlan, Reduction, Unit


def works_on_rows(plan: KernelPlan, dot: Dot) -> bool:
    """Whether the columns of a contraction over these rows are reduced by another node: its accumulator is then the
    operand of a second product, or is summed along its rows."""
    nodes = [node for node in nodes_of(plan.nodes) if isinstance(node, Reduction)]
    reduced = {axis for node in nodes for axis in node.axes}
    return any(
        node.dot is not None and set(node.dot.rows) == set(dot.rows) and bool(reduced & set(node.dot.cols))
        for node in nodes
    )


def held_in_rows(plan: KernelPlan) -> frozenset[Func]:
    """The contractions whose accumulators lie as operand A of the others wants them."""
    sizes = computed_sizes(plan.record, plan.tile)
    sizes |= {loop.axis: loop.size for node in nodes_of(plan.nodes) for loop in node_loops(node)}
    found: set[Func] = set()
    for node in nodes_of(plan.nodes):
        if isinstance(node, Reduction) and node.dot is not None and works_on_rows(plan, node.dot):
            rows = math.prod(sizes[axis] for axis in node.dot.rows)
            if rows >= _rows_of_warp(node.dot, plan) * plan.warps:
                found.update(node.funcs)
    return frozenset(found)


def _rows_of_warp(dot: Dot, plan: KernelPlan) -> float:
    """How many rows of a matrix instruction one warp holds."""
    match dot.unit:
        case Unit.MMA:
            form = mma_form(dot.a.dtype, dot.b.dtype, plan.target)
            return math.inf if form is None else form.m
        case Unit.WGMMA:
            return WARPGROUP_ROWS // WARPGROUP_WARPS
        case Unit.FMA:
            return math.inf
