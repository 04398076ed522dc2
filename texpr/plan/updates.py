"""Updates of an inverted func: whether its sums are taken in a fixed order, and what else a schedule must keep to.

The order in which an element is updated is fixed if it has one point at most, or if one program has all of its points,
and

* either a step has one point of the reduced axes: no two lanes of a step have the same element, and an element is
  always that of the same lane,
* or a step is one point per lane of the program's only warp, and lanes with the same element combine first, as a tree
  that follows the lanes: then a step has one update per element, and a barrier keeps steps apart.
"""

from __future__ import annotations

import math

from texpr.dtypes import DType
from texpr.lang.ir import Axis
from texpr.plan.checks import nodes_of
from texpr.plan.errors import InvertInvalid, OrderNotRelaxed
from texpr.plan.ir import KernelPlan, Prefixes, Update, Write
from texpr.plan.lookback import depends_on_arrival
from texpr.plan.private import copy_dims, copy_points
from texpr.plan.resolve import Context
from texpr.schedule.records import Variant
from texpr.schedule.words import Memory, RelaxKind

_LANES = 32
_MOST_SHARED = 1 << 14
_IN_SHARED = {DType.I32, DType.U32, DType.F32}


def in_steps(write: Write, update: Update, plan: KernelPlan) -> bool:
    """Whether one warp takes a point per lane in each step, combined before it is updated."""
    return update.aggregate and plan.warps == 1 and _step_points(write, write.axes, plan) == _LANES


def why_any_order(write: Write, plan: KernelPlan) -> str | None:
    """Why updates of an element come in no fixed order; None if they do."""
    update = write.update
    assert update is not None
    if update.single:
        return None
    names = ", ".join(axis.name for axis in update.reduced)
    if not update.owned:
        return f"several programs have points along {names}"
    if any(loop.unrolled for loop in write.loops):
        return "an unrolled loop has updates that nothing orders"
    points = _step_points(write, update.reduced, plan)
    if points == 1 or in_steps(write, update, plan):
        return None
    return f"a step has {points} points along {names}"


def _step_points(write: Write, axes: tuple[Axis, ...], plan: KernelPlan) -> int:
    sizes = {t.axis: t.size for t in plan.tile} | {loop.axis: loop.size for loop in write.loops}
    update = write.update
    once = () if update is None else update.once
    return math.prod(sizes[axis] for axis in axes if axis not in once)


def is_relaxed(func: str, variant: Variant) -> bool:
    """Whether the schedule lets sums of a func, or of its parts, come in any order."""
    named = {relax.name for relax in variant.relax if relax.kind is RelaxKind.ORDER}
    return func in named or func.removesuffix(".part") in named


def depends_on_order(plan: KernelPlan) -> bool:
    """Whether sums of floats depend on the order in which threads and programs come."""
    scans = [node for node in plan.body if isinstance(node, Prefixes) and node.look_back is not None]
    if any(depends_on_arrival(scan.operator, [expr.dtype for expr in scan.exprs]) for scan in scans):
        return True
    updates = [node for node in nodes_of(plan.nodes) if isinstance(node, Write) and node.update is not None]
    return any(write.func.dtype.is_float and why_any_order(write, plan) is not None for write in updates)


def check_updates(context: Context, plan: KernelPlan) -> None:
    """Sums of floats are taken in a fixed order or declared not to be; copies fit; lanes have something to combine."""
    for node in nodes_of(plan.nodes):
        if not isinstance(node, Write) or node.update is None:
            continue
        place = context.record.place[node.func.name]
        why = why_any_order(node, plan)
        if node.func.dtype.is_float and why is not None and not is_relaxed(node.func.name, context.variant):
            first = node.update.reduced[0].name
            fixed = f"loop: {{{first}: 1}}"
            if not node.update.owned:
                fixed = f"split_reduction: {{of: [{node.func.name}], over: {first}, parts: 64}} and {fixed}"
            summed = node.func.name.removesuffix(".part")
            at = place.location_of("invert")
            raise OrderNotRelaxed(
                what="updates",
                func=node.func.name,
                dtype=node.func.dtype,
                why=why,
                summed=summed,
                instead=f"remove invert, or {fixed}",
                at=at,
            )
        alone = node.update.single or _step_points(node, node.update.reduced, plan) == 1
        if node.update.aggregate and alone:
            why = "no two lanes of a step have the same element"
            at = place.location_of("aggregate")
            raise InvertInvalid(func=node.func.name, why=why, hint="remove aggregate", at=at)
        if node.update.memory is Memory.SHARED:
            _check_copy(context, node, node.update, plan)


def _check_copy(context: Context, write: Write, update: Update, plan: KernelPlan) -> None:
    """A copy per program fits in shared memory, and its size is known."""
    func = write.func
    at = context.record.place[func.name].location_of("in")

    def refusal(why: str) -> InvertInvalid:
        return InvertInvalid(func=func.name, why=why, hint="in: global", at=at)

    for dim in copy_dims(write, update, plan):
        if not dim.size:
            raise refusal(f"the extent of {dim.axis.name} is known only at launch")
        if dim.local and dim.axis.ragged is not None:
            raise refusal(f"tiles of {dim.axis.name} lie in its groups")
    total = copy_points(write, update, plan)
    if total > _MOST_SHARED:
        raise refusal(f"it has {total} elements, and a copy per program at most {_MOST_SHARED}")
    if func.dtype not in _IN_SHARED:
        types = ", ".join(str(dtype) for dtype in DType if dtype in _IN_SHARED)
        raise refusal(f"shared memory combines {types}, not {func.dtype}")
