"""The unit that multiplies in a reduction of the loop tree: what the pattern of a contraction and the instruction table
allow, the schedule asks for, and the guards permit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from texpr.lang.ir import Axis, Def, Expr, Monoid, Ranking, Reduce
from texpr.plan import checks, legality
from texpr.plan.consumers import of_parts
from texpr.plan.contraction import NoDot, match_dot, one_sided
from texpr.plan.errors import NoEffect, NoInstruction
from texpr.plan.ir import Dot, Reduction
from texpr.plan.resolve import Context
from texpr.schedule.places import Mma, Place
from texpr.schedule.words import MmaOp


def dot_again(context: Context, sizes: Mapping[Axis, int], node: Reduction) -> Reduction:
    """The reduction with the matrix unit that its new summand calls for."""
    definition = context.algorithm.definition(node.funcs[0])
    place = context.record.place[definition.name]
    if node.dot is None or not isinstance(definition.top, Reduce):
        return node
    return dataclasses.replace(
        node, dot=dot_of(context, definition, definition.top, node.exprs[:1], node.where, sizes, place)
    )


def dot_of(
    context: Context,
    definition: Def,
    top: Reduce,
    exprs: tuple[Expr, ...],
    where: Expr | None,
    sizes: Mapping[Axis, int],
    place: Place,
) -> Dot | None:
    """The contraction that a reduction is, on the unit that its place asks for; None if it is summed element by
    element. Raises ``NoInstruction`` or ``NeedsFinite`` where a unit was asked for that does not fit."""
    if isinstance(top.op, Monoid | Ranking):
        return None
    found = match_dot(top, exprs, where, sizes, definition.axes, place.mma or Mma(), context.target)
    if isinstance(found, NoDot):
        if place.mma is not None:
            why = found.why + of_parts(context.record, definition.axes)
            raise NoInstruction(func=definition.name, why=why, hint=found.hint, at=place.location_of("mma"))
        return None
    asked = place.mma
    if asked is not None and asked.in_flight is not None and asked.op in (MmaOp.MMA, MmaOp.FMA):
        why = "only products of warpgroups go on while the next step begins"
        raise NoEffect(directive="in_flight", name=definition.name, why=why, at=place.location_of("mma"))
    if legality.may_saturate(context, top, found):
        if place.mma is not None:
            raise legality.saturates(definition.name, top, place.location_of("mma"))
        return None
    for guard, side in one_sided(found):
        other = found.b if side == "b" else found.a
        if place.mma is None and not checks.is_finite(context, other):
            return None  # nobody asked for a matrix unit: the guard is then applied to every summand
        checks.check_finite_side(context, definition, guard, other)
    return found
