"""How the members of a group are kept between the steps of its loops: one value per row, or one per element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from texpr.lang.ir import Axis, Func
from texpr.plan.inline import axes_of, reads_of
from texpr.plan.ir import Compute, Node, Reduction, Unit
from texpr.schedule.words import Memory


def is_kept_by_rows(member: Reduction, body: Sequence[Node], sizes: Mapping[Axis, int]) -> bool:
    """Whether a member is reduced across lanes in every step: because later ones read it while it runs, or because its
    summands lie as a matrix unit leaves them, where one partial result per element would fill the registers. Otherwise
    lanes keep partial results, which are reduced once, after the loops. ``body`` is that of its group."""
    assert member.carried is not None, "no member of a group"
    if member.carried.running:
        return True
    wanted = {axis for axis in (*member.keep, *member.axes) if sizes.get(axis, 1) > 1}
    exprs = [*member.exprs, *([member.where] if member.where is not None else [])]
    reads = [read for expr in exprs for read in reads_of(expr)]
    return any(
        isinstance(read.source, Func)
        and {axis for axis in axes_of(read) if sizes.get(axis, 1) > 1} == wanted
        and _from_matrix_unit(read.source, body)
        for read in reads
    )


def _from_matrix_unit(func: Func, body: Sequence[Node]) -> bool:
    """Whether a func is a product of a matrix unit, or computed point by point from one."""
    for node in body:
        match node:
            case Reduction(funcs=funcs, dot=dot) if func in funcs:
                return dot is not None and dot.unit is not Unit.FMA
            case Compute(func=computed, memory=Memory.REGISTERS, expr=expr) if computed is func:
                sources = (read.source for read in reads_of(expr) if set(axes_of(read)) == set(func.axes))
                return any(isinstance(source, Func) and _from_matrix_unit(source, body) for source in sources)
            case _:
                pass
    return False
