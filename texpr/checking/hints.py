"""Lists of live points for a call: what the loops of a variant that run over a list need of it.

``make_inputs`` draws lists that name every point there is, which no guard can find fault with. For the variant that a
call is meant for they are cut down here to the points at which the guard holds somewhere in a tile, and some more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from texpr.checking.inputs import Inputs
from texpr.lang.arguments import bind_arguments
from texpr.lang.arrays import Array
from texpr.lang.evaluate import State, evaluate, whole
from texpr.lang.ir import Algorithm, Axis, Expr, Func, Tensor
from texpr.plan.checks import nodes_of
from texpr.plan.inline import axes_of, conjunction, reads_of
from texpr.plan.ir import Group, LoopAxis, PointList, Reduction, VariantPlan

_DEAD_ONE_IN = 5
"""How often a point is listed that need not be."""


def with_lists(
    plan: VariantPlan, algorithm: Algorithm, inputs: Inputs, dims: Mapping[str, int], seed: int
) -> Inputs:
    """``inputs`` with the lists that the loops of ``plan`` run over cut down to what these need."""
    wanted: dict[str, Array] = {}
    for loop, points, guard in listed_loops(plan):
        live = live_points(algorithm, loop.axis, points, guard, inputs, dims)
        wanted[points.tensor.name] = live | wanted.get(points.tensor.name, False)
    if not wanted:
        return inputs
    rng = np.random.default_rng(seed)
    arrays = dict(inputs.arrays)
    for name, live in wanted.items():
        more = rng.integers(0, _DEAD_ONE_IN, live.shape) == 0
        arrays[name] = list_rows(live | more).astype(arrays[name].dtype)
    return dataclasses.replace(inputs, arrays=arrays)


def listed_loops(plan: VariantPlan) -> Iterator[tuple[LoopAxis, PointList, Expr]]:
    """The loops that run over lists, with the guards that these must cover."""
    for kernel in plan.kernels:
        for node in nodes_of(kernel.nodes):
            for loop in node.loops if isinstance(node, Reduction | Group) else ():
                if loop.skip is not None and loop.skip.listed is not None:
                    yield loop, loop.skip.listed, conjunction(list(loop.skip.guard))


def live_points(
    algorithm: Algorithm, axis: Axis, points: PointList, guard: Expr, inputs: Inputs, dims: Mapping[str, int]
) -> Array:
    """``live[t, v]``: whether the guard holds at point v anywhere in tile t. All points are live where the guard reads
    what is computed."""
    arguments = bind_arguments(algorithm, {**inputs.arrays, **inputs.scalars, **dims})
    named = {tensor.name: array for tensor, array in arguments.arrays.items()}
    sources = {read.source for read in reads_of(guard)}
    state = State({}, dict(arguments.scalars), arguments.dims)
    tiles = -(-state.extent(points.axis) // points.size)
    if any(isinstance(source, Func) for source in sources):
        return np.ones((tiles, state.extent(axis)), np.bool_)
    state.arrays.update({source: named[source.name] for source in sources if isinstance(source, Tensor)})
    others = sorted(axes_of(guard) - {axis, points.axis}, key=lambda other: other.name)
    holds = evaluate(guard, whole((points.axis, axis, *others), state))
    extents = (state.extent(points.axis), state.extent(axis), *(state.extent(other) for other in others))
    live = np.broadcast_to(holds, extents).any(axis=tuple(range(2, len(extents))))
    rows = np.zeros((tiles * points.size, live.shape[1]), np.bool_)
    rows[: live.shape[0]] = live
    return np.asarray(rows.reshape(tiles, points.size, live.shape[1]).any(axis=1))


def list_rows(live: Array) -> Array:
    """Rows of a count and so many ascending numbers, from ``live[t, v]``; what is left is filled with zero."""
    count = live.sum(axis=1, keepdims=True)
    order = np.argsort(~live, axis=1, kind="stable")
    return np.concatenate([count, np.where(np.arange(live.shape[1]) < count, order, 0)], axis=1).astype(np.int32)
